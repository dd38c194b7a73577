package spool

import (
	"bytes"
	"errors"
	"io"
	"math"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

// Place is where to begin reading.
type Place struct {
	Offset int64
	// Cut says that what was asked for began earlier, as far as anyone can tell: it was discarded.
	Cut bool
}

// Oldest returns the place of the oldest output that is kept.
func Oldest(dir string) (Place, error) {
	list, err := bases(dir)
	if err != nil || len(list) == 0 {
		return Place{}, err
	}
	return Place{Offset: list[0], Cut: list[0] > 0}, nil
}

// Tail returns where the last lines of both streams together begin; what follows the last line break is a line too. 0 is the
// end. It takes constant memory.
func Tail(dir string, lines int64) (Place, error) {
	list, err := bases(dir)
	if err != nil || len(list) == 0 {
		return Place{}, err
	}
	next, counted := int64(math.MaxInt64), false
	for i := len(list) - 1; i >= 0; i-- {
		s, err := survey(dir, list[i], next)
		if g, ok := errors.AsType[*GapError](err); ok { // Discarded meanwhile, and all before it.
			return Place{Offset: max(g.First, list[i]), Cut: true}, nil
		}
		if err != nil {
			return Place{}, err
		}
		if lines == 0 {
			return Place{Offset: s.end}, nil
		}
		if !counted && s.bytes > 0 {
			counted = true
			if s.last == '\n' && lines < math.MaxInt64 {
				lines++ // It ends the last line; the lines before it end with the others.
			}
		}
		if s.breaks >= lines {
			offset, err := behindBreak(dir, list[i], s.breaks-lines+1)
			return Place{Offset: offset}, err
		}
		lines -= s.breaks
		next = list[i]
	}
	return Place{Offset: list[0], Cut: list[0] > 0}, nil
}

// segmentSurvey is what there is in a segment.
type segmentSurvey struct {
	breaks, bytes, end int64
	last               byte
}

// survey counts the line breaks of the segment at base, which ends at next.
func survey(dir string, base, next int64) (s segmentSurvey, err error) {
	s.end = base
	err = each(dir, base, func(o wire.Output) bool {
		if o.Offset >= next {
			return false
		}
		s.breaks += int64(bytes.Count(o.Data, []byte{'\n'}))
		s.bytes += int64(len(o.Data))
		s.end = o.Offset + int64(len(o.Data))
		if len(o.Data) > 0 {
			s.last = o.Data[len(o.Data)-1]
		}
		return true
	})
	return s, err
}

// behindBreak returns the offset behind the nth line break from base on.
func behindBreak(dir string, base, n int64) (offset int64, err error) {
	offset = base
	err = each(dir, base, func(o wire.Output) bool {
		offset = o.Offset
		for rest := o.Data; ; n-- {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				return true
			}
			rest, offset = rest[i+1:], offset+int64(i)+1
			if n == 1 {
				return false
			}
		}
	})
	if g, ok := errors.AsType[*GapError](err); ok {
		return g.First, nil
	}
	return offset, err
}

// Since returns where the output begins that was read at t or later; the end when there is none. Times may go back, as the machine's clock
// can: it is the first that counts, so that nothing is left out that is wanted.
func Since(dir string, t time.Time) (Place, error) {
	list, err := bases(dir)
	if err != nil || len(list) == 0 {
		return Place{}, err
	}
	at := Place{Offset: list[0]}
	err = each(dir, list[0], func(o wire.Output) bool {
		if !o.Time.Before(t) {
			at = Place{Offset: o.Offset, Cut: o.Offset == list[0] && list[0] > 0}
			return false
		}
		at.Offset = o.Offset + int64(len(o.Data))
		return true
	})
	if g, ok := errors.AsType[*GapError](err); ok {
		return Place{Offset: g.First, Cut: true}, nil
	}
	return at, err
}

// each calls f with every piece from an offset on, until it returns false.
func each(dir string, offset int64, f func(wire.Output) bool) error {
	r, err := Open(dir, offset)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	for {
		o, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !f(o) {
			return nil
		}
	}
}
