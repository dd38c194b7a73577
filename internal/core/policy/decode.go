package policy

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// RequestFunc reads a launch request in its published form, which core does not know, and notes what is wrong with it below a path. A
// nil launch means that it noted something.
type RequestFunc func(n *tree.Node, at string, p *tree.Problems) *specpb.Launch

// Decode reads the document of a file of tests. The error is an Invalid fault with every violation, where it stands.
func Decode(n *tree.Node, request RequestFunc) ([]Test, error) {
	d := &decoder{request: request, names: map[string]int{}}
	tests := d.file(n)
	if err := d.problems.Err("the tests cannot be used"); err != nil {
		return nil, err
	}
	return tests, nil
}

type decoder struct {
	request  RequestFunc
	problems tree.Problems
	// names are the positions of the tests by name.
	names map[string]int
}

func (d *decoder) file(n *tree.Node) []Test {
	if !d.object(n, "", "tests") {
		return nil
	}
	list := n.Get("tests")
	switch {
	case list == nil:
		d.problems.Add(n, "tests", "is missing: the list of tests")
	case list.Kind != tree.List:
		d.problems.Add(list, "tests", "expected a list, got %s", list.Kind)
	case len(list.Items) == 0:
		d.problems.Add(list, "tests", "is empty: there is nothing to test")
	case len(list.Items) > MaxTests:
		d.problems.AddReason(fault.ReasonLimitExceeded, list, "tests", "has %d tests, the limit is %d", len(list.Items), MaxTests)
	default:
		tests := make([]Test, len(list.Items))
		for i, item := range list.Items {
			tests[i] = d.test(item, i)
		}
		return tests
	}
	return nil
}

// object reports whether n is an object, and notes keys that are not known.
func (d *decoder) object(n *tree.Node, at string, known ...string) bool {
	if n == nil || n.Kind != tree.Object {
		what := "nothing"
		if n != nil {
			what = n.Kind.String()
		}
		d.problems.Add(n, at, "expected an object, got %s", what)
		return false
	}
	for _, k := range n.Keys {
		if !slices.Contains(known, k.Name) {
			d.problems.Unknown(k, tree.Join(at, k.Name), known, "")
		}
	}
	return true
}

// text returns a text of an object, "" when it is not given.
func (d *decoder) text(n *tree.Node, at, key string) string {
	v := n.Get(key)
	switch at = tree.Join(at, key); {
	case v == nil:
		return ""
	case v.Kind != tree.String:
		d.problems.Add(v, at, "expected text, got %s", v.Kind)
	case v.Text == "" || len(v.Text) > MaxName || strings.ContainsFunc(v.Text, unicode.IsControl):
		d.problems.Add(v, at, "must be one line of 1 to %d bytes", MaxName)
	default:
		return v.Text
	}
	return ""
}

func (d *decoder) test(n *tree.Node, i int) (t Test) {
	at := "tests[" + strconv.Itoa(i) + "]"
	if !d.object(n, at, "name", "runner", "unnamed", "request", "expect") {
		return t
	}
	t.Name = d.text(n, at, "name")
	if n.Get("name") == nil {
		d.problems.Add(n, at+".name", "is missing: results are told by it")
	} else if first, taken := d.names[t.Name]; taken && t.Name != "" {
		d.problems.Add(n.Get("name"), at+".name", "%q is also the name of tests[%d]", t.Name, first)
	} else {
		d.names[t.Name] = i
	}
	if t.Runner = d.text(n, at, "runner"); t.Runner == "" {
		t.Runner = EveryRunner
	}
	if u := n.Get("unnamed"); u != nil {
		if t.Unnamed = u.Text == "true"; u.Kind != tree.Bool {
			d.problems.Add(u, at+".unnamed", "expected true or false, got %s", u.Kind)
		} else if t.Unnamed && t.Runner == AnyRunner {
			d.problems.Add(u, at+".unnamed", "is not for runner: any: which profile such a launch gets is decided by the runner that is drawn; name a runner, or leave it out for each of them")
		}
	}
	d.expect(n, at, &t)
	d.launch(n, at, &t)
	return t
}

// launch reads the request. One that no server takes is refused here, unless its refusal is what is expected: a mistake in it would
// pass for a refusal by policy otherwise.
func (d *decoder) launch(n *tree.Node, at string, t *Test) {
	t.Launch = &specpb.Launch{}
	v := n.Get("request")
	if v == nil {
		return
	}
	at += ".request"
	l := d.request(v, at, &d.problems)
	if l == nil {
		return
	}
	for _, f := range []struct {
		name  string
		given bool
		hint  string
	}{
		{"profile_names", len(l.GetProfileNames()) > 0, "the profile is the one that is tested, under each name that it is bound by; unnamed: true tests a launch that names none"},
		{"profile_ids", len(l.GetProfileIds()) > 0, "the profile is the one that is tested"},
		{"runner_ids", len(l.GetRunnerIds()) > 0, "say it with runner, beside the request"},
	} {
		if f.given {
			d.problems.Add(keyNode(v, f.name), at+"."+f.name, "is not for the request of a test: %s", f.hint)
		}
	}
	t.Launch = l
	if err := launch.Validate(l); err != nil && codeName(fault.CodeOf(err)) != t.Expect.Refusal.Code {
		f := fault.From(err)
		for _, field := range f.Fields {
			d.problems.Add(v, tree.Join(at, field.Path), "%s; no server takes it, whatever the profile: expect code %s if that is what is tested", field.Description, codeName(f.Code))
		}
		if len(f.Fields) == 0 {
			d.problems.Add(v, at, "%s", f.Message)
		}
	}
}

// keyNode returns the value of a key in snake_case or camelCase, else n.
func keyNode(n *tree.Node, name string) *tree.Node {
	for _, key := range []string{name, tree.Camel(name)} {
		if v := n.Get(key); v != nil {
			return v
		}
	}
	return n
}

// field finds the field of a spec that a path means.
func (d *decoder) field(k tree.Key, at string) (string, bool) {
	if f, key, ok := spec.ByPath(k.Name); ok {
		return f.PathOf(key), true
	}
	hint := "no field of a spec"
	if _, group := spec.Profile().CanonicalPath(k.Name); group {
		hint = "has several fields: name those that are meant"
	} else if s := spec.Profile().SuggestPath(k.Name); s != "" {
		hint += "; did you mean " + s + "?"
	}
	d.problems.AddReason(fault.ReasonFieldUnknown, &tree.Node{Line: k.Line, Col: k.Col}, at, "%s", hint)
	return "", false
}

// layer reads the name of a layer.
func (d *decoder) layer(v *tree.Node, at string) string {
	names := []string{resolve.LayerZone.String(), resolve.LayerProfile.String(), resolve.LayerOverride.String(), resolve.LayerRequest.String()}
	if v.Kind != tree.String || !slices.Contains(names, v.Text) {
		d.problems.Add(v, at, "must be one of the layers %s", strings.Join(names, ", "))
		return ""
	}
	return v.Text
}
