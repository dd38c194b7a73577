package archive

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of files that are not whole yet, and tempLength is how long these names are.
const (
	tempPrefix = ".berm-"
	tempLength = len(tempPrefix) + 16
	// tempTries is how often another one is made because somebody swept it away.
	tempTries = 5
)

// small makes a file of which nothing is kept when the stream breaks off.
func (u *unpacker) small(dir *os.Root, name string, _ Piece) (Part, error) {
	t := &temp{o: &u.o, dir: dir, name: name}
	var err error
	u.o.call(func() { err = t.create() })
	if err != nil {
		return nil, err
	}
	return t, nil
}

// temp is a file under a name of its own, until it is whole.
type temp struct {
	o    *Options
	dir  *os.Root
	name string
	temp string
	file *os.File
	done bool
}

// create makes the file. With Sweep it is locked, so that nobody takes it for what was left.
func (t *temp) create() (err error) {
	for range tempTries {
		if t.temp, err = tempName(); err != nil {
			return err
		}
		if t.file, err = t.dir.OpenFile(t.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil || !t.o.Sweep {
			return err
		}
		if err = unix.Flock(int(t.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			if _, err = t.dir.Lstat(t.temp); err == nil {
				return nil
			}
		}
		_ = t.file.Close()
	}
	return err
}

// Write implements Part.
func (t *temp) Write(p []byte) (n int, err error) {
	t.o.call(func() { n, err = t.file.Write(p) })
	return n, err
}

// Finish implements Part.
func (t *temp) Finish(mode fs.FileMode, at time.Time) (err error) {
	t.o.call(func() {
		err = t.file.Chmod(mode)
		if err == nil && !t.o.Sweep { // Otherwise it is locked until it has its name.
			err = t.file.Close()
			t.file = nil
		}
		if err == nil && !at.IsZero() {
			err = t.dir.Chtimes(t.temp, at, at)
		}
		if err == nil {
			err = replace(t.dir, t.temp, t.name)
		}
		if t.done = err == nil; t.done && t.file != nil {
			err = t.file.Close()
			t.file = nil
		}
	})
	return err
}

// Close implements Part.
func (t *temp) Close(error) {
	t.o.call(func() {
		if !t.done {
			_ = t.dir.Remove(t.temp)
		}
		if t.file != nil {
			_ = t.file.Close()
		}
	})
}

// replace gives a finished file or link its name. Only another file or link goes for it.
func replace(dir *os.Root, temp, name string) error {
	info, err := dir.Lstat(name)
	if err == nil && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("there is %s where a file is to be", kindOf(info.Mode()))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return dir.Rename(temp, name)
}

func tempName() (string, error) {
	var r [8]byte
	if _, err := rand.Read(r[:]); err != nil {
		return "", err
	}
	return tempPrefix + hex.EncodeToString(r[:]), nil
}
