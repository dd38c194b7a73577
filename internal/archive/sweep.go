package archive

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

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
