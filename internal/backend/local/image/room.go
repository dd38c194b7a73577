package image

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// Images leave room on the machine's disk: sandboxes that run write to it, and so does the server. What is kept free of it is one part in
// so many, at most so many bytes; looked at after so many bytes and entries.
const (
	reservePart = 20
	maxReserve  = 1 << 30
	roomBytes   = 64 << 20
	roomEntries = 4096
)

// Room reports whether so many bytes more find room below a directory; the error is that of a full disk.
func Room(dir string, bytes int64) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return roomFor(f, bytes)
}

func room(dir *os.File) error { return roomFor(dir, 0) }

func roomFor(dir *os.File, bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir.Name(), Err: err}
	}
	all, free := int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	// Some file systems count no files.
	if free-bytes < min(all/reservePart, maxReserve) || st.Files > 0 && st.Ffree < st.Files/reservePart {
		return &os.PathError{Op: "leave room", Path: dir.Name(), Err: unix.ENOSPC}
	}
	return nil
}

// sparse writes a file and leaves out what is zero: an archive says in a few bytes that a file has gigabytes of that.
type sparse struct {
	f, root *os.File
	at      int64
	written *int64
}

// Write implements io.Writer.
func (s *sparse) Write(p []byte) (int, error) {
	if zeros(p) {
		s.at += int64(len(p))
		return len(p), nil
	}
	n, err := s.f.WriteAt(p, s.at)
	s.at += int64(n)
	if *s.written += int64(n); err == nil && *s.written >= roomBytes {
		*s.written, err = 0, room(s.root)
	}
	return n, err
}

// zeros reports whether all bytes are zero: the first is, and each is as the one before.
func zeros(p []byte) bool { return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) }
