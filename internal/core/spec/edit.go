package spec

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// Edit returns base (nil is the empty layer) with single statements changed: the paths of inherit are stated no more, each of set is
// then PATH=VALUE, and the paths of clear are stated to have no value. A path may name a field, a key of an open object or an entry of a
// map, in brackets. VALUE is JSON; what is no JSON, or not of the field's kind, is tried as text. What fields say of each other is
// checked of the whole, so their order does not matter. The error is an Invalid fault with every violation.
func Edit(base *Layer, set, clear, inherit []string) (*Layer, error) {
	return profile().Edit(base, set, clear, inherit)
}

// Edit is the function of that name for the fields of r.
func (r *Registry) Edit(base *Layer, set, clear, inherit []string) (*Layer, error) {
	if base == nil {
		base = &Layer{registry: r}
	}
	e := &editor{registry: r, layer: base}
	for _, path := range inherit {
		e.state(path, Absent)
	}
	for _, s := range set {
		path, value, ok := strings.Cut(s, "=")
		if !ok {
			e.problems.Add(nil, s, "want PATH=VALUE")
			continue
		}
		e.set(path, value)
	}
	for _, path := range clear {
		e.state(path, Cleared)
	}
	if e.problems.Len() == 0 {
		whole, err := r.ParseLayer(e.layer.JSON())
		if err == nil {
			return whole, nil
		}
		e.refuse(err)
	}
	return nil, e.problems.Err("invalid change of a spec")
}

type editor struct {
	registry *Registry
	layer    *Layer
	problems tree.Problems
}

// find returns the field that a path means, and its canonical path.
func (e *editor) find(path string) (f *Field, key, canonical string, ok bool) {
	if f, key, ok = e.registry.ByPath(path); ok {
		return f, key, f.PathOf(key), true
	}
	hint := ""
	if s := e.registry.SuggestPath(path); s != "" {
		hint = "; did you mean " + s + "?"
	}
	e.problems.AddReason(fault.ReasonFieldUnknown, nil, path, "no field of a spec%s", hint)
	return nil, "", "", false
}

func (e *editor) set(path, value string) {
	f, key, path, ok := e.find(path)
	if !ok {
		return
	}
	quoted, _ := json.Marshal(value)
	candidates := []json.RawMessage{quoted}
	if json.Valid([]byte(value)) {
		candidates = []json.RawMessage{json.RawMessage(value), quoted}
	}
	var firstErr error
	for _, text := range candidates {
		next, err := e.with(f, key, path, text)
		if err == nil {
			e.layer = next
			return
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	e.refuse(firstErr)
}

// with returns the layer with one value of the field's kind.
func (e *editor) with(f *Field, key, path string, text json.RawMessage) (*Layer, error) {
	if key != "" && !f.Open { // an entry of a map, which is one value
		entries := map[string]json.RawMessage{}
		if i := slices.IndexFunc(e.layer.leaves, func(l Leaf) bool { return l.Field == f && l.State == Set }); i >= 0 {
			if err := json.Unmarshal(e.layer.leaves[i].JSON(), &entries); err != nil {
				return nil, fault.Internalf(err, "%s is no map", f.Path)
			}
		}
		entries[key] = text
		whole, err := json.Marshal(entries)
		if err != nil {
			return nil, fault.Internalf(err, "encode %s", f.Path)
		}
		path, text = f.Path, whole
	}
	return e.registry.Apply(e.layer, []Change{{Path: path, New: text, NewState: Set}})
}

func (e *editor) state(path string, to State) {
	f, key, path, ok := e.find(path)
	if !ok {
		return
	}
	if key != "" && !f.Open {
		e.problems.Add(nil, path, "is an entry of %s, which is stated as a whole: set it without the entry", f.Path)
		return
	}
	if to == Absent && !slices.ContainsFunc(e.layer.leaves, func(l Leaf) bool { return l.Field == f && l.Key == key }) {
		e.problems.Add(nil, path, "is not stated there")
		return
	}
	next, err := e.registry.Apply(e.layer, []Change{{Path: path, NewState: to}})
	if err != nil {
		e.refuse(err)
		return
	}
	e.layer = next
}

func (e *editor) refuse(err error) {
	for _, f := range fault.From(err).Fields {
		e.problems.AddReason(fault.From(err).Reason, nil, f.Path, "%s", f.Description)
	}
}
