package sqlstore

import (
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/fault"
)

// minFree is how much space the disk of a database must have, in bytes. With less, the next write may be the one that fails.
const minFree = 1 << 20

// diskFault says why the disk that a directory is on cannot be written, as far as that is known without writing: that it is
// full or read-only; nil otherwise. what is the directory's name in the message.
func diskFault(dir, what string) *fault.Error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fileFault(&fs.PathError{Op: "statfs", Path: what, Err: err})
	}
	free := st.Bavail * uint64(st.Frsize) //nolint:gosec // the kernel's fragment sizes are positive
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		return unavailable(nil, what+" is on a read-only file system", "mount it so that it can be written, or give another data directory")
	case free < minFree:
		return fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "the disk of %s is full: it has %d bytes free, at least %d are needed", what, free, minFree).
			WithHint("free space on the file system of the data directory").WithRetry(retryAfter)
	}
	return nil
}
