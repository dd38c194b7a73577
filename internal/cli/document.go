package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// A document is what `get` prints and an editor opens: the fields that a file may have, named and ordered as in docs/fields.md,
// under a comment with what the server adds. What it prints can be edited and given back with -f.

// profileDocument shows a profile as it came from the server.
func profileDocument(raw json.RawMessage) ([]byte, error) {
	n, err := answer(expandSpec(raw))
	if err != nil {
		return nil, err
	}
	return document(n, "profile "+textAt(n, "displayName"), writable(n, (&v1beta2pb.ProfileTemplate{}).ProtoReflect().Descriptor(), "display_name", "description", "labels", "spec"))
}

// zoneDocument shows a zone.
func zoneDocument(raw json.RawMessage) ([]byte, error) {
	n, err := answer(raw)
	if err != nil {
		return nil, err
	}
	return document(n, "zone "+textAt(n, "name"), writable(n, (&bermv1.Zone{}).ProtoReflect().Descriptor(), "defaults"))
}

// runnerDocument shows a runner, with bindings that name their profiles and spell their overrides out. names maps profile ids to
// names; an id without one is shown as it is.
func runnerDocument(raw json.RawMessage, names map[string]string) ([]byte, error) {
	n, err := answer(raw)
	if err != nil {
		return nil, err
	}
	body := runnerBody(n, names)
	state := strings.ToLower(strings.TrimPrefix(textAt(n, "installStatus"), "RUNNER_INSTALL_STATUS_") + ", " +
		strings.TrimPrefix(textAt(n, "connectionStatus"), "RUNNER_CONNECTION_STATUS_"))
	text, err := document(n, "runner "+textAt(n, "identity", "runnerId"), body, state)
	head, rest, _ := bytes.Cut(text, []byte("\n"))
	return slices.Concat(head, []byte("\n"), processComments(n), warmComments(n), rest), err
}

// runnerBody is the part of a runner's document that a file may have.
func runnerBody(n *tree.Node, names map[string]string) *yaml.Node {
	body := writable(n, (&v1beta2pb.Runner{}).ProtoReflect().Descriptor(), "display_name", "identity", "managed_spec")
	bindings := &yaml.Node{Kind: yaml.SequenceNode}
	if list := n.Get("profileBindings"); list != nil {
		for _, b := range list.Items {
			bindings.Content = append(bindings.Content, bindingNode(b, names))
		}
	}
	put(body, "profile_bindings", bindings)
	return body
}

// processComments says when the runner's process was last heard of, why it can run nothing, if so, and why it is not deployed as is wanted,
// each with what to do.
func processComments(n *tree.Node) []byte {
	var b bytes.Buffer
	line := func(format, text string) {
		if text = clean(strings.Join(strings.Fields(text), " ")); text != "" {
			fmt.Fprintf(&b, format, text)
		}
	}
	hints := func(list *tree.Node) {
		if list == nil {
			return
		}
		for _, h := range list.Items {
			line("# hint: %s\n", h.Text)
		}
	}
	line("# last heard of at %s\n", localTime(textAt(n, "lastHeartbeatAt")))
	if problem := n.Get("installError"); problem != nil && problem.Kind == tree.Object {
		line("# problem: %s\n", textAt(problem, "message")+" ("+textAt(problem, "reason")+", since "+localTime(textAt(problem, "occurredAt"))+")")
		hints(problem.Get("remediationHints"))
	}
	d := n.Get("deployment")
	if d == nil || d.Kind != tree.Object || textAt(d, "pending") == "" {
		return b.Bytes()
	}
	line("# deployment: %s\n", textAt(d, "pending"))
	if reason := textAt(d, "error", "reason"); reason != "" {
		line("# seen: %s\n", reason+" at "+localTime(textAt(d, "error", "occurredAt"))+": "+textAt(d, "error", "diagnosticDetail"))
	}
	hints(d.Get("hints"))
	return b.Bytes()
}

