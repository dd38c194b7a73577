package cli

import (
	"fmt"
	"slices"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// runnerState is what of a runner can be edited: the object as it is on the wire, and its bindings.
type runnerState struct {
	id       string
	runner   *tree.Node
	bindings []runnerBinding
}

// runnerBinding is a binding that is there, with whatever it says, or one to be of a profile.
type runnerBinding struct {
	name, profile string
	have          *tree.Node
	isDefault     bool
}

func runnerStateOf(n *tree.Node) *runnerState {
	st := &runnerState{id: textAt(n, "identity", "runnerId"), runner: n}
	if list := n.Get("profileBindings"); list != nil {
		for _, b := range list.Items {
			st.bindings = append(st.bindings, runnerBinding{name: first(textAt(b, "profileName"), textAt(b, "profileTemplateId")), have: b, isDefault: textAt(b, "isDefault") == "true"})
		}
	}
	return st
}

func (st *runnerState) names() (out []string) {
	for _, b := range st.bindings {
		out = append(out, b.name)
	}
	return out
}

func (st *runnerState) byDefault() string {
	for _, b := range st.bindings {
		if b.isDefault {
			return b.name
		}
	}
	return ""
}

// setDefault makes one binding the default, and no other.
func (st *runnerState) setDefault(name string) error {
	if !slices.Contains(st.names(), name) {
		return fault.NotFoundf(fault.ReasonBindingNotFound, "there is no binding %s to be the default", name)
	}
	for i := range st.bindings {
		st.bindings[i].isDefault = st.bindings[i].name == name
	}
	return nil
}

// list is the bindings as a file has them.
func (st *runnerState) list() *tree.Node {
	list := &tree.Node{Kind: tree.List}
	for _, b := range st.bindings {
		n := b.have
		if n == nil {
			n = putAt(nil, []string{"profile"}, &tree.Node{Kind: tree.String, Text: b.profile})
		}
		list.Items = append(list.Items, putAt(n, []string{"is_default"}, &tree.Node{Kind: tree.Bool, Text: fmt.Sprint(b.isDefault)}))
	}
	return list
}

// words are the flags that make this state of another one.
func (st *runnerState) words(from *runnerState, create bool) (words []string) {
	for _, r := range runnerFields {
		if is := r.of(st.runner); is != r.of(from.runner) {
			words = append(words, "--"+r.flag, is)
		}
	}
	if create {
		first := st.byDefault()
		for _, name := range append([]string{first}, slices.DeleteFunc(st.names(), func(n string) bool { return n == first })...) {
			if name != "" {
				words = append(words, "--profile", name)
			}
		}
		return words
	}
	for _, name := range from.names() {
		if !slices.Contains(st.names(), name) {
			words = append(words, "--unbind", name)
		}
	}
	for _, name := range st.names() {
		if !slices.Contains(from.names(), name) {
			words = append(words, "--bind", name)
		}
	}
	if is := st.byDefault(); is != from.byDefault() {
		words = append(words, "--default", is)
	}
	return words
}
