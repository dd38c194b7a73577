package specfile

import (
	"bytes"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// ParseAll reads the documents of a file one after the other, each as Parse does, with the lines of the file. A document that is a list
// stands for its elements; one without anything in it is none. most is how many there may be.
func ParseAll(data []byte, most int) ([]*tree.Node, error) {
	var out []*tree.Node
	for first := 0; len(data) > 0; {
		var part []byte
		part, data = cut(data)
		if !blank(part) {
			n, err := Parse(part)
			if err != nil {
				return nil, moved(err, first)
			}
			move(n, first)
			if n.Kind == tree.List {
				out = append(out, n.Items...)
			} else {
				out = append(out, n)
			}
			if len(out) > most {
				return nil, fault.Invalidf(fault.ReasonLimitExceeded, "more than %d documents", most)
			}
		}
		first += bytes.Count(part, []byte("\n"))
	}
	return out, nil
}

// cut returns the text up to the line that begins the next document, and the rest. Such a line is nothing else in YAML, wherever it
// stands; in JSON there is none.
func cut(data []byte) (part, rest []byte) {
	for at := 0; ; {
		i := bytes.Index(data[at:], []byte("\n---"))
		if i < 0 {
			return data, nil
		}
		at += i + 1
		if end := at + len("---"); end == len(data) || bytes.IndexByte([]byte(" \t\r\n"), data[end]) >= 0 {
			return data[:at], data[at:]
		}
	}
}

// blank reports whether a document has nothing in it but its marks and comments.
func blank(part []byte) bool {
	for line := range bytes.Lines(part) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && string(line) != "---" && string(line) != "..." {
			return false
		}
	}
	return true
}

// move puts a document where it stands in its file.
func move(n *tree.Node, lines int) {
	if n.Line > 0 {
		n.Line += lines
	}
	for _, item := range n.Items {
		move(item, lines)
	}
	for i := range n.Keys {
		n.Keys[i].Line += lines
		move(n.Keys[i].Value, lines)
	}
}

func moved(err error, lines int) error {
	f := fault.From(err).Clone()
	for i := range f.Fields {
		if f.Fields[i].Line > 0 {
			f.Fields[i].Line += lines
		}
	}
	return f
}
