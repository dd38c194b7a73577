package tree

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/core/fault"
)

// ParseJSON reads one JSON value and nothing behind it. The error is an Invalid fault with reason SYNTAX whose one
// violation carries line and column; a text over a limit has reason LIMIT_EXCEEDED.
func ParseJSON(data []byte) (*Node, error) { return ParseJSONUpTo(data, MaxDocument) }

// ParseJSONUpTo is ParseJSON for texts that may hold whole files, as base64: most is the largest text, in bytes. The other
// limits stay.
func ParseJSONUpTo(data []byte, most int) (*Node, error) {
	if len(data) > most {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "the document has %d bytes, the limit is %d", len(data), most)
	}
	p := &parser{data: data, line: 1, col: 1}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return nil, p.fail("the text starts with a byte order mark; save it as UTF-8 without one")
	}
	if !utf8.Valid(data) {
		p.pos = invalidAt(data)
		return nil, p.fail("not valid UTF-8")
	}
	p.space()
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.pos < len(data) {
		return nil, p.fail("expected the end of the text, got %s", p.here())
	}
	return n, nil
}

func invalidAt(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return len(data)
}

// parser is a recursive descent over the text. line and col belong to mark, which only moves forward: counting
// characters from the start of a line for every value would be quadratic in a one-line document.
type parser struct {
	data      []byte
	pos       int
	mark      int
	line, col int
	nodes     int
}

// where returns the position of pos.
func (p *parser) where() (line, col int) {
	for p.mark < p.pos {
		c := p.data[p.mark]
		if c == '\n' {
			p.line, p.col = p.line+1, 1
		} else if utf8.RuneStart(c) {
			p.col++
		}
		p.mark++
	}
	return p.line, p.col
}

func (p *parser) fail(format string, args ...any) error { return p.failAt(p.pos, format, args...) }

func (p *parser) failAt(pos int, format string, args ...any) error {
	if pos < p.mark {
		p.mark, p.line, p.col = 0, 1, 1
	}
	p.pos = pos
	line, col := p.where()
	e := fault.Invalidf(fault.ReasonSyntax, "not valid JSON at line %d, column %d", line, col)
	e.Fields = []fault.Field{{Description: fmt.Sprintf(format, args...), Line: line, Column: col}}
	return e
}

// here describes what stands at pos.
func (p *parser) here() string {
	if p.pos >= len(p.data) {
		return "the end of the text"
	}
	r, _ := utf8.DecodeRune(p.data[p.pos:])
	return strconv.QuoteRune(r)
}

func (p *parser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

func (p *parser) value(depth int) (*Node, error) {
	if depth > MaxDepth {
		return nil, p.fail("nested deeper than %d", MaxDepth)
	}
	if p.nodes++; p.nodes > MaxNodes {
		return nil, p.fail("more than %d values", MaxNodes)
	}
	line, col := p.where()
	n := &Node{Line: line, Col: col}
	if p.pos >= len(p.data) {
		return nil, p.fail("expected a value, got the end of the text")
	}
	var err error
	switch c := p.data[p.pos]; {
	case c == '{':
		err = p.object(n, depth)
	case c == '[':
		err = p.list(n, depth)
	case c == '"':
		n.Kind = String
		n.Text, err = p.str()
	case c == '-' || c >= '0' && c <= '9':
		n.Kind = Number
		n.Text, err = p.number()
	default:
		err = p.word(n)
	}
	return n, err
}

func (p *parser) word(n *Node) error {
	for _, w := range [...]struct {
		text string
		kind Kind
	}{{"null", Null}, {"true", Bool}, {"false", Bool}} {
		if !bytes.HasPrefix(p.data[p.pos:], []byte(w.text)) {
			continue
		}
		p.pos += len(w.text)
		n.Kind = w.kind
		if w.kind == Bool {
			n.Text = w.text
		}
		return nil
	}
	return p.fail("expected a value, got %s", p.here())
}

func (p *parser) list(n *Node, depth int) error {
	n.Kind = List
	p.pos++
	p.space()
	if p.take(']') {
		return nil
	}
	for {
		item, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, item)
		p.space()
		if p.take(']') {
			return nil
		}
		if !p.take(',') {
			return p.fail("expected , or ] in a list, got %s", p.here())
		}
		p.space()
	}
}

// smallObject is how many keys are compared one by one; a larger object gets an index.
const smallObject = 12

func (p *parser) object(n *Node, depth int) error {
	n.Kind = Object
	p.pos++
	p.space()
	if p.take('}') {
		return nil
	}
	var seen map[string]Key
	for {
		k := Key{}
		k.Line, k.Col = p.where()
		if p.pos >= len(p.data) || p.data[p.pos] != '"' {
			return p.fail("expected a key in double quotes, got %s", p.here())
		}
		at := p.pos
		var err error
		if k.Name, err = p.str(); err != nil {
			return err
		}
		if first, dup := duplicate(n.Keys, &seen, k); dup {
			return p.failAt(at, "key %q is given twice, first at line %d, column %d", k.Name, first.Line, first.Col)
		}
		p.space()
		if !p.take(':') {
			return p.fail("expected : after key %q, got %s", k.Name, p.here())
		}
		p.space()
		if k.Value, err = p.value(depth + 1); err != nil {
			return err
		}
		n.Keys = append(n.Keys, k)
		p.space()
		if p.take('}') {
			return nil
		}
		if !p.take(',') {
			return p.fail("expected , or } in an object, got %s", p.here())
		}
		p.space()
	}
}

func duplicate(keys []Key, seen *map[string]Key, k Key) (Key, bool) {
	if len(keys) < smallObject {
		for _, old := range keys {
			if old.Name == k.Name {
				return old, true
			}
		}
		return Key{}, false
	}
	if *seen == nil {
		*seen = make(map[string]Key, 4*smallObject)
		for _, old := range keys {
			(*seen)[old.Name] = old
		}
	}
	old, dup := (*seen)[k.Name]
	(*seen)[k.Name] = k
	return old, dup
}

func (p *parser) take(c byte) bool {
	if p.pos < len(p.data) && p.data[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) number() (string, error) {
	start := p.pos
	p.take('-')
	if !p.take('0') && !p.digits() {
		return "", p.fail("expected a digit, got %s", p.here())
	}
	if p.pos < len(p.data) && p.data[p.pos] >= '0' && p.data[p.pos] <= '9' {
		return "", p.failAt(start, "a number does not start with 0")
	}
	if p.take('.') && !p.digits() {
		return "", p.fail("expected a digit after the point, got %s", p.here())
	}
	if p.take('e') || p.take('E') {
		if !p.take('+') {
			p.take('-')
		}
		if !p.digits() {
			return "", p.fail("expected a digit in the exponent, got %s", p.here())
		}
	}
	text := string(p.data[start:p.pos])
	if f, err := strconv.ParseFloat(text, 64); err != nil || math.IsInf(f, 0) {
		return "", p.failAt(start, "the number is out of range")
	}
	return text, nil
}

func (p *parser) digits() bool {
	start := p.pos
	for p.pos < len(p.data) && p.data[p.pos] >= '0' && p.data[p.pos] <= '9' {
		p.pos++
	}
	return p.pos > start
}
