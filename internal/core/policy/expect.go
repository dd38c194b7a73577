package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// The verdicts.
const (
	admitted = "admitted"
	refused  = "refused"
)

func (d *decoder) expect(n *tree.Node, at string, t *Test) {
	e := n.Get("expect")
	at += ".expect"
	if e == nil {
		d.problems.Add(n, at, "is missing: a test that expects nothing cannot fail")
		return
	}
	if !d.object(e, at, "verdict", "code", "reason", "path", "layer", "values", "origins", "placed") {
		return
	}
	verdict := e.Get("verdict")
	switch {
	case verdict == nil:
		d.problems.Add(e, at+".verdict", "is missing: %s or %s", admitted, refused)
		return
	case verdict.Text != admitted && verdict.Text != refused:
		d.problems.Add(verdict, at+".verdict", "must be %s or %s", admitted, refused)
		return
	}
	t.Expect.Admitted = verdict.Text == admitted
	d.fits(e, at, t)
	d.refusal(e, at, &t.Expect.Refusal)
	d.values(e.Get("values"), at+".values", t)
	d.origins(e.Get("origins"), at+".origins", t)
	d.placed(e.Get("placed"), at+".placed", t)
}

// fits refuses what does not go with the verdict: it would never be looked at.
func (d *decoder) fits(e *tree.Node, at string, t *Test) {
	keys, what := []string{"code", "reason", "path", "layer"}, "a launch that is admitted has none"
	if !t.Expect.Admitted {
		keys, what = []string{"values", "origins", "placed"}, "a launch that is refused has none"
	}
	for _, key := range keys {
		if v := e.Get(key); v != nil {
			d.problems.Add(v, at+"."+key, "%s", what)
		}
	}
}

func (d *decoder) refusal(e *tree.Node, at string, r *Refusal) {
	r.Code = d.text(e, at, "code")
	if names := codeNames(); r.Code != "" && !slices.Contains(names, r.Code) {
		d.problems.Add(e.Get("code"), at+".code", "must be one of %s", strings.Join(names, ", "))
	}
	r.Reason = d.text(e, at, "reason")
	if r.Path = d.text(e, at, "path"); r.Path != "" {
		if rest, both := strings.CutPrefix(r.Path, "resources."); both { // it sets request and limit, and the limit is what is refused
			r.Path = "resource_limits." + rest
		}
		if path, ok := launch.SpecPath(r.Path); ok {
			r.Path = path
		} else if f, key, ok := spec.ByPath(r.Path); ok {
			r.Path = f.PathOf(key)
		} // Else a field of the request that concerns the sandbox alone.
	}
	if v := e.Get("layer"); v != nil {
		r.Layer = d.layer(v, at+".layer")
	}
}

// entries returns the keys of an object that is not empty.
func (d *decoder) entries(n *tree.Node, at string) []tree.Key {
	switch {
	case n == nil:
	case n.Kind != tree.Object:
		d.problems.Add(n, at, "expected an object whose keys are paths of a spec, got %s", n.Kind)
	case len(n.Keys) == 0:
		d.problems.Add(n, at, "is empty: it expects nothing")
	case len(n.Keys) > MaxExpected:
		d.problems.AddReason(fault.ReasonLimitExceeded, n, at, "has %d entries, the limit is %d", len(n.Keys), MaxExpected)
	default:
		return n.Keys
	}
	return nil
}

func (d *decoder) values(n *tree.Node, at string, t *Test) {
	for _, k := range d.entries(n, at) {
		at := at + "[" + k.Name + "]"
		path, ok := d.field(k, at)
		if !ok {
			continue
		}
		v := Value{Path: path, Value: k.Value.JSON()}
		if err := v.compile(k.Value); err != nil {
			for _, f := range fault.From(err).Fields {
				d.problems.Add(k.Value, at, "%s", f.Description)
			}
			continue
		}
		t.Expect.Values = append(t.Expect.Values, v)
	}
}

// compile makes the statement that the value is compared with.
func (v *Value) compile(n *tree.Node) error {
	if n.Kind == tree.Null {
		return nil
	}
	text := string(v.Value)
	if n.Kind == tree.String {
		text = n.Text
	}
	if f, _, _ := spec.ByPath(v.Path); f.Derived { // no layer states it, so there is no statement to compare
		if v.derived = true; f.Kind == spec.KindString && n.Kind != tree.String {
			return fault.Invalidf(fault.ReasonFieldInvalid, "invalid value").WithField(v.Path, "expected a string, got %s", n.Kind)
		}
		return nil
	}
	var err error
	v.leaf, err = statement(v.Path, text)
	return err
}

// statement returns what a layer with this value alone says of a field, or of an entry of a map.
func statement(path, value string) (spec.Leaf, error) {
	l, err := spec.Edit(nil, []string{path + "=" + value}, nil, nil)
	if err != nil {
		return spec.Leaf{}, err
	}
	f, key, _ := spec.ByPath(path)
	for _, leaf := range l.Leaves() {
		if leaf.Field == f && leaf.Key == key {
			return leaf, nil
		}
		if leaf.Field == f && key != "" {
			return entryOf(leaf, key)
		}
	}
	return spec.Leaf{}, fault.Invalidf(fault.ReasonFieldInvalid, "invalid value").WithField(path, "cannot be compared")
}

func (d *decoder) origins(n *tree.Node, at string, t *Test) {
	for _, k := range d.entries(n, at) {
		at := at + "[" + k.Name + "]"
		path, ok := d.field(k, at)
		if layer := d.layer(k.Value, at); ok && layer != "" {
			t.Expect.Origins = append(t.Expect.Origins, Origin{Path: path, Layer: layer})
		}
	}
}

// placed reads the id of a runner, or a list of some.
func (d *decoder) placed(n *tree.Node, at string, t *Test) {
	if n == nil {
		return
	}
	if t.Runner != AnyRunner {
		d.problems.Add(n, at, "needs runner: any beside the request: elsewhere the test itself says where")
	}
	items := []*tree.Node{n}
	if n.Kind == tree.List {
		items = n.Items
	}
	if len(items) == 0 || len(items) > MaxExpected {
		d.problems.Add(n, at, "must name 1 to %d runners", MaxExpected)
	}
	for i, item := range items {
		if item.Kind != tree.String || item.Text == "" || len(item.Text) > MaxName {
			d.problems.Add(item, at+"["+strconv.Itoa(i)+"]", "must be the id of a runner")
			continue
		}
		t.Expect.Placed = append(t.Expect.Placed, item.Text)
	}
}
