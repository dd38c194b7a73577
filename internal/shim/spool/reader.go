package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bermhq/berm/internal/shim/wire"
)

// ErrGap is in the chain of a GapError.
var ErrGap = errors.New("the output at this offset was discarded")

// GapError says from which offset on output still exists.
type GapError struct{ First int64 }

// Error says which offset can be read.
func (e *GapError) Error() string { return fmt.Sprintf("%v; it begins at %d", ErrGap, e.First) }

// Unwrap returns ErrGap.
func (e *GapError) Unwrap() error { return ErrGap }

// Reader reads a spool from an offset on, while or after it is written. It is not safe for concurrent use.
type Reader struct {
	dir     string
	session string
	file    *os.File
	base    int64 // of the open segment
	pos     int64 // in the open segment
	offset  int64 // of the next byte wanted
	// buf has room for the longest record; ahead is what it holds of the open segment, from aheadAt on. Small records cost no call each.
	buf, ahead []byte
	aheadAt    int64
}

// Open returns a Reader of the spool in dir that begins at offset: a byte inside a record is fine, and so is one that was
// not printed yet. It fails with a GapError when that output is gone. offset -1 begins at the oldest output there is.
func Open(dir string, offset int64) (*Reader, error) {
	list, err := bases(dir)
	if err != nil {
		return nil, err
	}
	r := &Reader{dir: dir, offset: offset}
	first := int64(0)
	if len(list) > 0 {
		first = list[0]
	}
	if offset < 0 {
		r.offset = first
	}
	if r.offset < first {
		return nil, &GapError{First: first}
	}
	for i := len(list) - 1; i >= 0; i-- {
		if list[i] <= r.offset {
			if err := r.open(list[i]); !errors.Is(err, io.EOF) {
				return r, err
			}
			return r, nil
		}
	}
	return r, nil
}

// Session returns the name of the run that the output is from; "" before the first output.
func (r *Reader) Session() string { return r.session }

// Offset returns the offset of the next byte wanted.
func (r *Reader) Offset() int64 { return r.offset }

// open goes to the segment at base; io.EOF while that was made and its header not yet written, which is for ever where the writer, or
// the machine, went down in between.
func (r *Reader) open(base int64) error {
	f, err := os.Open(filepath.Join(r.dir, name(base)))
	if errors.Is(err, fs.ErrNotExist) {
		return &GapError{First: base} // Removed since it was listed; the next try will say where output begins.
	}
	if err != nil {
		return err
	}
	h := make([]byte, headerSize)
	if _, err := f.ReadAt(h, 0); err != nil {
		f.Close()
		return err
	}
	session, got, err := parseHeader(h)
	if err == nil && got != base {
		err = fmt.Errorf("segment begins at %d", got)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	_ = r.Close()
	r.file, r.base, r.pos, r.session, r.ahead = f, base, headerSize, session, nil
	return nil
}

// Next returns the next output, or io.EOF when there is none now. Data is valid until the next call.
func (r *Reader) Next() (wire.Output, error) {
	for {
		if r.file == nil {
			if err := r.first(); err != nil {
				return wire.Output{}, err
			}
		}
		o, err := r.record()
		if errors.Is(err, io.EOF) {
			err = r.advance()
			if err == nil {
				continue
			}
		}
		if err != nil {
			return wire.Output{}, err
		}
		if o, ok := r.from(o); ok {
			return o, nil
		}
	}
}

// first opens the segment with the wanted offset, if there is any output by now.
func (r *Reader) first() error {
	next, err := Open(r.dir, r.offset)
	if err != nil {
		return err
	}
	if next.file == nil {
		return io.EOF
	}
	*r = *next
	return nil
}

// record reads the record at pos; io.EOF when it is not there, or not whole.
func (r *Reader) record() (wire.Output, error) {
	b, n := r.held()
	if len(b) < n { // What there was of it may have been taken back, and be another by now.
		if err := r.fill(); err != nil {
			return wire.Output{}, err
		}
		b, n = r.held()
	}
	if len(b) >= wire.HeaderSize && (wire.Type(b[4]) != wire.TypeOutput || n < recordHeader || n > recordHeader+wire.MaxData) {
		return wire.Output{}, fmt.Errorf("%s: no record at %d", r.file.Name(), r.pos)
	}
	if len(b) < n {
		return wire.Output{}, io.EOF
	}
	o, err := wire.ParseOutput(b[wire.HeaderSize:n])
	if err != nil {
		return wire.Output{}, fmt.Errorf("%s: at %d: %w", r.file.Name(), r.pos, err)
	}
	r.pos += int64(n)
	return o, nil
}

// held returns what is held from pos on, and how long the record there is: as long as a header where there is none yet.
func (r *Reader) held() (b []byte, n int) {
	if at := r.pos - r.aheadAt; at >= 0 && at < int64(len(r.ahead)) {
		b = r.ahead[at:]
	}
	if len(b) < wire.HeaderSize {
		return b, wire.HeaderSize
	}
	return b, wire.HeaderSize + int(binary.BigEndian.Uint32(b))
}

// fill holds what is there from pos on.
func (r *Reader) fill() error {
	if r.buf == nil {
		r.buf = make([]byte, recordHeader+wire.MaxData)
	}
	n, err := r.file.ReadAt(r.buf, r.pos)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	r.ahead, r.aheadAt = r.buf[:n], r.pos
	return nil
}

// from cuts off what lies before the offset asked for; false when that is all of it.
func (r *Reader) from(o wire.Output) (wire.Output, bool) {
	end := o.Offset + int64(len(o.Data))
	if end <= r.offset {
		return o, false
	}
	if o.Offset < r.offset {
		o.Data = o.Data[r.offset-o.Offset:]
		o.Offset = r.offset
	}
	r.offset = end
	return o, true
}

// advance goes to the segment after the open one; io.EOF when there is none.
func (r *Reader) advance() error {
	list, err := bases(r.dir)
	if err != nil {
		return err
	}
	for i, base := range list {
		if base <= r.base {
			continue
		}
		// Records may have come to the old segment between its end and the list, but only before the new one was made.
		if o, err := r.record(); err == nil {
			r.pos -= recordHeader + int64(len(o.Data))
			return nil
		}
		if i == 0 && base > r.offset {
			return &GapError{First: base} // Overtaken: segments between were removed.
		}
		if err := r.open(base); !errors.Is(err, io.EOF) {
			return err
		}
	}
	return io.EOF
}

// Close releases the open segment.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	return f.Close()
}