// warmComments says, a line for each pool, how the warm pools are.
func warmComments(n *tree.Node) []byte {
	list := n.Get("warmPools")
	if list == nil {
		return nil
	}
	var b bytes.Buffer
	count := func(p *tree.Node, key string) string { return first(textAt(p, key), "0") }
	for _, p := range list.Items {
		fmt.Fprintf(&b, "# warm pool of %s: %s of %s ready, %s being prepared, %s hits, %s misses", clean(textAt(p, "profileName")),
			count(p, "ready"), count(p, "size"), count(p, "preparing"), count(p, "hits"), count(p, "misses"))
		if problem := textAt(p, "problem"); problem != "" {
			fmt.Fprintf(&b, "; %s", clean(strings.Join(strings.Fields(problem), " ")))
			if at := localTime(textAt(p, "retryAt")); at != "" {
				fmt.Fprintf(&b, " (tried again at %s)", at)
			}
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func bindingNode(b *tree.Node, names map[string]string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode}
	id, alias := textAt(b, "profileTemplateId"), textAt(b, "profileName")
	name, known := names[id]
	if known {
		put(out, "profile", scalar(name))
	} else {
		put(out, "profile_template_id", scalar(id))
	}
	if alias != "" && alias != name {
		put(out, "profile_name", scalar(alias))
	}
	if textAt(b, "isDefault") == "true" {
		put(out, "is_default", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
	}
	if text := textAt(b, "overridesJson"); text != "" {
		if n, err := tree.ParseJSON([]byte(text)); err == nil {
			put(out, "overrides", yamlOf(expandTree(n), (&specpb.ProfileSpec{}).ProtoReflect().Descriptor()))
		} else {
			put(out, "overrides_json", scalar(text))
		}
	}
	if size := textAt(b, "warm", "size"); size != "" && size != "0" {
		warm := &yaml.Node{Kind: yaml.MappingNode}
		put(warm, "size", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: size})
		put(out, "warm", warm)
	}
	return out
}

// profileNames maps the ids of all profiles to their names.
func profileNames(ctx context.Context, c *client.Client) (map[string]string, error) {
	raw, err := listAll(ctx, c, profilesPath, "profileTemplates")
	if err != nil {
		return nil, err
	}
	var list []struct {
		ID   string `json:"id"`
		Name string `json:"displayName"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fault.Internalf(err, "the answer is not what was expected")
	}
	names := make(map[string]string, len(list))
	for _, p := range list {
		names[p.ID] = p.Name
	}
	return names, nil
}

func answer(raw json.RawMessage) (*tree.Node, error) {
	n, err := tree.ParseJSON(raw)
	if err != nil {
		return nil, fault.Internalf(err, "the answer is not JSON")
	}
	return n, nil
}

// document writes the comment, with more in its first line, and the fields.
func document(n *tree.Node, title string, body *yaml.Node, more ...string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: revision %s", clean(title), textAt(n, "revision"))
	if at := localTime(textAt(n, "updatedAt")); at != "" {
		fmt.Fprintf(&b, ", %s", at)
	}
	if by := textAt(n, "updatedBy"); by != "" {
		fmt.Fprintf(&b, " by %s", clean(by))
	}
	for _, m := range more {
		fmt.Fprintf(&b, ", %s", clean(m))
	}
	b.WriteByte('\n')
	var ids []string
	for _, key := range []string{"id", "etag"} {
		if v := textAt(n, key); v != "" {
			ids = append(ids, key+" "+v)
		}
	}
	if len(ids) > 0 {
		fmt.Fprintf(&b, "# %s\n", clean(strings.Join(ids, ", ")))
	}
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(body); err != nil {
		return nil, fault.Internalf(err, "cannot show the object")
	}
	return b.Bytes(), enc.Close()
}

// writable returns these fields of an object, without the empty ones.
func writable(n *tree.Node, md protoreflect.MessageDescriptor, names ...string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode}
	for _, name := range names {
		v := n.Get(tree.Camel(name))
		if v == nil {
			continue
		}
		fd := md.Fields().ByName(protoreflect.Name(name))
		if name == "spec" || name == "defaults" { // layers: what is empty there was written
			put(out, name, yamlOf(v, (&specpb.ProfileSpec{}).ProtoReflect().Descriptor()))
		} else if v = prunedField(v, fd); v != nil {
			put(out, name, yamlOf(v, messageOf(fd)))
		}
	}
	return out
}

// pruned drops what the server sends for fields of a message that nobody set; nil when nothing is left.
func pruned(n *tree.Node, md protoreflect.MessageDescriptor) *tree.Node {
	switch {
	case n.Kind == tree.Null, n.Kind == tree.List && len(n.Items) == 0, n.Kind == tree.String && n.Text == "", n.Kind == tree.Bool && n.Text == "false", n.Kind == tree.Number && n.Text == "0":
		return nil
	case n.Kind != tree.Object:
		return n
	}
	out := *n
	out.Keys = nil
	for _, k := range n.Keys {
		if v := prunedField(k.Value, fieldNamed(md, k.Name)); v != nil {
			k.Value = v
			out.Keys = append(out.Keys, k)
		}
	}
	if len(out.Keys) == 0 {
		return nil
	}
	return &out
}

// prunedField is pruned for the value of a field. The entries of a map are what somebody set, whatever they are.
func prunedField(n *tree.Node, fd protoreflect.FieldDescriptor) *tree.Node {
	if fd != nil && fd.IsMap() && len(n.Keys) > 0 {
		return n
	}
	return pruned(n, messageOf(fd))
}

// fieldNamed returns the field of a message by its name in camelCase or snake_case, nil when there is none.
func fieldNamed(md protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if md == nil {
		return nil
	}
	if fd := md.Fields().ByJSONName(name); fd != nil {
		return fd
	}
	return md.Fields().ByTextName(name)
}

// yamlOf converts a value; the keys of a message are named and ordered as its schema has them, those of maps and open objects as
// they come. md is nil where there is no schema.
func yamlOf(n *tree.Node, md protoreflect.MessageDescriptor) *yaml.Node {
	switch n.Kind {
	case tree.List:
		out := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range n.Items {
			out.Content = append(out.Content, yamlOf(item, md))
		}
		return out
	case tree.Object:
		return objectOf(n, md)
	case tree.Null:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case tree.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: n.Text}
	case tree.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: n.Text}
	case tree.String:
	}
	return scalar(n.Text)
}

func objectOf(n *tree.Node, md protoreflect.MessageDescriptor) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode}
	if md == nil || md.FullName() == "google.protobuf.Struct" {
		for _, k := range n.Keys {
			put(out, k.Name, yamlOf(k.Value, nil))
		}
		return out
	}
	keys := slices.Clone(n.Keys)
	fields := md.Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		at := slices.IndexFunc(keys, func(k tree.Key) bool { return k.Name == fd.JSONName() || k.Name == fd.TextName() })
		if at < 0 {
			continue
		}
		v := keys[at].Value
		keys = slices.Delete(keys, at, at+1)
		if !fd.IsMap() || v.Kind != tree.Object {
			put(out, fd.TextName(), yamlOf(v, messageOf(fd)))
			continue
		}
		entries := &yaml.Node{Kind: yaml.MappingNode}
		for _, k := range v.Keys {
			put(entries, k.Name, yamlOf(k.Value, messageOf(fd.MapValue())))
		}
		put(out, fd.TextName(), entries)
	}
	for _, k := range keys { // of a newer server
		put(out, k.Name, yamlOf(k.Value, nil))
	}
	return out
}

func messageOf(fd protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if fd == nil || fd.Message() == nil || fd.IsMap() {
		return nil
	}
	return fd.Message()
}

func put(m *yaml.Node, key string, v *yaml.Node) { m.Content = append(m.Content, scalar(key), v) }

func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// textAt returns a scalar below an object, "" when there is none.
func textAt(n *tree.Node, path ...string) string {
	for _, p := range path {
		n = n.Get(p)
	}
	if n == nil || n.Kind == tree.Object || n.Kind == tree.List || n.Kind == tree.Null {
		return ""
	}
	return n.Text
}

// localTime shows a time of the API as people read it; what is no time comes back as it is.
func localTime(text string) string {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return at.Local().Format(time.DateTime)
}
