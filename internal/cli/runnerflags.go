package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// runnerField is a field of a runner that a flag sets, and a prompt of the wizard asks for. Its kind is that of the schema.
type runnerField struct {
	flag, path, title, doc string
	// needed: a runner has one. fixed: it is said when the runner is made, and never changes.
	needed, fixed bool
}

var runnerFields = []runnerField{
	{flag: "zone", path: "identity.zone", title: "Zone", doc: "zone of the runner, whose defaults are beneath every profile", needed: true},
	{flag: "cluster", path: "identity.cluster_name", title: "Cluster", doc: "name of its cluster", needed: true, fixed: true},
	{flag: "display-name", path: "display_name", title: "Display name", doc: "name of the runner for people"},
	{flag: "group", path: "identity.runner_group_id", title: "Runner group", doc: "group that profiles order runners by"},
	{flag: "release-channel", path: "managed_spec.release_channel", title: "Release channel", doc: "versions that the runner's process follows"},
	{flag: "cpu-runtime-class", path: "managed_spec.overrides.cpu_runtime_class", title: "Runtime class without a GPU", doc: "runtime class of sandboxes without a GPU"},
	{flag: "gpu-runtime-class", path: "managed_spec.overrides.gpu_runtime_class", title: "Runtime class with a GPU", doc: "runtime class of sandboxes with a GPU"},
	{flag: "enforce-resource-limits", path: "managed_spec.enforce_resource_limits", title: "Enforce resource limits", doc: "whether CPU and memory limits are mandatory"},
	{flag: "allow-privileged-profile-annotations", path: "managed_spec.allow_privileged_profile_annotations", title: "Allow privileged annotations", doc: "whether profiles may carry pod annotations that are reserved otherwise"},
}

// descriptor is the field in the schema of a runner.
func (f runnerField) descriptor() protoreflect.FieldDescriptor {
	md := (&v1beta2pb.Runner{}).ProtoReflect().Descriptor()
	var fd protoreflect.FieldDescriptor
	for _, name := range strings.Split(f.path, ".") {
		fd = md.Fields().ByTextName(name)
		md = fd.Message()
	}
	return fd
}

// values are the answers to a field with a closed set of them, as people write them; nil for text.
func (f runnerField) values() (out []string) {
	fd := f.descriptor()
	switch {
	case fd.Kind() == protoreflect.BoolKind:
		return []string{"true", "false"}
	case fd.Enum() != nil:
		for i := 1; i < fd.Enum().Values().Len(); i++ { // the first one is that nothing is said
			out = append(out, strings.ToLower(strings.TrimPrefix(string(fd.Enum().Values().Get(i).Name()), f.prefix())))
		}
	}
	return out
}

// prefix is what the wire puts in front of the values of an enum.
func (f runnerField) prefix() string {
	if fd := f.descriptor(); fd.Enum() != nil {
		return strings.TrimSuffix(string(fd.Enum().Values().Get(0).Name()), "UNSPECIFIED")
	}
	return ""
}

// of is what a runner has in the field, as people write it.
func (f runnerField) of(runner *tree.Node) string {
	n := runner
	for _, name := range strings.Split(f.path, ".") {
		n = field(n, name)
	}
	if n == nil || n.Kind == tree.Null || f.descriptor().Kind() == protoreflect.BoolKind && n.Text == "false" {
		return ""
	}
	if prefix := f.prefix(); prefix != "" {
		if n.Text == prefix+"UNSPECIFIED" {
			return ""
		}
		return strings.ToLower(strings.TrimPrefix(n.Text, prefix))
	}
	return n.Text
}

// put returns the runner with another value in the field; none for "".
func (f runnerField) put(runner *tree.Node, value string) *tree.Node {
	n := &tree.Node{Kind: tree.String, Text: value}
	if f.prefix() != "" {
		n.Text = enumName(f.prefix(), value)
	}
	switch {
	case value == "":
		n = nil
	case f.descriptor().Kind() == protoreflect.BoolKind:
		n.Kind = tree.Bool
	}
	return putAt(runner, strings.Split(f.path, "."), n)
}

