// Package visible writes what nobody vouches for to a terminal. It is a package of its own so that its fuzzing needs nothing of the command
// line, which takes minutes to build for it.
package visible

import (
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// Writer writes text to a terminal so that it can do nothing but be seen: what a sandbox printed must not move the cursor,
// set the title or the clipboard, or make a line look like another. Control characters, what reorders text, and bytes that
// are no text are written as \x1b and the like; line breaks and tabs pass.
type Writer struct {
	w io.Writer
	// rest is the beginning of a character whose end has not come.
	rest []byte
	// pendingCR: a carriage return was the last byte. In front of a line break it belongs to it.
	pendingCR bool
	buf       []byte
}

// New returns a Writer to w. Flush ends it.
func New(w io.Writer) *Writer { return &Writer{w: w} }

// Write never returns fewer bytes than it got without an error.
func (v *Writer) Write(p []byte) (int, error) {
	v.buf = v.buf[:0]
	data := p
	if len(v.rest) > 0 {
		data = append(v.rest, p...)
		v.rest = nil
	}
	for len(data) > 0 {
		if !utf8.FullRune(data) {
			v.rest = append([]byte(nil), data...)
			break
		}
		r, n := utf8.DecodeRune(data)
		v.add(r, data[:n])
		data = data[n:]
	}
	if len(v.buf) > 0 {
		if _, err := v.w.Write(v.buf); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Flush writes what is left at the end.
func (v *Writer) Flush() error {
	v.buf = v.buf[:0]
	v.endCR()
	for _, c := range v.rest {
		v.buf = fmt.Appendf(v.buf, `\x%02x`, c)
	}
	v.rest = nil
	_, err := v.w.Write(v.buf)
	return err
}

func (v *Writer) add(r rune, raw []byte) {
	if r == '\n' && v.pendingCR {
		v.pendingCR = false
		v.buf = append(v.buf, '\r', '\n')
		return
	}
	v.endCR()
	switch {
	case r == '\r':
		v.pendingCR = true
	case r == '\n' || r == '\t':
		v.buf = append(v.buf, raw...)
	case r == utf8.RuneError && len(raw) == 1, r < 0x20, r == 0x7f:
		v.buf = fmt.Appendf(v.buf, `\x%02x`, raw[0])
	case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
		v.buf = fmt.Appendf(v.buf, `\u%04x`, r)
	default:
		v.buf = append(v.buf, raw...)
	}
}

// endCR shows a carriage return that stands alone: it would let what follows cover the line.
func (v *Writer) endCR() {
	if v.pendingCR {
		v.pendingCR = false
		v.buf = append(v.buf, `\r`...)
	}
}
