// Package tree reads documents strictly and remembers where everything stood.
//
// A Node is a JSON or YAML value with line and column. ParseJSON makes nodes of JSON text and refuses what other parsers
// let pass: duplicate keys, trailing garbage, invalid UTF-8, numbers that do not fit. Decode writes a node into any
// protobuf message by its descriptor and reports everything that is wrong at once, each with path and position. No
// protobuf or JSON library offers that: protojson stops at the first error, knows no positions, and cannot tell absent,
// null and empty apart.
package tree

import (
	"slices"
	"strconv"
)

// Limits of a document.
const (
	// MaxDocument is the largest text, in bytes.
	MaxDocument = 1 << 20
	// MaxDepth is how deep lists and objects may nest.
	MaxDepth = 64
	// MaxNodes is how many values a document may hold: a text of MaxDocument bytes could otherwise cost 50 times its size.
	MaxNodes = 100_000
)

// Kind is the kind of a Node.
type Kind uint8

// The kinds.
const (
	Null Kind = iota
	Bool
	Number
	String
	List
	Object
)

// String returns the kind with its article, as it is used in messages: "an object".
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "a boolean"
	case Number:
		return "a number"
	case String:
		return "a string"
	case List:
		return "a list"
	case Object:
		return "an object"
	default:
		return "kind " + strconv.Itoa(int(k))
	}
}

// Node is one value of a document. Line and Col are 1-based and count characters; 0 means that the value was not read
// from a text.
type Node struct {
	Kind Kind
	// Text is the value of a scalar: "true" or "false", the number as written, the string decoded.
	Text string
	// Items are the elements of a list.
	Items []*Node
	// Keys are the entries of an object in the order of the text. Names are unique.
	Keys      []Key
	Line, Col int
}

// Key is one entry of an object. Line and Col are those of its name.
type Key struct {
	Name      string
	Line, Col int
	Value     *Node
}

// Get returns the value of a key of an object, or nil.
func (n *Node) Get(name string) *Node {
	if n == nil {
		return nil
	}
	for i := range n.Keys {
		if n.Keys[i].Name == name {
			return n.Keys[i].Value
		}
	}
	return nil
}

// JSON returns the canonical text: no spaces, keys sorted by bytes, one spelling per number and per string.
func (n *Node) JSON() []byte { return n.AppendJSON(nil) }

// AppendJSON appends the canonical text to b.
func (n *Node) AppendJSON(b []byte) []byte {
	if n == nil {
		return append(b, "null"...)
	}
	switch n.Kind {
	case Bool:
		return append(b, n.Text...)
	case Number:
		return appendNumber(b, n.Text)
	case String:
		return AppendString(b, n.Text)
	case List:
		b = append(b, '[')
		for i, item := range n.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.AppendJSON(b)
		}
		return append(b, ']')
	case Object:
		return n.appendObject(b)
	case Null:
	}
	return append(b, "null"...)
}

func (n *Node) appendObject(b []byte) []byte {
	order := make([]int, len(n.Keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return compare(n.Keys[x].Name, n.Keys[y].Name) })
	b = append(b, '{')
	for i, k := range order {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(AppendString(b, n.Keys[k].Name), ':')
		b = n.Keys[k].Value.AppendJSON(b)
	}
	return append(b, '}')
}

// Any returns the value as plain Go: nil, bool, int64 or float64, string, []any, map[string]any.
func (n *Node) Any() any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case Bool:
		return n.Text == "true"
	case Number:
		if i, err := strconv.ParseInt(canonicalNumber(n.Text), 10, 64); err == nil {
			return i
		}
		f, _ := strconv.ParseFloat(n.Text, 64)
		return f
	case String:
		return n.Text
	case List:
		list := make([]any, len(n.Items))
		for i, item := range n.Items {
			list[i] = item.Any()
		}
		return list
	case Object:
		m := make(map[string]any, len(n.Keys))
		for _, k := range n.Keys {
			m[k.Name] = k.Value.Any()
		}
		return m
	case Null:
	}
	return nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Depth returns how deep the value nests: 1 for a scalar or an empty list.
func (n *Node) Depth() int {
	if n == nil {
		return 0
	}
	deepest := 0
	for _, item := range n.Items {
		deepest = max(deepest, item.Depth())
	}
	for _, k := range n.Keys {
		deepest = max(deepest, k.Value.Depth())
	}
	return deepest + 1
}

// Place gives the value and all below it one position: that of the string that their text was in.
func (n *Node) Place(line, col int) {
	n.Line, n.Col = line, col
	for _, item := range n.Items {
		item.Place(line, col)
	}
	for i := range n.Keys {
		n.Keys[i].Line, n.Keys[i].Col = line, col
		n.Keys[i].Value.Place(line, col)
	}
}