// putAt returns an object with another value at a path, in snake_case; nil takes it away.
func putAt(n *tree.Node, path []string, value *tree.Node) *tree.Node {
	if n == nil {
		n = &tree.Node{Kind: tree.Object}
	}
	out := without(n, path[0], tree.Camel(path[0]))
	if len(path) > 1 {
		value = putAt(field(n, path[0]), path[1:], value)
	}
	if value != nil {
		out.Keys = append(out.Keys, tree.Key{Name: path[0], Value: value})
	}
	return out
}

// runnerSetFlags say what a runner is to be, or what of it is to change.
type runnerSetFlags struct {
	values map[string]*string
	// profiles are those of a new runner; bind, unbind and isDefault change the bindings of one that is there.
	profiles, bind, unbind []string
	isDefault              string
}

func (f *runnerSetFlags) add(c *cobra.Command, create bool) {
	f.values = map[string]*string{}
	var names []string
	for _, r := range runnerFields {
		if r.fixed && !create {
			continue
		}
		doc := r.doc
		if values := r.values(); values != nil {
			doc += ": " + strings.Join(values, " or ")
		}
		f.values[r.flag] = c.Flags().String(r.flag, "", doc)
		names = append(names, r.flag)
	}
	if create {
		c.Flags().StringArrayVar(&f.profiles, "profile", nil, "profile to bind, repeatable; the first is the default")
		names = append(names, "profile")
	} else {
		c.Flags().StringArrayVar(&f.bind, "bind", nil, "profile to bind beside those that are, repeatable")
		c.Flags().StringArrayVar(&f.unbind, "unbind", nil, "binding to take away, repeatable")
		c.Flags().StringVar(&f.isDefault, "default", "", "binding that launches get which name none")
		names = append(names, "bind", "unbind", "default")
	}
	exclusive(c, "file", names...)
}

// given reports that the flags say something about the runner.
func (f *runnerSetFlags) given(c *cobra.Command) bool {
	for flag := range f.values {
		if c.Flags().Changed(flag) {
			return true
		}
	}
	return len(f.profiles)+len(f.bind)+len(f.unbind) > 0 || f.isDefault != ""
}

// missing are the flags that a new runner needs and that are not given.
func (f *runnerSetFlags) missing() (out []string) {
	for _, r := range runnerFields {
		if r.needed && *f.values[r.flag] == "" {
			out = append(out, "--"+r.flag)
		}
	}
	if len(f.profiles) == 0 {
		out = append(out, "--profile")
	}
	return out
}

// apply returns the runner that the flags make of one.
func (f *runnerSetFlags) apply(c *cobra.Command, st *runnerState) (*runnerState, error) {
	next := *st
	next.bindings = slices.Clone(st.bindings)
	for _, r := range runnerFields {
		if v := f.values[r.flag]; v != nil && c.Flags().Changed(r.flag) {
			if values := r.values(); values != nil && *v != "" && !slices.Contains(values, *v) {
				return nil, fault.Invalidf("USAGE", "--%s %s: it is one of %s", r.flag, *v, strings.Join(values, ", "))
			}
			next.runner = r.put(next.runner, *v)
		}
	}
	for _, name := range f.unbind {
		i := slices.IndexFunc(next.bindings, func(b runnerBinding) bool { return b.name == name })
		if i < 0 {
			return nil, fault.NotFoundf(fault.ReasonBindingNotFound, "there is no binding %s to take away", name)
		}
		next.bindings = slices.Delete(next.bindings, i, i+1)
	}
	for _, p := range slices.Concat(f.profiles, f.bind) {
		next.bindings = append(next.bindings, runnerBinding{name: p, profile: p})
	}
	switch {
	case f.isDefault != "":
		return &next, next.setDefault(f.isDefault)
	case len(f.profiles) > 0:
		return &next, next.setDefault(f.profiles[0])
	}
	return &next, nil
}
