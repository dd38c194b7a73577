package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

const referenceHead = `# Fields of a spec

<!-- Generated from proto/berm/spec by internal/core/spec: go test ./internal/core/spec -run Reference -update -->

A profile, an override of a binding and the defaults of a zone are all fragments of one spec. Names may be written in
snake_case or camelCase. A field that is absent inherits from the layer below; ` + "`null`" + ` clears it, so that nothing from below
shows through; an empty list or map is a value. Messages merge field by field; a scalar, a list or a map is one value, and the
highest layer that sets it owns it whole. In an open object each top-level key is one value: an empty one adds nothing, ` + "`null`" + `
clears every key below it. Null inside a value is refused, and so is null for a guardrail.

Layers, lowest first: zone defaults, profile, override of the binding, launch request.

What a backend does with a field: **enforced**, **recorded** (kept and shown, marked as not enforceable there) or **refused** (a
launch whose resolved spec sets it is refused). The backend *fake* runs nothing and serves tests.

One spec fragment has at most %d KiB as JSON and nests at most %d deep. Unless a field says otherwise, a string has at most
%d bytes, a list or a map %d entries.
`

// Reference returns the text of docs/fields.md: every field of the profile spec as its schema describes it, with what each
// of the backends does with it.
func Reference(backends ...string) []byte { return profile().Reference(backends...) }

// Reference is the function of that name for the fields of r.
func (r *Registry) Reference(backends ...string) []byte {
	w := &referenceWriter{backends: backends, seen: map[protoreflect.FullName]bool{}}
	fmt.Fprintf(&w.b, referenceHead, MaxLayer>>10, MaxLayerDepth, MaxText, MaxItems)
	w.group(r.root)
	return []byte(w.b.String())
}

type referenceWriter struct {
	b        strings.Builder
	backends []string
	// values are the messages that are parts of values, in the order of their first use.
	values []protoreflect.MessageDescriptor
	seen   map[protoreflect.FullName]bool
}

func (w *referenceWriter) group(g *group) {
	if own := g.leaves(); len(own) > 0 {
		title := g.path
		if title == "" {
			title = "Top level"
		}
		fmt.Fprintf(&w.b, "\n## %s\n\n", title)
		w.intro(g)
		w.row(append([]string{"path", "type", "what", "form"}, append(w.backends, "example")...))
		w.row(slices.Repeat([]string{"---"}, 5+len(w.backends)))
		for _, f := range own {
			w.field(f)
		}
		w.valueTables()
	}
	for _, m := range g.members {
		if m.group != nil {
			w.group(m.group)
		}
	}
}

func (g *group) leaves() []*Field {
	var own []*Field
	for _, m := range g.members {
		if m.field != nil {
			own = append(own, m.field)
		}
	}
	return own
}

func (w *referenceWriter) intro(g *group) {
	text := g.doc
	if g.wireName != "" {
		text += fmt.Sprintf(" On the v1beta2 wire: the JSON text `%s`.", g.wireName)
	}
	if g.inline != nil {
		text += fmt.Sprintf(" The entries of `%s` may also stand directly here.", g.inline.Name)
	}
	if text != "" {
		fmt.Fprintf(&w.b, "%s\n\n", text)
	}
}

func (w *referenceWriter) row(cells []string) {
	fmt.Fprintf(&w.b, "| %s |\n", strings.Join(cells, " | "))
}

func (w *referenceWriter) field(f *Field) {
	cells := []string{code(f.Path), w.typeText(f.fd, f.Open), cell(f.Doc), cell(formText(f.fd, f.rules))}
	for _, b := range w.backends {
		text := f.Verdict(b).String()
		for _, key := range slices.Sorted(maps.Keys(f.KeyEnforcement[b])) {
			text += "; " + code(key) + " " + f.KeyEnforcement[b][key].String()
		}
		cells = append(cells, cell(text))
	}
	w.row(append(cells, code(f.Example)))
}

// valueTables documents the messages that the values just written are made of.
func (w *referenceWriter) valueTables() {
	for len(w.values) > 0 {
		md := w.values[0]
		w.values = w.values[1:]
		fmt.Fprintf(&w.b, "\n### %s\n\nPart of a value, which is replaced as a whole.\n\n", md.Name())
		w.row([]string{"field", "type", "what", "form", "example"})
		w.row(slices.Repeat([]string{"---"}, 5))
		fields := md.Fields()
		for i := range fields.Len() {
			fd := fields.Get(i)
			rules := rulesOf(fd)
			w.row([]string{
				code(fd.JSONName()), w.typeText(fd, false), cell(rules.GetDoc()), cell(formText(fd, rules)), code(rules.GetExample()),
			})
		}
	}
}

func (w *referenceWriter) typeText(fd protoreflect.FieldDescriptor, open bool) string {
	switch {
	case open:
		return "open object"
	case fd.IsMap():
		return "map of " + w.singleText(fd.MapValue())
	case fd.IsList():
		return "list of " + w.singleText(fd)
	}
	return w.singleText(fd)
}

func (w *referenceWriter) singleText(fd protoreflect.FieldDescriptor) string {
	md := fd.Message()
	if md == nil {
		return kindOf(singular{fd}, false).String()
	}
	if !w.seen[md.FullName()] && !strings.HasPrefix(string(md.FullName()), "google.protobuf.") {
		w.seen[md.FullName()] = true
		w.values = append(w.values, md)
	}
	return string(md.Name())
}

// singular is a field seen as one element of it.
type singular struct{ protoreflect.FieldDescriptor }

func (singular) IsList() bool { return false }
func (singular) IsMap() bool  { return false }

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(s, "|", `\|`) + "`"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
