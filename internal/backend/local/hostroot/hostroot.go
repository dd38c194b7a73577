// Package hostroot makes the root of the built-in image "host": a small read-only skeleton with made-up files in /etc, in
// which the machine's /usr is mounted read-only. Of the machine's own /etc it takes the linker cache, the bundle of
// certificate authorities and the links of the alternatives system that point into /usr; nothing of /home, /root, /var, /opt.
package hostroot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Limits of what is taken from the machine.
const (
	// maxFileBytes is the largest file that is copied: linker cache and certificates have a few hundred KB.
	maxFileBytes = 4 << 20
	// maxAlternatives is the most links of the alternatives system that are copied.
	maxAlternatives = 8192
)

// Dir is a directory of the machine that is mounted, read-only, at the same path.
type Dir struct{ Path string }

// Builder makes skeletons below a directory, one per content. It is safe for concurrent use.
type Builder struct {
	dir     string
	machine string

	mu    sync.Mutex
	stamp string
	last  *Skeleton
}

// Skeleton is a root directory without the machine's directories, which are to be mounted on top. It is never changed.
type Skeleton struct {
	// Path is its root.
	Path string
	// Mounts are what to mount.
	Mounts  []Dir
	entries []entry
}

// entry is one file system object of a skeleton; exactly one of data and link counts, by kind.
type entry struct {
	path string
	mode fs.FileMode
	data []byte
	link string
}

// New returns a Builder that keeps skeletons in dir, on a file system that sandboxes may look into.
func New(dir string) *Builder { return &Builder{dir: dir, machine: "/"} }

// Current returns a skeleton that matches the machine as it is now. It looks at a few files and builds only after a change,
// such as a package installed.
func (b *Builder) Current() (*Skeleton, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	stamp := b.look()
	if b.last != nil && b.stamp == stamp {
		return b.last, nil
	}
	s, err := b.build()
	if err != nil {
		return nil, fmt.Errorf("image host: %w", err)
	}
	b.stamp, b.last = stamp, s
	return s, nil
}

// look returns what changes when a source does.
func (b *Builder) look() string {
	var s strings.Builder
	for _, p := range append([]string{linkerCache, alternatives}, certificateBundles()...) {
		if info, err := os.Stat(filepath.Join(b.machine, p)); err == nil {
			fmt.Fprintf(&s, "%s %d %d\n", p, info.Size(), info.ModTime().UnixNano())
		}
	}
	return s.String()
}

func (b *Builder) build() (*Skeleton, error) {
	s := &Skeleton{}
	if err := b.collect(s); err != nil {
		return nil, err
	}
	s.Path = filepath.Join(b.dir, digest(s.entries))
	if _, err := os.Lstat(s.Path); err == nil {
		return s, nil
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(b.dir, "tmp-")
	if err != nil {
		return nil, err
	}
	if err := write(temp, s.entries); err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	if err := os.Rename(temp, s.Path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	return s, nil
}

func digest(entries []entry) string {
	h := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%q %o %q %d\n", e.path, e.mode, e.link, len(e.data))
		h.Write(e.data)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// write makes entries below root, which exists. Parents come before what they hold.
func write(root string, entries []entry) error {
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		p := filepath.Join(root, e.path)
		var err error
		switch {
		case e.mode.IsDir():
			// mkdir obeys the umask, chmod does not.
			err = errors.Join(os.Mkdir(p, 0o755), chmod(p, e.mode))
		case e.mode&fs.ModeSymlink != 0:
			err = os.Symlink(e.link, p)
		default:
			err = errors.Join(os.WriteFile(p, e.data, 0o644), chmod(p, e.mode))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func chmod(p string, mode fs.FileMode) error { return os.Chmod(p, mode&(fs.ModePerm|fs.ModeSticky)) }

// Copy makes a skeleton of its own for one sandbox at root, which must not exist, on the same file system, with empty
// files at the paths given: mount points for what the sandbox is given. Paths are absolute and clean.
func (s *Skeleton) Copy(root string, files []string) error {
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	for _, e := range s.entries {
		p := filepath.Join(root, e.path)
		var err error
		switch {
		case e.mode.IsDir():
			err = errors.Join(os.Mkdir(p, 0o755), chmod(p, e.mode))
		case e.mode&fs.ModeSymlink != 0:
			err = os.Symlink(e.link, p)
		default:
			err = os.Link(filepath.Join(s.Path, e.path), p)
		}
		if err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := mountPoint(root, f); err != nil {
			return err
		}
	}
	return nil
}

// mountPoint makes an empty file unless there is something. The tree is ours and nobody else's: no link in it leads away.
func mountPoint(root, file string) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	rel := strings.TrimPrefix(file, "/")
	if err := r.MkdirAll(filepath.Dir(rel), 0o755); err != nil {
		return fmt.Errorf("mounted file %s: %w", file, err)
	}
	f, err := r.OpenFile(rel, os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		info, err := r.Lstat(rel)
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("mounted file %s: there is something that is no file", file)
		}
		return err
	}
	if err != nil {
		return fmt.Errorf("mounted file %s: %w", file, err)
	}
	return f.Close()
}

// Sweep removes skeletons other than the current one. Only call it when no sandbox uses one.
func (b *Builder) Sweep() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	entries, err := os.ReadDir(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		p := filepath.Join(b.dir, e.Name())
		if b.last == nil || p != b.last.Path {
			err = errors.Join(err, os.RemoveAll(p))
		}
	}
	return err
}
