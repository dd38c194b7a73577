package hostroot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What is taken from the machine.
const (
	linkerCache  = "etc/ld.so.cache"
	alternatives = "etc/alternatives"
)

// certificateBundles are where distributions keep all certificate authorities in one file, in the order of trying.
func certificateBundles() []string {
	return []string{
		"etc/ssl/certs/ca-certificates.crt", "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "etc/pki/tls/certs/ca-bundle.crt",
		"etc/ssl/ca-bundle.pem", "etc/ssl/cert.pem",
	}
}

// WritableDirs are private to each sandbox and empty at first, with their permissions: file systems in memory.
func WritableDirs() map[string]uint32 {
	return map[string]uint32{"/tmp": 0o1777, "/home": 0o755, "/root": 0o700, "/workspace": 0o755, "/run": 0o755, "/var/tmp": 0o1777}
}

// collect lists the entries of a skeleton, parents first.
func (b *Builder) collect(s *Skeleton) error {
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{
		{"dev", 0o755}, {"dev/berm", 0o755}, {"dev/shm", 0o755}, {"dev/pts", 0o755}, {"dev/mqueue", 0o755}, {"proc", 0o555}, {"sys", 0o555}, {"etc", 0o755}, {"usr", 0o755}, {"var", 0o755}, {"opt", 0o755}, {"srv", 0o755},
		{"mnt", 0o755}, {"media", 0o755}, {"home", 0o755}, {"root", 0o700}, {"workspace", 0o755}, {"run", 0o755},
		{"tmp", 0o777 | fs.ModeSticky}, {"var/tmp", 0o777 | fs.ModeSticky}, {"var/lib", 0o755}, {"var/cache", 0o755}, {"var/log", 0o755},
		{"etc/ssl", 0o755}, {"etc/ssl/certs", 0o755}, {"etc/pki", 0o755}, {"etc/pki/tls", 0o755}, {"etc/pki/tls/certs", 0o755},
	} {
		s.entries = append(s.entries, entry{path: d.path, mode: fs.ModeDir | d.mode})
	}
	s.link("var/run", "../run")
	s.link("var/lock", "../run/lock")
	s.link("etc/mtab", "/proc/self/mounts")
	s.link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
	for _, f := range madeUp() {
		s.file(f.path, []byte(f.text))
	}
	s.Mounts = []Dir{{"/usr"}}
	if err := b.links(s); err != nil {
		return err
	}
	if err := b.machineFiles(s); err != nil {
		return err
	}
	return b.alternatives(s)
}

func (s *Skeleton) link(path, to string) {
	s.entries = append(s.entries, entry{path: path, mode: fs.ModeSymlink | 0o777, link: to})
}

func (s *Skeleton) file(path string, data []byte) {
	s.entries = append(s.entries, entry{path: path, mode: 0o644, data: data})
}

// links makes /bin and its kin as on the machine: links into /usr, or directories that are mounted as /usr is.
func (b *Builder) links(s *Skeleton) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		p := filepath.Join(b.machine, name)
		info, err := os.Lstat(p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case info.IsDir():
			s.entries = append(s.entries, entry{path: name, mode: fs.ModeDir | 0o755})
			s.Mounts = append(s.Mounts, Dir{"/" + name})
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			if strings.HasPrefix(strings.TrimPrefix(to, "/"), "usr/") {
				s.link(name, to)
			}
		}
	}
	return nil
}

// machineFiles copies the linker cache and the certificates.
func (b *Builder) machineFiles(s *Skeleton) error {
	data, err := b.read(linkerCache)
	if err != nil {
		return err
	}
	if data != nil {
		s.file(linkerCache, data)
	}
	for _, p := range certificateBundles() {
		data, err := b.read(p)
		if err != nil {
			return err
		}
		if data != nil {
			s.file("etc/ssl/certs/ca-certificates.crt", data)
			s.link("etc/ssl/cert.pem", "certs/ca-certificates.crt")
			s.link("etc/pki/tls/certs/ca-bundle.crt", "../../../ssl/certs/ca-certificates.crt")
			return nil
		}
	}
	return nil
}

// read returns a file of the machine, nil when there is none.
func (b *Builder) read(path string) ([]byte, error) {
	f, err := os.OpenFile(filepath.Join(b.machine, path), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
		return nil, fmt.Errorf("/%s is no file of at most %d bytes", path, maxFileBytes)
	}
	return io.ReadAll(io.LimitReader(f, maxFileBytes))
}

// alternatives copies the links through which Debian and others reach awk, vi, java, …; only those that lead into /usr.
func (b *Builder) alternatives(s *Skeleton) error {
	dir := filepath.Join(b.machine, alternatives)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) > maxAlternatives {
		return fmt.Errorf("/%s has %d entries, at most %d make sense", alternatives, len(entries), maxAlternatives)
	}
	s.entries = append(s.entries, entry{path: alternatives, mode: fs.ModeDir | 0o755})
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && reachable(to) {
			s.link(filepath.Join(alternatives, e.Name()), to)
		}
	}
	return nil
}

func reachable(target string) bool {
	for _, p := range []string{"/usr/", "/bin/", "/sbin/", "/lib/"} {
		if strings.HasPrefix(target, p) {
			return true
		}
	}
	return false
}
