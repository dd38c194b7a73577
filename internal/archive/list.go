package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Entry is what an archive without content says of a directory or a file.
type Entry struct {
	Mode    fs.FileMode
	Size    int64
	ModTime time.Time
	// PartOf names the file beside it that this one is the unfinished beginning of, "" for what is none.
	PartOf string
}

// Same reports whether a file is as the entry says, with the mode that it would be given.
func (e Entry) Same(info fs.FileInfo, o Options) bool {
	return e.Mode.IsRegular() && info.Mode().IsRegular() && info.Size() == e.Size && info.ModTime().Equal(e.ModTime) &&
		o.permissions(e.Mode) == o.permissions(info.Mode())
}

// List returns what an archive without content holds, by name, to the end of the stream. It may be anybody's: names are to be used
// with care, and are those of an archive that Unpack would take only if it does.
func List(r io.Reader) (map[string]Entry, error) {
	in := &stream{tar: tar.NewReader(r)}
	out := map[string]Entry{}
	for {
		name, e, err := next(in)
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return out, err
		}
		if err != nil {
			return nil, err
		}
		out[name] = e
	}
}

// First returns the first entry of an archive, which is what was packed.
func First(r io.Reader) (Entry, error) {
	_, e, err := next(&stream{tar: tar.NewReader(r)})
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it is empty", ErrUnsafe)
	}
	return e, err
}

func next(in *stream) (name string, e Entry, err error) {
	h, err := in.next()
	if err != nil {
		return "", e, err
	}
	if name = strings.TrimSuffix(h.Name, "/"); name != self {
		if err := checkName(name); err != nil {
			return "", e, err
		}
	}
	e = Entry{Mode: h.FileInfo().Mode(), Size: h.Size, ModTime: h.ModTime, PartOf: h.PAXRecords[PartOf]}
	if strings.ContainsAny(e.PartOf, "/\x00") {
		return "", e, unsafe(name, "is a part of what is no name")
	}
	if text, ok := h.PAXRecords[Size]; ok {
		if e.Size, err = strconv.ParseInt(text, 10, 64); err != nil || e.Size < 0 {
			return "", e, unsafe(name, "has a size that is none")
		}
	}
	return name, e, nil
}
