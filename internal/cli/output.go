package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/bermhq/berm/internal/cli/visible"
	"github.com/bermhq/berm/internal/core/fault"
)

// table is what -o table and -o wide show: wide has the columns behind the bar too.
type table struct {
	head []string
	wide []string
	rows [][]string
}

// emit writes v, which marshals to JSON, in the format asked for; show makes the table of it.
func (s *session) emit(v any, show func() table) error {
	if s.output == "json" || s.output == "yaml" {
		raw, err := toJSON(v)
		if err != nil {
			return fault.Internalf(err, "cannot show the answer")
		}
		return s.emitJSON(raw)
	}
	s.table(show())
	return nil
}

// report answers for a command with nothing to show: an object that says what it was about for programs, a sentence for people.
func (s *session) report(about any, sentence string, args ...any) error {
	if s.output == "json" || s.output == "yaml" {
		return s.emit(about, nil)
	}
	if sentence != "" {
		fmt.Fprintln(s.Err, clean(fmt.Sprintf(sentence, args...)))
	}
	return nil
}

func (s *session) emitJSON(raw []byte) error {
	if s.output == "yaml" {
		var v yaml.Node
		if err := yaml.Unmarshal(raw, &v); err != nil {
			return fault.Internalf(err, "cannot show the answer")
		}
		blockStyle(&v)
		enc := yaml.NewEncoder(s.Out)
		enc.SetIndent(2)
		if err := enc.Encode(&v); err != nil {
			return err
		}
		return enc.Close()
	}
	var v any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return fault.Internalf(err, "the answer is not JSON")
	}
	enc := json.NewEncoder(s.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// blockStyle writes JSON read as YAML the way people write YAML.
func blockStyle(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.Style &^= yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// toJSON writes messages as the REST API does: a script finds every field of a type, empty or not.
func toJSON(v any) ([]byte, error) {
	whole := protojson.MarshalOptions{EmitDefaultValues: true}
	switch v := v.(type) {
	case json.RawMessage:
		return v, nil
	case proto.Message:
		return whole.Marshal(v)
	case []proto.Message:
		parts := make([]string, len(v))
		for i, m := range v {
			raw, err := whole.Marshal(m)
			if err != nil {
				return nil, err
			}
			parts[i] = string(raw)
		}
		return []byte("[" + strings.Join(parts, ",") + "]"), nil
	default:
		return json.Marshal(v)
	}
}

// messages makes the list that emit writes as the REST API does.
func messages[T proto.Message](all []T) []proto.Message {
	list := make([]proto.Message, len(all))
	for i, m := range all {
		list[i] = m
	}
	return list
}

// columnGap stands between the columns of a table.
const columnGap = 3

// table writes rows in columns. An empty cell keeps its place, and no line ends in spaces.
func (s *session) table(t table) {
	head := t.head
	if s.output == "wide" {
		head = append(append([]string(nil), t.head...), t.wide...)
	}
	lines := [][]string{plainCells(head)}
	for _, r := range t.rows {
		lines = append(lines, plainCells(r[:min(len(r), len(head))]))
	}
	widths := make([]int, len(head))
	for _, cells := range lines {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, cells := range lines {
		var b strings.Builder
		for i, c := range cells {
			b.WriteString(c)
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+columnGap))
		}
		fmt.Fprintln(s.Out, strings.TrimRight(b.String(), " "))
	}
}

// plainCells keeps line breaks and control characters out of a table.
func plainCells(cells []string) []string {
	out := make([]string, len(cells))
	for i, c := range cells {
		out[i] = strings.NewReplacer("\n", " ", "\t", " ").Replace(clean(c))
	}
	return out
}

// counted returns "1 object", "2 objects".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// maxCell is the longest value of a table cell, in characters.
const maxCell = 60

// valueText shows a JSON value in a cell: scalars plainly, the rest as compact JSON, shortened.
func valueText(v *structpb.Value) string {
	if v == nil {
		return ""
	}
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		if k.StringValue == "" {
			return `""`
		}
		return short(k.StringValue)
	case *structpb.Value_NullValue:
		return "null"
	}
	raw, err := json.Marshal(v.AsInterface())
	if err != nil {
		return "?"
	}
	return short(string(raw))
}

func short(s string) string {
	r := []rune(s)
	if len(r) <= maxCell {
		return s
	}
	return string(r[:maxCell-1]) + "…"
}

// writeVisible writes text as it is; to a terminal, so that it does nothing there but be seen.
func writeVisible(w io.Writer, text []byte) error {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		_, err := w.Write(text)
		return err
	}
	v := visible.New(f)
	_, err := v.Write(text)
	return errors.Join(err, v.Flush())
}

// pick returns a string at a path of decoded JSON, "" when there is none.
func pick(v any, path ...string) string {
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[p]
	}
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		raw, _ := json.Marshal(v) //nolint:errchkjson // decoded from JSON a moment ago
		return string(raw)
	}
}
