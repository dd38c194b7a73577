// Package spool keeps what a sandbox's main process printed, on the host, bounded, and readable while it is written and
// afterwards.
//
// # Format
//
// A spool is a directory of segments. A segment's name is the offset of its first byte, 20 digits and ".out"; offsets count
// the bytes of both streams together from the sandbox's start and never go back. A segment begins with a header of 64 bytes,
//
//	offset 0   [8]byte   "BERMOUT1"
//	offset 8   [32]byte  the session: 32 hexadecimal digits, the same in all segments of one run
//	offset 40  uint64    the offset of its first byte, big endian
//	offset 48  [16]byte  zero
//
// and continues with records, which are Output frames of package wire: stream, time, offset, data. The last record of the
// last segment may be cut off if the writer was killed; it then does not count. An offset that is larger than the end of the
// record before means that output in between was lost (the host's disk was full).
//
// The oldest segments are removed so that all together stay within the limit.
package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// MinLimit is the smallest limit of a spool, in bytes.
	MinLimit = 256 << 10
	// segments is how many parts the limit is divided into: what is lost at once when the limit is reached.
	segments = 8
	// headerSize is the length of a segment's header.
	headerSize = 64
	magic      = "BERMOUT1"
	suffix     = ".out"
	// SessionSize is the length of a session name, in hexadecimal digits.
	SessionSize = 32
	// recordHeader is what a record has before its data.
	recordHeader = wire.HeaderSize + wire.OutputHeader
)

// Writer appends output. Its methods are safe for concurrent use.
type Writer struct {
	dir     string
	session string
	limit   int64
	now     func() time.Time

	mu      sync.Mutex
	file    *os.File
	size    int64 // of the open segment
	offset  int64
	kept    []segment
	total   int64 // size of the segments kept, without the open one
	lost    int64
	closed  bool
	changed chan struct{}
	buf     []byte
}

type segment struct {
	base, size int64
}

// Create makes a spool in a directory that does not exist yet. limit bounds its size on disk and is at least MinLimit.
func Create(dir, session string, limit int64, now func() time.Time) (*Writer, error) {
	if len(session) != SessionSize {
		return nil, fmt.Errorf("session %q: want %d digits", session, SessionSize)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return &Writer{dir: dir, session: session, limit: max(limit, MinLimit), now: now}, nil
}

// Continue goes on writing a spool that an earlier process wrote, behind all that can be read of it.
func Continue(dir, session string, limit int64, now func() time.Time) (*Writer, error) {
	list, err := bases(dir)
	if err != nil {
		return nil, err
	}
	end, err := Tail(dir, 0)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, session: session, limit: max(limit, MinLimit), now: now, offset: end.Offset}
	for _, base := range list {
		info, err := os.Stat(filepath.Join(dir, name(base)))
		switch {
		case err != nil:
			return nil, err
		case base >= end.Offset: // Nothing in it can be read, and the next segment has its name.
			continue
		}
		w.kept = append(w.kept, segment{base, info.Size()})
		w.total += info.Size()
	}
	return w, nil
}

// Skip counts output that was lost before it came here. Readers see a gap.
func (w *Writer) Skip(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offset += n
	w.lost += n
	w.notify()
}

// Append adds a piece of output of at most wire.MaxData bytes. An error means that it was lost; the offset counts it all
// the same, and later pieces may succeed.
func (w *Writer) Append(stream wire.Stream, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fs.ErrClosed
	}
	err := w.write(stream, data)
	w.offset += int64(len(data))
	if err != nil {
		w.lost += int64(len(data))
	}
	w.notify()
	return err
}

func (w *Writer) write(stream wire.Stream, data []byte) error {
	need := int64(recordHeader + len(data))
	if w.file == nil || w.size+need > w.limit/segments {
		if err := w.rotate(need); err != nil {
			return err
		}
	}
	w.buf = append(w.buf[:0], make([]byte, wire.HeaderSize)...)
	w.buf = wire.AppendOutput(w.buf, wire.Output{Offset: w.offset, Time: w.now(), Stream: stream, Data: data})
	wire.PutHeader(w.buf, wire.TypeOutput, len(w.buf)-wire.HeaderSize)
	if _, err := w.file.WriteAt(w.buf, w.size); err != nil {
		// Half a record must not stay before a whole one.
		return errors.Join(err, w.file.Truncate(w.size))
	}
	w.size += need
	return nil
}

// rotate begins a segment and makes room for it and for need bytes.
func (w *Writer) rotate(need int64) error {
	if w.file != nil {
		w.file.Close()
		w.kept = append(w.kept, segment{w.base(), w.size})
		w.total += w.size
		w.file = nil
	}
	for len(w.kept) > 0 && w.total+max(w.limit/segments, headerSize+need) > w.limit {
		if err := os.Remove(filepath.Join(w.dir, name(w.kept[0].base))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		w.total -= w.kept[0].size
		w.kept = w.kept[1:]
	}
	f, err := os.OpenFile(filepath.Join(w.dir, name(w.offset)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(header(w.session, w.offset), 0); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	w.file, w.size = f, headerSize
	return nil
}

// base returns the first offset of the open segment, from its name.
func (w *Writer) base() int64 {
	base, _ := parseName(filepath.Base(w.file.Name()))
	return base
}

// Changed returns a channel that is closed at the next Append or Close.
func (w *Writer) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
		if w.closed {
			close(w.changed)
		}
	}
	return w.changed
}

func (w *Writer) notify() {
	if w.changed != nil && !w.closed {
		close(w.changed)
		w.changed = nil
	}
}

// Offset returns how many bytes were printed so far, and how many of them could not be kept at all.
func (w *Writer) Offset() (total, lost int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offset, w.lost
}

// Closed reports whether nothing more will be appended.
func (w *Writer) Closed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// Close ends the spool. Readers go on to its end.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.notify()
	w.closed = true
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}

func header(session string, base int64) []byte {
	h := make([]byte, headerSize)
	copy(h, magic)
	copy(h[8:], session)
	binary.BigEndian.PutUint64(h[40:], uint64(base))
	return h
}

func parseHeader(h []byte) (session string, base int64, err error) {
	if len(h) < headerSize || string(h[:8]) != magic {
		return "", 0, errors.New("not a segment of a spool")
	}
	return string(h[8 : 8+SessionSize]), int64(binary.BigEndian.Uint64(h[40:])), nil
}

func name(base int64) string { return fmt.Sprintf("%020d%s", base, suffix) }

func parseName(s string) (int64, bool) {
	digits, ok := strings.CutSuffix(s, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil && base >= 0
}

// bases lists the first offsets of a spool's segments, in order.
func bases(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []int64
	for _, e := range entries {
		if base, ok := parseName(e.Name()); ok {
			list = append(list, base)
		}
	}
	slices.Sort(list)
	return list, nil
}
