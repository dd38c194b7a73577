package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// exported is one object as a file has it: nothing in it differs from server to server.
type exported struct {
	kind, name string
	body       *yaml.Node
}

func (s *session) exportCmd() *cobra.Command {
	var dir string
	c := s.outputFlagOf(&cobra.Command{
		Use: "export [--dir DIR]", Short: "Write all zones, profiles and runners as files that apply takes",
		Long: `Write all zones, profiles and runners as documents that apply takes: on standard output, or a file each below a directory. They hold what is
configured and nothing else: no ids, no revisions, no state of processes, no secrets of the server. What somebody wrote out in a pod fragment,
such as the value of a variable of env, is configured, and is written as it is. Bindings name their profiles. Applied where it came from it
changes nothing, and applied to an empty server it makes the same.`,
		Example: `  berm export --dir fleet
  berm export | berm --context staging apply -f - --plan`,
		Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := s.exportAll(ctx, c)
			if err != nil {
				return err
			}
			if dir != "" {
				return s.exportTo(dir, all)
			}
			return s.exportOut(all)
		}),
	}, "output format: yaml or json", "yaml", "json")
	c.Flags().StringVar(&dir, "dir", "", "write DIR/zones, DIR/profiles and DIR/runners, a file for each object")
	return c
}

// exportAll reads everything that is configured, ordered by kind and name. Runners are read first, so that their profiles are among
// those that are read.
func (s *session) exportAll(ctx context.Context, c *client.Client) ([]exported, error) {
	runners, err := listAll(ctx, c, runnersPath, "runners")
	if err != nil {
		return nil, err
	}
	profiles, err := listAll(ctx, c, profilesPath, "profileTemplates")
	if err != nil {
		return nil, err
	}
	zones, err := listAll(ctx, c, zonesPath, "zones")
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	all := []exported{}
	add := func(kind string, raw json.RawMessage, shown func(*tree.Node) (string, *yaml.Node)) error {
		var list []json.RawMessage // each read by itself: all together may be more values than a document has
		if err := json.Unmarshal(raw, &list); err != nil {
			return fault.Internalf(err, "the answer is no list")
		}
		for _, item := range list {
			n, err := answer(item)
			if err != nil {
				return err
			}
			if name, body := shown(n); body != nil {
				all = append(all, exported{kind, name, body})
			}
		}
		return nil
	}
	if err := add("zone", zones, zoneBody); err != nil {
		return nil, err
	}
	if err := add("profile", profiles, func(n *tree.Node) (string, *yaml.Node) {
		name := textAt(n, "displayName")
		names[textAt(n, "id")] = name
		return name, profileBody(n)
	}); err != nil {
		return nil, err
	}
	err = add("runner", runners, func(n *tree.Node) (string, *yaml.Node) {
		name := textAt(n, "identity", "runnerId")
		if textAt(n, "installStatus") == "RUNNER_INSTALL_STATUS_DELETING" {
			fmt.Fprintln(s.Err, clean(fmt.Sprintf("note: runner %s is being deleted and is left out", name)))
			return name, nil
		}
		return name, kinded("runner", runnerBody(n, names))
	})
	if err != nil {
		return nil, err
	}
	return all, allNamed(all)
}

// allNamed refuses a configuration that was edited between the lists: a binding whose profile is in none of them.
func allNamed(all []exported) error {
	for _, o := range all {
		if o.kind != "runner" {
			continue
		}
		bindings := valueOf(o.body, "profile_bindings")
		for i := range bindings.Content {
			if id := valueOf(bindings.Content[i], "profile_template_id"); id != nil {
				return fault.New(fault.Conflict, "CHANGED_MEANWHILE", "runner %s binds profile %s, which was made or deleted while everything was read", o.name, id.Value).
					WithHint("Repeat the export.")
			}
		}
	}
	return nil
}

// valueOf returns the value of a key of a mapping, nil when it is not there.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func zoneBody(n *tree.Node) (string, *yaml.Node) {
	body := kinded("zone", &yaml.Node{Kind: yaml.MappingNode})
	name := textAt(n, "name")
	put(body, "name", scalar(name))
	rest := writable(n, (&bermv1.Zone{}).ProtoReflect().Descriptor(), "defaults")
	body.Content = append(body.Content, rest.Content...)
	return name, body
}

func profileBody(n *tree.Node) *yaml.Node {
	expanded := *n
	expanded.Keys = slices.Clone(n.Keys)
	for i, k := range expanded.Keys {
		if k.Name == "spec" {
			expanded.Keys[i].Value = expandTree(k.Value)
		}
	}
	return kinded("profile", writable(&expanded, (&v1beta2pb.ProfileTemplate{}).ProtoReflect().Descriptor(), "display_name", "description", "labels", "spec"))
}

// kinded puts the kind before the fields of an object.
func kinded(kind string, body *yaml.Node) *yaml.Node {
	body.Content = append([]*yaml.Node{scalar("kind"), scalar(kind)}, body.Content...)
	return body
}

func (s *session) exportOut(all []exported) error {
	if s.output == "json" {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, o := range all {
			list.Content = append(list.Content, o.body)
		}
		var v any
		if err := list.Decode(&v); err != nil {
			return fault.Internalf(err, "cannot show the objects")
		}
		return s.emit(v, nil)
	}
	for i, o := range all {
		text, err := o.text()
		if err != nil {
			return err
		}
		if i > 0 {
			text = append([]byte("---\n"), text...)
		}
		if _, err := s.Out.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func (o exported) text() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(o.body); err != nil {
		return nil, fault.Internalf(err, "cannot show %s %s", o.kind, o.name)
	}
	return b.Bytes(), enc.Close()
}
