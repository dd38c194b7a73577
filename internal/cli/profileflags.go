package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

// profileFlags say what a profile is to be, or what of it is to change.
type profileFlags struct {
	description string
	labels      []string
	fields      fieldFlags
	// ask are the parts of the spec that the wizard asks about.
	ask []string
}

func (f *profileFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.description, "description", "", "what the profile is for")
	c.Flags().StringArrayVar(&f.labels, "label", nil, "label of the profile, KEY=VALUE, or KEY- for none any more, repeatable")
	f.fields.add(c, "the spec")
	c.Flags().StringArrayVar(&f.ask, "ask", nil, "part of the spec that is asked about, such as network.egress, repeatable; default: that is asked, too")
	exclusive(c, "file", "description", "label", "set", "clear", "inherit", "ask")
}

// given reports that the flags say something about the profile.
func (f *profileFlags) given(c *cobra.Command) bool {
	return c.Flags().Changed("description") || len(f.labels) > 0 || f.fields.given()
}

// profileState is what of a profile can be edited.
type profileState struct {
	id, name, etag, description string
	labels                      map[string]string
	spec                        *spec.Layer
}

func profileStateOf(raw json.RawMessage) (*profileState, error) {
	n, err := answer(raw)
	if err != nil {
		return nil, err
	}
	st := &profileState{id: textAt(n, "id"), name: textAt(n, "displayName"), etag: textAt(n, "etag"), description: textAt(n, "description"), labels: map[string]string{}}
	if labels := n.Get("labels"); labels != nil {
		for _, k := range labels.Keys {
			st.labels[k.Name] = k.Value.Text
		}
	}
	text := []byte("{}")
	if have := n.Get("spec"); have != nil {
		text = have.JSON()
	}
	st.spec, err = spec.ParseLayer(text)
	return st, err
}

// apply returns the profile that the flags make of one.
func (f *profileFlags) apply(c *cobra.Command, st *profileState) (*profileState, error) {
	next := *st
	next.labels = maps.Clone(st.labels)
	if c.Flags().Changed("description") {
		next.description = f.description
	}
	for _, l := range f.labels {
		k, v, ok := strings.Cut(l, "=")
		if gone, is := strings.CutSuffix(l, "-"); is && !ok {
			delete(next.labels, gone)
			continue
		}
		if !ok || k == "" {
			return nil, fault.Invalidf("USAGE", "--label %s: want KEY=VALUE, or KEY- for none any more", l)
		}
		next.labels[k] = v
	}
	for _, part := range f.ask {
		if !slices.Contains(specParts(), part) {
			return nil, fault.Invalidf("USAGE", "--ask %s: there is no such part of a spec", part).WithHint("The parts are %s.", strings.Join(specParts(), ", "))
		}
	}
	if !f.fields.given() {
		return &next, nil
	}
	var err error
	next.spec, err = f.fields.edit(st.spec)
	return &next, err
}

// wire is the profile as a request has it, of the fields of a mask all that are named.
func (st *profileState) wire(fields ...string) map[string]any {
	out := map[string]any{}
	for _, f := range fields {
		switch f {
		case "display_name":
			out["displayName"] = st.name
		case "description":
			out["description"] = st.description
		case "labels":
			out["labels"] = st.labels
		case "spec":
			out["spec"] = json.RawMessage(st.spec.WireJSON())
		}
	}
	return out
}

// changed are the fields in which a profile differs from another state of it.
func (st *profileState) changed(from *profileState) (fields []string) {
	if st.description != from.description {
		fields = append(fields, "description")
	}
	if !maps.Equal(st.labels, from.labels) {
		fields = append(fields, "labels")
	}
	if st.spec.String() != from.spec.String() {
		fields = append(fields, "spec")
	}
	return fields
}

// words are the flags that make this state of another one.
func (st *profileState) words(from *profileState) (words []string) {
	if st.description != from.description {
		words = append(words, "--description", st.description)
	}
	for _, k := range slices.Sorted(maps.Keys(st.labels)) {
		if v, ok := from.labels[k]; !ok || v != st.labels[k] {
			words = append(words, "--label", fmt.Sprintf("%s=%s", k, st.labels[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(from.labels)) {
		if _, ok := st.labels[k]; !ok {
			words = append(words, "--label", k+"-")
		}
	}
	f := layerFlags(from.spec, st.spec)
	for _, s := range f.set {
		words = append(words, "--set", s)
	}
	for _, s := range f.clear {
		words = append(words, "--clear", s)
	}
	for _, s := range f.inherit {
		words = append(words, "--inherit", s)
	}
	return words
}
