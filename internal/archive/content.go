package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Content writes the content of an archive of one file to w.
func Content(r io.Reader, w io.Writer) error {
	in := &stream{tar: tar.NewReader(r)}
	h, err := in.next()
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it is empty", ErrUnsafe)
	case err != nil:
		return err
	case h.Typeflag != tar.TypeReg:
		return &fs.PathError{Op: "read", Err: errors.New("it is a directory, and only a file can be written there")}
	case h.PAXRecords[Offset] != "":
		return unsafe(h.Name, "comes without its beginning")
	}
	if _, err := io.Copy(w, in.tar); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r) // Whether it was whole is known at its end.
	return err
}
