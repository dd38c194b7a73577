package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// objectDoc is one object as a file describes it.
type objectDoc struct {
	file       *file
	kind, name string
	// body is the object in the form of the wire.
	body *tree.Node
}

func (d *objectDoc) what() string { return d.kind + " " + d.name }

// place is where the document begins.
func (d *objectDoc) place() string {
	return fmt.Sprintf("%s:%d", d.file.name, max(d.file.root.Line, 1))
}

// objectFields are the fields that a document of each kind may have, and the path of its name.
var objectFields = map[string]struct {
	name   string
	fields []string
}{
	"zone":    {"name", []string{"kind", "name", "defaults"}},
	"profile": {"display_name", []string{"kind", "display_name", "description", "labels", "spec"}},
	"runner":  {"identity.runner_id", []string{"kind", "display_name", "identity", "managed_spec", "profile_bindings"}},
}

// readDocument checks what can be seen without the server, so that errors have a line and a column. The file's root is the document.
func readDocument(f *file) (*objectDoc, error) {
	n := f.root
	if n.Kind != tree.Object {
		return nil, misplaced(n, "kind", "expected an object, got %s", n.Kind)
	}
	d := &objectDoc{file: f, kind: textAt(n, "kind")}
	known, ok := objectFields[d.kind]
	if !ok {
		return nil, wrongKind(n)
	}
	if p := unknownKeys(n, "", known.fields); p.Len() > 0 {
		return nil, p.Err("the %s cannot be used", d.kind)
	}
	at := n
	for step := range strings.SplitSeq(known.name, ".") {
		if at != nil {
			at = field(at, step)
		}
	}
	if at == nil || at.Kind != tree.String || at.Text == "" {
		if at == nil {
			at = n
		}
		return nil, misplaced(at, known.name, "must be the name of the %s", d.kind)
	}
	d.name = at.Text
	var err error
	if d.body, err = objectBody(d.kind, n); err != nil {
		return nil, err
	}
	return d, nil
}

// objectBody returns a document in the form of the wire.
func objectBody(kind string, n *tree.Node) (*tree.Node, error) {
	switch kind {
	case "zone":
		if l := n.Get("defaults"); l != nil {
			if _, err := spec.DecodeLayer(l, "defaults"); err != nil {
				return nil, err
			}
		}
		return without(n, "kind", "name"), nil
	case "profile":
		l := n.Get("spec")
		if l == nil {
			return nil, misplaced(n, "spec", "must be given; spec: {} inherits everything")
		}
		if _, err := spec.DecodeLayer(l, "spec"); err != nil {
			return nil, err
		}
		return without(n, "kind"), nil
	}
	// Profiles stay named: the same apply may make them.
	return wireRunnerBy(without(n, "kind"), func(name string) (string, error) { return name, nil })
}

// wrongKind says what a document could be meant to be.
func wrongKind(n *tree.Node) error {
	k := n.Get("kind")
	if k != nil {
		return misplaced(k, "kind", "%q is none of zone, profile, runner", k.Text)
	}
	hint := ""
	for _, sign := range []struct{ field, kind string }{{"spec", "profile"}, {"defaults", "zone"}, {"profile_bindings", "runner"}, {"identity", "runner"}} {
		if field(n, sign.field) != nil {
			hint = "; this looks like kind: " + sign.kind
			break
		}
	}
	return misplaced(n, "kind", "must be given: zone, profile or runner%s", hint)
}

// misplaced is an error at the place of a value.
func misplaced(n *tree.Node, path, format string, args ...any) error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "the document cannot be used")
	e.Fields = []fault.Field{{Path: path, Description: fmt.Sprintf(format, args...), Line: n.Line, Column: n.Col}}
	return e
}

// again refuses a second document of one object.
func (d *objectDoc) again(other *objectDoc) error {
	return misplaced(d.file.root, "", "%s is described at %s already", d.what(), other.place())
}

// named puts the name of the file before an error that has no place in it.
func named(name string, err error) error {
	f := fault.From(err)
	if len(f.Fields) > 0 {
		return err
	}
	f = f.Clone()
	f.Message = name + ": " + f.Message
	return f
}

// among shows an error that comes after others in its file, unless there are more of them already than are shown: each takes a look at
// the whole file.
func (f *file) among(others []error, err error) error {
	if len(others) >= maxObjectErrors {
		return err
	}
	return f.show(err)
}

// together makes one error of those of several documents.
func together(all []error) error {
	if len(all) < 2 {
		return errors.Join(all...)
	}
	var text strings.Builder
	for _, err := range all[:min(len(all), maxObjectErrors)] {
		var shown *renderedError
		if errors.As(err, &shown) {
			text.WriteString(shown.text)
		} else {
			text.WriteString(fault.From(err).Message + "\n")
		}
	}
	if more := len(all) - maxObjectErrors; more > 0 {
		fmt.Fprintf(&text, "and %d more\n", more)
	}
	return &renderedError{err: fault.Invalidf(fault.From(all[0]).Reason, "%d documents cannot be used", len(all)), text: text.String()}
}

// placed puts what the server says of objects[i] where it stands in the files.
func placedIn(docs []*objectDoc, err error) error {
	f := fault.From(err)
	if f == nil {
		return err
	}
	rest := f.Clone()
	rest.Fields = nil
	text := ""
	of := map[*objectDoc]*fault.Error{}
	var order []*objectDoc
	for _, v := range f.Fields {
		i, path, ok := ofObject(v.Path)
		if !ok || i >= len(docs) {
			if ok { // of an object that is in no file
				v.Path = path
			}
			rest.Fields = append(rest.Fields, v)
			continue
		}
		d := docs[i]
		if of[d] == nil {
			of[d] = fault.Invalidf(f.Reason, "%s", d.what())
			order = append(order, d)
		}
		v.Path = path
		if path == "name" || path == "" {
			v.Path, v.Line, v.Column = "", max(d.file.root.Line, 1), max(d.file.root.Col, 1)
		}
		of[d].Fields = append(of[d].Fields, v)
	}
	for _, d := range order {
		var shown *renderedError
		if err := d.file.show(of[d]); errors.As(err, &shown) {
			text += shown.text
		}
	}
	if text == "" {
		return rest
	}
	for _, v := range rest.Fields {
		text += strings.TrimPrefix(v.Path+": "+v.Description, ": ") + "\n"
	}
	return &renderedError{err: rest, text: text}
}

// ofObject splits a path of an apply: objects[3].spec.tags.
func ofObject(path string) (i int, rest string, ok bool) {
	inner, found := strings.CutPrefix(path, "objects[")
	if !found {
		return 0, "", false
	}
	number, rest, found := strings.Cut(inner, "]")
	if _, err := fmt.Sscanf(number, "%d", &i); err != nil || !found || i < 0 {
		return 0, "", false
	}
	return i, strings.TrimPrefix(rest, "."), true
}

// sorted orders documents by kind and name, as a plan shows them.
func sorted(docs []*objectDoc) {
	kinds := []string{"zone", "profile", "runner"}
	slices.SortFunc(docs, func(a, b *objectDoc) int {
		if n := slices.Index(kinds, a.kind) - slices.Index(kinds, b.kind); n != 0 {
			return n
		}
		return strings.Compare(a.name, b.name)
	})
}
