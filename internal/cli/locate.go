package cli

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// fileNames are the names that a file may use for fields of the wire.
var fileNames = map[string]string{
	"overrides_json": "overrides", "profile_template_id": "profile",
	"namespace_config_json": "namespace", "network_config_json": "network", "pod_template_json": "pod",
}

// bodyPosition is how a server says where in the request body a violation is. The body was made here of a file or of flags, so
// the place means nothing to the user.
var bodyPosition = regexp.MustCompile(`^line \d+, column \d+: `)

// placed returns err with the violations that a server reported found in the file: what it says of the request body becomes a line
// and a column of the text that the user wrote.
func (f *file) placed(err error) error {
	e := fault.From(err)
	if e == nil || len(e.Fields) == 0 {
		return err
	}
	e = e.Clone()
	for i := range e.Fields {
		v := &e.Fields[i]
		if v.Line > 0 || f.root == nil {
			continue
		}
		v.Description = bodyPosition.ReplaceAllString(v.Description, "")
		v.Line, v.Column = locate(f.root, v.Path, strings.HasPrefix(v.Description, "unknown field"))
	}
	return e
}

// locate finds the place of a path such as "runner.profile_bindings[0].overrides_json.tags": the value, or with key its name. What
// is not in the document is looked for as far as it is there; 0, 0 when not even its beginning is.
func locate(root *tree.Node, path string, key bool) (line, col int) {
	steps := split(path)
	n, found := root, false
	for i, step := range steps {
		next, at := child(n, step)
		if next == nil {
			if i == 0 { // the name of the request's field that holds the document
				continue
			}
			break
		}
		found = true
		if line, col = next.Line, next.Col; line == 0 || key && i == len(steps)-1 && at.Line > 0 {
			line, col = at.Line, at.Col
		}
		n = next
	}
	if !found {
		return 0, 0
	}
	return line, col
}

// child returns the value that a step of a path leads to, and its key when it has one.
func child(n *tree.Node, step string) (*tree.Node, tree.Key) {
	if inner, ok := strings.CutPrefix(step, "["); ok {
		inner = strings.TrimSuffix(inner, "]")
		if n.Kind != tree.List {
			step = inner // an entry of a map
		} else {
			for i, item := range n.Items {
				if strconv.Itoa(i) == inner {
					return item, tree.Key{}
				}
			}
			return nil, tree.Key{}
		}
	}
	for _, k := range n.Keys {
		if k.Name == step || k.Name == tree.Camel(step) || tree.Camel(k.Name) == step || k.Name == fileNames[step] {
			return k.Value, k
		}
	}
	return nil, tree.Key{}
}

// split cuts a path at its dots; what stands in brackets is a step of its own, brackets included.
func split(path string) []string {
	var out []string
	start, depth := 0, 0
	cut := func(end int) {
		if end > start {
			out = append(out, path[start:end])
		}
		start = end
	}
	for i, r := range path {
		switch {
		case r == '[' && depth == 0:
			cut(i)
			depth = 1
		case r == ']' && depth == 1:
			cut(i + 1)
			depth = 0
		case r == '.' && depth == 0:
			cut(i)
			start = i + 1
		}
	}
	cut(len(path))
	return out
}
