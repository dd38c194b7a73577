package policy

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// fact is what a plan has at a path.
type fact struct {
	// leaf is the value as a statement; its zero value is none.
	leaf     spec.Leaf
	origin   *resolve.Origin
	shadowed []resolve.Shadow
}

// at returns what a plan has at a path: a guardrail as all layers make it together, any other field as it was resolved.
func at(p *plan.Plan, path string) fact {
	f, key, ok := spec.ByPath(path)
	switch {
	case !ok:
		return fact{}
	case f.Guardrail:
		return guardrailAt(p, path)
	}
	if v, ok := p.Resolved.At(f, key); ok || key == "" {
		return fact{*v.Leaf, v.Origin, v.Shadowed}
	}
	whole, ok := p.Resolved.At(f, "") // an entry of a map, which belongs to whoever sets the map
	if !ok {
		return fact{}
	}
	entry, err := entryOf(*whole.Leaf, key)
	if err != nil {
		return fact{}
	}
	return fact{leaf: entry, origin: whole.Origin}
}

func guardrailAt(p *plan.Plan, path string) fact {
	for _, b := range p.Bounds() {
		if b.Path != path {
			continue
		}
		leaf, err := statement(path, string(b.Value))
		if err != nil { // several conditions that one statement cannot say
			leaf = spec.Leaf{}
		}
		return fact{leaf: leaf, origin: b.Owner.Origin}
	}
	return fact{}
}

// entryOf returns one entry of a map as a statement; the zero Leaf when the map does not have it.
func entryOf(whole spec.Leaf, key string) (spec.Leaf, error) {
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(whole.JSON(), &entries); err != nil {
		return spec.Leaf{}, fault.Invalidf(fault.ReasonFieldInvalid, "invalid value").WithField(whole.Path(), "has no entries")
	}
	if _, ok := entries[key]; !ok {
		return spec.Leaf{}, nil
	}
	for other := range entries {
		if other != key {
			delete(entries, other)
		}
	}
	text, err := json.Marshal(entries)
	if err != nil {
		return spec.Leaf{}, fault.Internalf(err, "encode an entry of %s", whole.Path())
	}
	l, err := spec.Edit(nil, []string{whole.Path() + "=" + string(text)}, nil, nil)
	if err != nil || len(l.Leaves()) != 1 {
		return spec.Leaf{}, err
	}
	return l.Leaves()[0], nil
}

func (f fact) has() bool { return f.leaf.State == spec.Set }

// String returns the value for people.
func (f fact) String() string {
	switch {
	case f.has():
		return f.leaf.String()
	case f.leaf.State == spec.Cleared:
		return "no value (cleared)"
	}
	return "no value"
}

// is reports whether the value is the one expected. Quantities are compared by their amount.
func (v *Value) is(f fact) bool {
	if v.derived {
		return bytes.Equal(v.Value, f.leaf.JSON())
	}
	if v.leaf.State != spec.Set || !f.has() {
		return (v.leaf.State == spec.Set) == f.has()
	}
	return bytes.Equal(v.leaf.JSON(), f.leaf.JSON()) || spec.ChangeBetween(v.leaf, f.leaf).SameAmount
}

func (v *Value) text() string {
	switch {
	case v.derived:
		return strings.Trim(string(v.Value), `"`)
	case v.leaf.State != spec.Set:
		return "no value"
	}
	return v.leaf.String()
}

// compare returns in what a plan differs from what is expected of its fields.
func compare(p *plan.Plan, e *Expect) []Failure {
	var out []Failure
	for i := range e.Values {
		v := &e.Values[i]
		if f := at(p, v.Path); !v.is(f) {
			out = append(out, Failure{Aspect: "value", Path: v.Path, Expected: v.text(), Actual: f.String(), Origin: f.origin, Shadowed: f.shadowed})
		}
	}
	for _, o := range e.Origins {
		f, actual := at(p, o.Path), "no layer"
		if f.origin != nil {
			actual = f.origin.Layer.String()
		}
		if actual != o.Layer {
			out = append(out, Failure{Aspect: "origin", Path: o.Path, Expected: o.Layer, Actual: actual, Origin: f.origin, Shadowed: f.shadowed})
		}
	}
	return out
}

// codes are the codes of refusals, by their names in answers.
var codes = []struct {
	code fault.Code
	name string
}{
	{fault.Invalid, "INVALID_ARGUMENT"},
	{fault.NotFound, "NOT_FOUND"},
	{fault.Precondition, "FAILED_PRECONDITION"},
	{fault.Exhausted, "RESOURCE_EXHAUSTED"},
	{fault.Unavailable, "UNAVAILABLE"},
	{fault.Unimplemented, "UNIMPLEMENTED"},
}

func codeNames() []string {
	names := make([]string, len(codes))
	for i, c := range codes {
		names[i] = c.name
	}
	return names
}

func codeName(c fault.Code) string {
	for _, known := range codes {
		if known.code == c {
			return known.name
		}
	}
	return c.String()
}

// judge returns in what a refusal differs from the one expected.
func (r *Refusal) judge(err error) []Failure {
	f := fault.From(err)
	var out []Failure
	if r.Code != "" && codeName(f.Code) != r.Code {
		out = append(out, Failure{Aspect: "code", Expected: r.Code, Actual: codeName(f.Code) + ": " + f.Message})
	}
	if r.Reason == "" && r.Path == "" && r.Layer == "" {
		return out
	}
	reasons := reasonsOf(f)
	if slices.ContainsFunc(reasons, func(reason plan.Reason) bool { return r.matches(f, reason) }) {
		return out
	}
	miss := Failure{Aspect: "refusal", Expected: r.text(), Actual: f.Message}
	if len(reasons) > 0 {
		miss.Actual, miss.Origin = reasonText(reasons), reasons[0].LimitOrigin
	}
	return append(out, miss)
}

func (r *Refusal) matches(f *fault.Error, reason plan.Reason) bool {
	layer := ""
	if reason.LimitOrigin != nil {
		layer = reason.LimitOrigin.Layer.String()
	}
	return (r.Reason == "" || r.Reason == string(reason.Code) || r.Reason == f.Reason) &&
		(r.Path == "" || r.Path == reason.Path) && (r.Layer == "" || r.Layer == layer)
}

func (r *Refusal) text() string {
	var parts []string
	for _, p := range []struct{ name, value string }{{"reason ", r.Reason}, {"path ", r.Path}, {"layer ", r.Layer}} {
		if p.value != "" {
			parts = append(parts, p.name+p.value)
		}
	}
	return strings.Join(parts, ", ")
}

// reasonsOf returns all that refuses a launch, at whatever binding. A request that is wrong in itself has its violations.
func reasonsOf(f *fault.Error) []plan.Reason {
	var out []plan.Reason
	if r, ok := f.Detail.(*plan.Refusal); ok {
		for _, c := range r.Candidates {
			out = append(out, c.Reasons...)
		}
		return out
	}
	for _, field := range f.Fields {
		out = append(out, plan.Reason{Path: field.Path, Message: field.Description})
	}
	return append(out, plan.Reason{Message: f.Message})
}

func reasonText(reasons []plan.Reason) string {
	var parts []string
	for _, r := range reasons {
		text := string(r.Code)
		if r.Path != "" {
			text += " of " + r.Path
		}
		if r.LimitOrigin != nil {
			text += " by layer " + r.LimitOrigin.Layer.String()
		}
		parts = append(parts, strings.TrimSpace(text+": "+r.Message))
	}
	return strings.Join(parts, "; ")
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
