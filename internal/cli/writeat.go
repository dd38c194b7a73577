package cli

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxVector is how many slices one system call writes, the kernel's limit.
const maxVector = 1024

// writeAllAt writes slices behind each other, from an offset on, with few system calls. It empties them.
func writeAllAt(f *os.File, slices [][]byte, at int64) (total int64, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	for len(slices) > 0 && err == nil {
		if len(slices[0]) == 0 {
			slices = slices[1:]
			continue
		}
		var n int
		cerr := raw.Control(func(fd uintptr) {
			n, err = unix.Pwritev(int(fd), slices[:min(len(slices), maxVector)], at+total)
		})
		switch {
		case cerr != nil:
			return total, cerr
		case errors.Is(err, unix.EINTR):
			err = nil
		case err == nil && n == 0:
			err = io.ErrShortWrite
		}
		total += int64(max(n, 0))
		for n > 0 {
			cut := min(n, len(slices[0]))
			if slices[0] = slices[0][cut:]; len(slices[0]) == 0 {
				slices = slices[1:]
			}
			n -= cut
		}
	}
	if err != nil {
		err = &os.PathError{Op: "write", Path: f.Name(), Err: err}
	}
	return total, err
}
