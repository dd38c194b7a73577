// Package specfile reads the files that people write, YAML or JSON, into strict documents with positions, and shows errors where
// they stand.
package specfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// MaxExpanded is how many values a file may hold once its aliases are written out. An alias repeats what it names, so a small
// file could otherwise grow without bound.
const MaxExpanded = 10_000

// Parse reads one document. A text that starts with a brace or a bracket is read as JSON, anything else as YAML. The error is an Invalid fault
// whose violations carry line and column.
func Parse(data []byte) (*tree.Node, error) {
	if len(data) > tree.MaxDocument {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "the file has %d bytes, the limit is %d", len(data), tree.MaxDocument)
	}
	if looksLikeJSON(data) {
		return tree.ParseJSON(data)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fault.Invalidf(fault.ReasonSyntax, "the file is empty")
		}
		return nil, syntax(err, data)
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, syntax(err, data)
		}
		return nil, at(&second, "a second document starts here; give one document per file")
	}
	c := &converter{}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		return c.node(doc.Content[0], 0)
	}
	return c.node(&doc, 0)
}

// looksLikeJSON tells {"a": …} from YAML's flow style {a: …}, which the YAML reader takes.
func looksLikeJSON(data []byte) bool {
	t := bytes.TrimLeft(data, " \t\r\n")
	if len(t) == 0 || (t[0] != '{' && t[0] != '[') {
		return false
	}
	rest := bytes.TrimLeft(t[1:], " \t\r\n")
	return len(rest) > 0 && (rest[0] == '"' || rest[0] == '}' || rest[0] == ']' || rest[0] == '{')
}

var lineOf = regexp.MustCompile(`line (\d+)`)

// syntax turns the reader's error into a fault. Its text names the line alone.
func syntax(err error, data []byte) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	f := fault.Field{Description: text}
	if m := lineOf.FindStringSubmatch(text); m != nil {
		f.Line, _ = strconv.Atoi(m[1])
		f.Column = 1
		f.Description = strings.TrimLeft(strings.TrimPrefix(text, m[0]), ": ")
	}
	for _, line := range []int{f.Line, f.Line + 1} { // the reader may name the line before
		if col := tabInIndentation(data, line); col > 0 && f.Line > 0 {
			f.Line, f.Column, f.Description = line, col, "a tab in the indentation; YAML takes spaces there"
			break
		}
	}
	e := fault.Invalidf(fault.ReasonSyntax, "not valid YAML")
	e.Fields = []fault.Field{f}
	return e
}

// tabInIndentation returns the column of the first tab before the text of a line, 0 when there is none. The reader's own words for
// it differ from place to place, and a tab is not seen in the line that is shown.
func tabInIndentation(data []byte, line int) int {
	lines := bytes.SplitN(data, []byte("\n"), line+1)
	if line < 1 || line > len(lines) {
		return 0
	}
	text := lines[line-1]
	return bytes.IndexByte(text[:len(text)-len(bytes.TrimLeft(text, " \t"))], '\t') + 1
}

func at(n *yaml.Node, format string, args ...any) error {
	e := fault.Invalidf(fault.ReasonSyntax, "not a valid document")
	e.Fields = []fault.Field{{Description: fmt.Sprintf(format, args...), Line: n.Line, Column: n.Column}}
	return e
}

// converter turns YAML nodes into ours and counts what it makes.
type converter struct {
	made    int
	aliases []*yaml.Node
}

func (c *converter) node(n *yaml.Node, depth int) (*tree.Node, error) {
	if c.made++; c.made > MaxExpanded {
		return nil, at(n, "the file holds more than %d values once its aliases are written out", MaxExpanded)
	}
	if depth > tree.MaxDepth {
		return nil, at(n, "nested deeper than %d levels", tree.MaxDepth)
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return scalar(n)
	case yaml.SequenceNode:
		out := &tree.Node{Kind: tree.List, Line: n.Line, Col: n.Column}
		for _, item := range n.Content {
			v, err := c.node(item, depth+1)
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, v)
		}
		return out, nil
	case yaml.MappingNode:
		return c.mapping(n, depth)
	case yaml.AliasNode:
		return c.alias(n, depth)
	default:
		return nil, at(n, "not a value")
	}
}

func (c *converter) mapping(n *yaml.Node, depth int) (*tree.Node, error) {
	out := &tree.Node{Kind: tree.Object, Line: n.Line, Col: n.Column}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode {
			return nil, at(k, "a key must be plain text")
		}
		if k.Tag == "!!merge" {
			return nil, at(k, "merge keys (<<) are not supported; write the fields out")
		}
		if out.Get(k.Value) != nil {
			return nil, at(k, "the key %q is given twice", k.Value)
		}
		v, err := c.node(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		out.Keys = append(out.Keys, tree.Key{Name: k.Value, Line: k.Line, Col: k.Column, Value: v})
	}
	return out, nil
}

func (c *converter) alias(n *yaml.Node, depth int) (*tree.Node, error) {
	for _, open := range c.aliases {
		if open == n.Alias {
			return nil, at(n, "the alias *%s contains itself", n.Value)
		}
	}
	c.aliases = append(c.aliases, n.Alias)
	v, err := c.node(n.Alias, depth+1)
	c.aliases = c.aliases[:len(c.aliases)-1]
	return v, err
}

func scalar(n *yaml.Node) (*tree.Node, error) {
	out := &tree.Node{Kind: tree.String, Text: n.Value, Line: n.Line, Col: n.Column}
	switch n.Tag {
	case "!!str", "!!timestamp":
	case "!!null":
		out.Kind, out.Text = tree.Null, ""
	case "!!bool":
		out.Kind, out.Text = tree.Bool, strings.ToLower(n.Value)
	case "!!int":
		var i int64
		if err := n.Decode(&i); err != nil {
			return nil, at(n, "the number %s does not fit 64 bits", n.Value)
		}
		out.Kind, out.Text = tree.Number, strconv.FormatInt(i, 10)
	case "!!float":
		if strings.ContainsAny(strings.ToLower(n.Value), "ni") { // .nan, .inf
			return nil, at(n, "%s is not a number that can be used here", n.Value)
		}
		if !strings.ContainsAny(n.Value, ".eE") { // the reader takes whole numbers beyond 64 bits for floats
			return nil, at(n, "the number %s does not fit 64 bits", n.Value)
		}
		out.Kind = tree.Number
		out.Text = strings.ReplaceAll(n.Value, "_", "")
	default:
		return nil, at(n, "the tag %s is not supported", n.Tag)
	}
	return out, nil
}
