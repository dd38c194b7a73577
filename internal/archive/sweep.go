package archive

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of files that are not whole yet, and tempLength is how long these names are.
const (
	tempPrefix = ".berm-"
	tempLength = len(tempPrefix) + 16
	// tempTries is how often another one is made because somebody swept it away.
	tempTries = 5
)

// create makes a file with a name of its own. With Sweep it is locked, so that nobody takes it for what was left.
func (u *unpacker) create(dir *os.Root) (f *os.File, temp string, err error) {
	for range tempTries {
		if temp, err = tempName(); err != nil {
			return nil, "", err
		}
		if f, err = dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil || !u.o.Sweep {
			return f, temp, err
		}
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			if _, err = dir.Lstat(temp); err == nil {
				return f, temp, nil
			}
		}
		_ = f.Close()
	}
	return nil, "", err
}

// sweep removes the files that unpackers which were killed left in a directory: of this user, and locked by nobody.
func sweep(dir *os.Root) {
	list, err := dir.Open(self)
	if err != nil {
		return
	}
	defer list.Close()
	for {
		names, err := list.Readdirnames(listed)
		for _, name := range names {
			if strings.HasPrefix(name, tempPrefix) && len(name) == tempLength {
				sweepOne(dir, name)
			}
		}
		if err != nil {
			return
		}
	}
}

func sweepOne(dir *os.Root, name string) {
	seen, err := dir.Lstat(name)
	if err != nil {
		return
	}
	if st, ok := seen.Sys().(*syscall.Stat_t); !ok || !seen.Mode().IsRegular() || int(st.Uid) != os.Geteuid() || st.Nlink != 1 {
		return
	}
	f, _, err := openRegular(dir, name, seen)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = dir.Remove(name)
	}
}
