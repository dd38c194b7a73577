package kube

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/backend"
)

// comparePods compares what anybody may set of a pod: its spec, and of its metadata what is not bookkeeping. It is pure.
func comparePods(submitted, held map[string]any) *comparison {
	c := &comparison{owners: ownersOf(held), held: held}
	c.value("spec", submitted["spec"], held["spec"])
	given, _ := submitted["metadata"].(map[string]any)
	meta, _ := held["metadata"].(map[string]any)
	for _, name := range []string{"annotations", "finalizers", "labels", "ownerReferences"} {
		c.value("metadata."+name, given[name], meta[name])
	}
	return c
}

// drift is what was found, in order and within bounds.
func (c *comparison) drift() *backend.Drift {
	slices.SortFunc(c.found, func(a, b backend.DriftField) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), bytes.Compare(a.Submitted, b.Submitted), bytes.Compare(a.Held, b.Held))
	})
	out := &backend.Drift{Fields: c.found}
	if n := len(c.found); n > backend.MaxDrift {
		out.Fields, out.Omitted = c.found[:backend.MaxDrift], n-backend.MaxDrift
	}
	return out
}

// comparison is one walk over two objects. No value is the same as none: nil.
type comparison struct {
	held map[string]any
	// of is the object, "" for the pod, else as paths begin: "service.".
	of     string
	owners map[string]owner
	found  []backend.DriftField
}

func (c *comparison) value(path string, submitted, held any) {
	if reflect.DeepEqual(submitted, held) || submitted == withheld {
		return
	}
	a, isMap := submitted.(map[string]any)
	b, isMap2 := held.(map[string]any)
	if (isMap || submitted == nil) && (isMap2 || held == nil) && len(a)+len(b) > 0 {
		c.fields(path, a, b)
		return
	}
	x, isList := submitted.([]any)
	y, isList2 := held.([]any)
	if (isList || submitted == nil) && (isList2 || held == nil) && len(x)+len(y) > 0 && ofObjects(x) && ofObjects(y) {
		c.elements(path, x, y)
		return
	}
	c.differ(path, submitted, held)
}

// ours are annotations that are put on what was submitted, about it.
var ours = []string{"metadata.annotations." + AnnotationSubmitted, "metadata.annotations." + AnnotationSubmittedAt, "metadata.annotations." + AnnotationTrace,
	"metadata.annotations." + AnnotationWanted, "metadata.annotations." + AnnotationExposed}

func (c *comparison) fields(path string, a, b map[string]any) {
	names := maps.Clone(a)
	if names == nil {
		names = map[string]any{}
	}
	maps.Copy(names, b)
	for name := range names {
		if at := path + "." + name; !slices.Contains(ours, at) {
			c.value(at, a[name], b[name])
		}
	}
}

// elements compares lists whose elements have names, or are a set.
func (c *comparison) elements(path string, a, b []any) {
	x, y := named(a), named(b)
	names := maps.Clone(x)
	maps.Copy(names, y)
	for name := range names {
		at := path + "[" + name + "]"
		if strings.HasPrefix(name, nameless) {
			at = path + "[]"
		}
		if x[name] == nil || y[name] == nil { // as a whole
			c.differ(at, x[name], y[name])
		} else {
			c.value(at, x[name], y[name])
		}
	}
}

// identities are the fields that tell elements of lists apart, the first that an element has.
var identities = []string{"mountPath", "devicePath", "containerPort", "port", "uid", "topologyKey", "ip", "name"}

// nameless begins what tells an element apart that has none of identities: all of it.
const nameless = "{}"

// named returns the elements of a list by what tells them apart.
func named(list []any) map[string]any {
	out := make(map[string]any, len(list))
	for _, element := range list {
		name := identity(element.(map[string]any))
		for n, first := 2, name; out[name] != nil; n++ {
			name = first + "#" + strconv.Itoa(n)
		}
		out[name] = element
	}
	return out
}

func identity(element map[string]any) string {
	for _, field := range identities {
		if v, ok := element[field]; ok {
			name := fmt.Sprint(v)
			if protocol, ok := element["protocol"]; ok && strings.HasSuffix(strings.ToLower(field), "port") && protocol != "TCP" {
				name += fmt.Sprint("/", protocol)
			}
			return name
		}
	}
	return nameless + string(encoded(element))
}

func ofObjects(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(map[string]any); return !ok })
}

func (c *comparison) differ(path string, submitted, held any) {
	f := backend.DriftField{Path: path, Kind: backend.DriftChanged, Submitted: encoded(submitted), Held: encoded(held)}
	switch {
	case submitted == nil:
		f.Kind, f.Filled = backend.DriftAdded, c.filled(path, held)
	case held == nil:
		f.Kind = backend.DriftRemoved
	}
	if !f.Filled && held != nil {
		f.By, f.At = ownerOf(c.owners, path)
	}
	c.found = append(c.found, f)
}

// encoded returns JSON, nil for no value.
func encoded(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	out, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return out
}
