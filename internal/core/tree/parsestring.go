package tree

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a string, its quotes included. NUL is refused even escaped: no field may hold it, and the places that
// strings end up in, processes and PostgreSQL, cannot.
func (p *parser) str() (string, error) {
	open := p.pos
	p.pos++
	start := p.pos
	for p.pos < len(p.data) {
		switch c := p.data[p.pos]; {
		case c == '"':
			s := string(p.data[start:p.pos])
			p.pos++
			return s, nil
		case c == '\\':
			return p.escaped(open, append(make([]byte, 0, 64), p.data[start:p.pos]...))
		case c < 0x20:
			return "", p.fail("control character %s in a string; write it as an escape", p.here())
		default:
			p.pos++
		}
	}
	return "", p.failAt(open, "the string has no end")
}

// escaped goes on behind the first escape of a string.
func (p *parser) escaped(open int, b []byte) (string, error) {
	for p.pos < len(p.data) {
		switch c := p.data[p.pos]; {
		case c == '"':
			p.pos++
			return string(b), nil
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, r)
		case c < 0x20:
			return "", p.fail("control character %s in a string; write it as an escape", p.here())
		default:
			b = append(b, c)
			p.pos++
		}
	}
	return "", p.failAt(open, "the string has no end")
}

func (p *parser) escape() (rune, error) {
	at := p.pos
	p.pos++
	if p.pos >= len(p.data) {
		return 0, p.failAt(at, "the string has no end")
	}
	c := p.data[p.pos]
	p.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return p.unicode(at)
	}
	return 0, p.failAt(at, "unknown escape")
}

func (p *parser) unicode(at int) (rune, error) {
	r, ok := p.hex4()
	if ok && utf16.IsSurrogate(r) {
		low := rune(-1)
		if p.take('\\') && p.take('u') {
			low, ok = p.hex4()
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return 0, p.failAt(at, "half of a surrogate pair")
		}
	}
	if !ok {
		return 0, p.failAt(at, "expected four hexadecimal digits after \\u")
	}
	if r == 0 {
		return 0, p.failAt(at, "the NUL character is not allowed")
	}
	return r, nil
}

func (p *parser) hex4() (rune, bool) {
	if p.pos+4 > len(p.data) {
		return 0, false
	}
	v, err := strconv.ParseUint(string(p.data[p.pos:p.pos+4]), 16, 32)
	p.pos += 4
	return rune(v), err == nil
}
