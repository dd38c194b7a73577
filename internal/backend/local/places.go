package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/fault"
)

// places are the paths of one backend.
type places struct {
	dir, run string
	// name tells this backend's things on the machine (control groups, run directory) from those of another.
	name string
}

func newPlaces(dir, run string) (places, error) {
	if !filepath.IsAbs(dir) {
		return places{}, fmt.Errorf("state directory %q is not absolute", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return places{}, err
	}
	// Two spellings of one directory must be one backend.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return places{}, err
	}
	sum := sha256.Sum256([]byte(dir))
	p := places{dir: dir, run: run, name: "berm-" + hex.EncodeToString(sum[:5])}
	if p.run == "" {
		p.run = filepath.Join("/run", p.name)
	}
	return p, nil
}

func (p places) sandboxes() string          { return filepath.Join(p.dir, "sandboxes") }
func (p places) sandbox(id string) string   { return filepath.Join(p.sandboxes(), id) }
func (p places) trash() string              { return filepath.Join(p.dir, "trash") }
func (p places) outputs() string            { return filepath.Join(p.dir, "output") }
func (p places) output(id string) string    { return filepath.Join(p.outputs(), id) }
func (p places) images() string             { return filepath.Join(p.dir, "images") }
func (p places) disks() string              { return filepath.Join(p.dir, "disks") }
func (p places) disk(slot string) string    { return filepath.Join(p.sandbox(slot), "disk.ext4") }
func (p places) hosts() string              { return filepath.Join(p.run, "host") }
func (p places) boxes() string              { return filepath.Join(p.run, "box") }
func (p places) box(id string) string       { return filepath.Join(p.boxes(), id) }
func (p places) network() string            { return filepath.Join(p.run, "net") }
func (p places) bundles() string            { return filepath.Join(p.run, "bundle") }
func (p places) bundle(id string) string    { return filepath.Join(p.bundles(), id) }
func (p places) runtime(name string) string { return filepath.Join(p.run, "runtime", name) }
func (p places) cgroupBase() string         { return "/" + p.name }
func (p places) cgroup(id string) string    { return p.cgroupBase() + "/" + id }
func (p places) shimState(id string) string { return filepath.Join(p.sandbox(id), "shim") }
func (p places) mounted(id string) string   { return filepath.Join(p.sandbox(id), "files") }

// prepare makes the directories that are always there, and mounts the run directory unless it is mounted.
func (p places) prepare() error {
	if err := os.Chmod(p.dir, 0o700); err != nil {
		return err
	}
	for _, d := range []string{p.sandboxes(), p.trash(), p.outputs()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if err := p.mountRun(); err != nil {
		return err
	}
	for d, mode := range map[string]os.FileMode{p.hosts(): 0o711, p.boxes(): 0o711, p.bundles(): 0o700, filepath.Join(p.run, "bin"): 0o711, filepath.Join(p.run, "runtime"): 0o711} {
		if err := os.MkdirAll(d, mode); err != nil {
			return err
		}
		if err := os.Chmod(d, mode); err != nil {
			return err
		}
	}
	return nil
}

// mountRun mounts the file system in memory. Whatever else is at the path stays covered and untouched.
func (p places) mountRun() error {
	if err := os.MkdirAll(p.run, 0o711); err != nil {
		return err
	}
	mounted, err := isMountPoint(p.run)
	if err != nil || mounted {
		return err
	}
	options := fmt.Sprintf("mode=0711,size=%d,nr_inodes=%d", runDirBytes, runDirInodes)
	if err := unix.Mount("berm", p.run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return &os.PathError{Op: "mount tmpfs", Path: p.run, Err: err}
	}
	if err := unix.Mount("", p.run, "", unix.MS_SHARED, ""); err != nil {
		return errors.Join(&os.PathError{Op: "share mount", Path: p.run, Err: err}, unix.Unmount(p.run, unix.MNT_DETACH))
	}
	return nil
}

// unmountRun takes the run directory away. No sandbox may be left.
func (p places) unmountRun() error {
	err := unix.Unmount(p.run, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "umount", Path: p.run, Err: err}
	}
	return os.RemoveAll(p.run)
}

// isMountPoint reports whether something is mounted exactly at path.
func isMountPoint(path string) (bool, error) {
	points, err := mountPoints(path)
	if err != nil {
		return false, err
	}
	for _, m := range points {
		if m == path {
			return true, nil
		}
	}
	return false, nil
}

// mountPoints returns the mount points at and below path, in the order of mounting.
func mountPoints(path string) ([]string, error) {
	// Of this thread, not of "self", which is the first one: that may be where a runtime was once started in a mount
	// namespace of its own.
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if m := unescape(fields[4]); m == path || strings.HasPrefix(m, path+"/") {
			found = append(found, m)
		}
	}
	return found, nil
}

// unescape undoes the kernel's \ooo for spaces and the like.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// lockDir takes the lock of the state directory.
func (p places) lockDir() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(p.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// A process that a killed server was just about to start may still hold the lock until it is executed.
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockPoll) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fault.Preconditionf(fault.ReasonStoreUnavailable, "another server uses %s", p.dir).
			WithHint("stop it, or give this one a directory of its own with --data").WithCause(err)
	}
	return f, nil
}
