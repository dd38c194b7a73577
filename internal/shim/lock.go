package shim

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a wait for a lock, or for a record that nobody can be asked about, looks again.
const lockPoll = 10 * time.Millisecond

// errLocked says that a shim, or the runtime that it started, is in charge of a state directory.
var errLocked = errors.New("a shim is in charge of this state directory")

// acquire takes the lock of a state directory, or fails with errLocked. It is an open file description lock: it can be
// passed to another process, ends when the last copy is closed, and can be asked about without being taken.
func acquire(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = errLocked
	}
	return nil, err
}

// acquireWithin takes the lock as soon as it is free, until the context ends.
func acquireWithin(ctx context.Context, dir string) (*os.File, error) {
	for {
		f, err := acquire(dir)
		if !errors.Is(err, errLocked) {
			return f, err
		}
		if !pause(ctx, lockPoll) {
			return nil, errLocked
		}
	}
}

// attended reports whether somebody holds the lock. A directory without one is not attended.
func attended(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, err
	}
	return lock.Type != unix.F_UNLCK, nil
}

// pause waits and reports whether the context still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
