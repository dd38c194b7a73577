package sqlstore

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// dirMode and fileMode are those of what the store makes: nobody else reads secrets of sandboxes and hashes of tokens.
	dirMode  = 0o700
	fileMode = 0o600
	// sqliteMagic begins every SQLite database.
	sqliteMagic = "SQLite format 3\x00"
	// lockPatience is how long the lock is tried for, lockPoll how often: a process that a server forked just before it was
	// killed holds the lock until it executes something.
	lockPatience, lockPoll = time.Second, 10 * time.Millisecond
)

// lockFile keeps a second server from the same database. The kernel releases it when the process ends, however it ends.
// It is a file of its own: a lock on the database file would be lost when anything in the process closes that file.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, fileMode)
	if err != nil {
		return nil, fileFault(err)
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockPoll) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder := "another server"
		text, _ := io.ReadAll(io.LimitReader(f, 32))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			holder += ", process " + strconv.Itoa(pid)
		}
		_ = f.Close()
		return nil, fault.New(fault.Unavailable, "STORE_IN_USE", "the database %s is in use by %s", strings.TrimSuffix(path, lockSuffix), holder).
			WithHint("end that server first, or give this one another data directory")
	}
	if err != nil {
		_ = f.Close()
		return nil, fileFault(&os.PathError{Op: "flock", Path: path, Err: err})
	}
	// Who holds it is only for the message above.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

const lockSuffix = ".lock"

// prepareFile makes the directory and an empty database file with their modes, or checks the file that is there.
func prepareFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return fileFault(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, fileMode)
	if err != nil {
		return fileFault(err)
	}
	defer f.Close()
	if _, err := checkFile(f, path); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return fileFault(err)
	}
	if info.Mode().Perm()&^fileMode != 0 {
		// SQLite gives its other files the mode of this one.
		if err := f.Chmod(info.Mode().Perm() & fileMode); err != nil {
			return fileFault(err)
		}
	}
	return nil
}

// checkFile refuses what is no file of SQLite, and reports whether anything is in it.
func checkFile(f *os.File, path string) (exists bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, fileFault(err)
	}
	if !info.Mode().IsRegular() {
		return false, foreign(path + " is not a regular file")
	}
	magic := make([]byte, len(sqliteMagic))
	n, err := f.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fileFault(err)
	}
	if n > 0 && string(magic[:n]) != sqliteMagic {
		return false, corruptOrForeign(path)
	}
	return n > 0, nil
}

func corruptOrForeign(path string) error {
	return fault.Preconditionf("STORE_FOREIGN", "%s is not a SQLite database, or its beginning is destroyed", path).
		WithHint("give another data directory, or restore the newest backup")
}

// syncDir makes the names in a directory durable: the database's log is worth nothing if its name is lost.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fileFault(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fileFault(&os.PathError{Op: "sync", Path: dir, Err: err})
	}
	return nil
}
