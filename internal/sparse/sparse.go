// Package sparse copies files that are mostly holes, as file systems in files are.
package sparse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// chunk is how much is copied between two looks at the context, in bytes.
const chunk = 4 << 20

// ErrTooLarge says that a file has more content than may be copied.
var ErrTooLarge = errors.New("the file has too much content to be copied")

// Copy copies a file without its holes: by sharing its blocks where the file system can, else up to limit bytes of content; 0 is no
// limit. A file that is there already is replaced. After an error there is none.
func Copy(ctx context.Context, path, from string, limit int64) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, dst.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil
	}
	if err := dst.Truncate(info.Size()); err != nil {
		return err
	}
	for at, copied := int64(0), int64(0); ; {
		begin, end, err := next(src, at)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if copied += end - begin; limit > 0 && copied > limit {
			return fmt.Errorf("%s: %w: more than %d bytes", from, ErrTooLarge, limit)
		}
		if err := copyRange(ctx, dst, src, begin, end); err != nil {
			return err
		}
		at = end
	}
}

// next finds the content at or after a place, io.EOF when there is none.
func next(f *os.File, at int64) (begin, end int64, err error) {
	begin, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err == nil {
		end, err = unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
	}
	if err != nil {
		return 0, 0, &os.PathError{Op: "seek", Path: f.Name(), Err: err}
	}
	return begin, end, nil
}

func copyRange(ctx context.Context, dst, src *os.File, at, end int64) error {
	for at < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.Copy(io.NewOffsetWriter(dst, at), io.NewSectionReader(src, at, min(chunk, end-at)))
		if err != nil {
			return err
		}
		if n == 0 {
			return &os.PathError{Op: "read", Path: src.Name(), Err: io.ErrUnexpectedEOF}
		}
		at += n
	}
	return nil
}
