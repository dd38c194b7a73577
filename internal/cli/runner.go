package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

const runnersPath = "/v1beta2/sandbox/managed-runners"

func (s *session) runnerCmd() *cobra.Command {
	return s.runnerProcess(noun("runner", "Runners: where sandboxes run, and which profiles they bind",
		append(s.historyCmds("runner", "/berm/v1/runners"), s.runnerCreateCmd(), s.runnerGetCmd(), s.runnerDescribeCmd(), s.runnerListCmd(), s.runnerEditCmd(), s.runnerUpgradeCmd(),
			s.runnerBindCmd(), s.runnerUnbindCmd(), s.runnerSetDefaultCmd(), s.runnerCordonCmd(), s.runnerUncordonCmd(), s.runnerDrainCmd(), s.runnerDeleteCmd(), s.runnerJoinCmd())...))
}

func (s *session) runnerCreateCmd() *cobra.Command {
	var name string
	var flags runnerSetFlags
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "create [RUNNER-ID] [-f FILE | --zone ZONE --cluster NAME --profile NAME...]", Short: "Create a runner",
		Long: `Create a runner, of a file or of flags. At a terminal what is missing is asked for, shown with what it would do, and made when that is
agreed to; the command that would have said the same is printed.`,
		Example: `  berm runner create
  berm runner create east --zone eu --cluster prod-1 --profile agent --profile big
  berm runner create east -f east.yaml`,
		Args: args(0, 1, "the id of the new runner, or none"),
	}))
	c.RunE = s.with(func(ctx context.Context, cl *client.Client, a []string) error {
		id := strings.Join(a, "")
		if name == "" {
			return s.createRunner(ctx, cl, c, &flags, id)
		}
		if id == "" {
			return fault.Invalidf("USAGE", "%s needs the id of the new runner beside -f", c.CommandPath()).WithHint("Usage: %s", c.UseLine())
		}
		f, err := s.readKind("runner", name)
		if err != nil {
			return err
		}
		raw, err := s.postRunner(ctx, cl, id, f.root)
		if err != nil {
			return f.show(err)
		}
		return s.emitRunners(raw, true, nil)
	})
	c.Flags().StringVarP(&name, "file", "f", "", "YAML or JSON file, - for standard input")
	flags.add(c, true)
	s.askingFlags(c)
	return c
}

func show(f *file, err error) error {
	if f == nil {
		return err
	}
	return f.show(err)
}

// wireRunner returns a runner in the form of the wire: in its bindings `profile: NAME` becomes the id of that profile, `overrides:
// {…}` the text of overrides_json. The document itself is left as it was written, for messages.
func wireRunner(ctx context.Context, c *client.Client, runner *tree.Node) (*tree.Node, error) {
	return wireRunnerBy(runner, func(name string) (string, error) {
		raw, err := getProfile(ctx, c, name)
		if err != nil {
			return "", err
		}
		n, err := answer(raw)
		return textAt(n, "id"), err
	})
}

// wireRunnerBy is wireRunner with what becomes of the name of a profile.
func wireRunnerBy(runner *tree.Node, profile func(name string) (string, error)) (*tree.Node, error) {
	out := *runner
	out.Keys = slices.Clone(runner.Keys)
	for i, k := range out.Keys {
		if (k.Name != "profile_bindings" && k.Name != "profileBindings") || k.Value.Kind != tree.List {
			continue
		}
		list := *k.Value
		list.Items = slices.Clone(k.Value.Items)
		for j := range list.Items {
			b, err := wireBinding(fmt.Sprintf("profile_bindings[%d]", j), list.Items[j], profile)
			if err != nil {
				return nil, err
			}
			list.Items[j] = b
		}
		out.Keys[i].Value = &list
	}
	return &out, nil
}

func wireBinding(at string, b *tree.Node, profile func(name string) (string, error)) (*tree.Node, error) {
	known := []string{"profile", "profile_template_id", "profile_name", "is_default", "overrides", "overrides_json", "warm"}
	if p := unknownKeys(b, at, known); p.Len() > 0 {
		return nil, p.Err("the bindings cannot be used")
	}
	out := *b
	out.Keys = slices.Clone(b.Keys)
	for i, k := range out.Keys {
		text := tree.Node{Kind: tree.String, Line: k.Value.Line, Col: k.Value.Col}
		switch {
		case k.Name == "profile" && k.Value.Kind == tree.String:
			id, err := profile(k.Value.Text)
			if err != nil {
				e := fault.From(err).Clone()
				e.Fields = []fault.Field{{Path: at + ".profile", Description: e.Message}}
				return nil, e
			}
			text.Text, out.Keys[i].Name, out.Keys[i].Value = id, "profile_template_id", &text
		case k.Name == "overrides":
			if k.Value.Kind == tree.Object { // checked here already, so that every error has its place
				if _, err := spec.DecodeLayer(k.Value, at+".overrides"); err != nil {
					return nil, err
				}
			}
			text.Text, out.Keys[i].Name, out.Keys[i].Value = string(k.Value.JSON()), "overrides_json", &text
		}
	}
	return &out, nil
}

func (s *session) runnerGetCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "get RUNNER-ID", Short: "Show a runner as a file for edit -f; -o json and yaml have all of it", Args: args(1, 1, "the id of a runner"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			raw, err := c.REST(ctx, "GET", client.Path(runnersPath+"/%s", a[0]), nil)
			if err != nil {
				return err
			}
			return s.showObject(raw, func() ([]byte, error) { return s.runnerFile(ctx, c, raw) })
		}),
	})
}

// runnerFile is the document of a runner, with the names of the profiles that it binds.
func (s *session) runnerFile(ctx context.Context, c *client.Client, raw json.RawMessage) ([]byte, error) {
	names, err := profileNames(ctx, c)
	if err != nil && !fault.Is(err, fault.Denied) { // who may not list profiles sees their ids
		return nil, err
	}
	return runnerDocument(raw, names)
}

func (s *session) runnerListCmd() *cobra.Command {
	var selector, zone, profile, install, connection string
	c := s.outputFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List runners", Args: args(0, 0, "no arguments"),
		Example: `  berm runner ls --profile agent --connection disconnected`,
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			raw, err := listAll(ctx, c, withQuery(runnersPath, "labelSelector", selector, "zone", zone, "profile", profile,
				"installStatus", enumName("RUNNER_INSTALL_STATUS_", install), "connectionStatus", enumName("RUNNER_CONNECTION_STATUS_", connection)), "runners")
			if err != nil {
				return err
			}
			var cordoned map[string]bool
			if s.output != "json" && s.output != "yaml" { // Those are the answer as it is.
				cordoned = cordonedRunners(ctx, c)
			}
			return s.emitRunners(raw, false, cordoned)
		}),
	})
	f := c.Flags()
	f.StringVarP(&selector, "selector", "l", "", "only those whose deployment labels this selects, as in Kubernetes: team=ml,stage!=old")
	f.StringVar(&zone, "zone", "", "only those in this zone")
	f.StringVar(&profile, "profile", "", "only those that bind this profile, by name or id")
	f.StringVar(&install, "install", "", "only those with this install status: pending, ready, failed or deleting")
	f.StringVar(&connection, "connection", "", "only those that are connected or disconnected")
	return c
}

func (s *session) runnerDeleteCmd() *cobra.Command {
	var force bool
	var reason string
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "delete RUNNER-ID", Aliases: []string{"rm"}, Short: "Delete a runner", Args: args(1, 1, "the id of a runner"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			path := client.Path(runnersPath+"/%s", a[0])
			if force {
				path += "?force=true"
			}
			if _, err := s.write(ctx, c, "DELETE", path, nil, reasonHeader(reason)...); err != nil {
				return err
			}
			return s.report(map[string]string{"runnerId": a[0]}, "runner %s is being deleted", a[0])
		}),
	}))
	c.Flags().BoolVar(&force, "force", false, "stop its sandboxes first")
	reasonFlag(c, &reason)
	return c
}

// emitRunners writes runners. Those that are cordoned show it beside their line.
func (s *session) emitRunners(raw json.RawMessage, one bool, cordoned map[string]bool) error {
	items, err := objects(raw, one)
	if err != nil {
		return err
	}
	trim := func(v, prefix string) string { return strings.TrimPrefix(v, prefix) }
	if s.output != "json" && s.output != "yaml" {
		defer s.runnerProblems(items)
	}
	return s.emit(raw, func() table {
		t := table{head: []string{"RUNNER", "ZONE", "INSTALL", "CONN", "BINDINGS", "REVISION"}, wide: []string{"ID", "CLUSTER", "UPDATED", "HEARTBEAT"}}
		for _, r := range items {
			conn := trim(pick(r, "connectionStatus"), "RUNNER_CONNECTION_STATUS_")
			if cordoned[pick(r, "identity", "runnerId")] {
				conn += ", CORDONED"
			}
			t.rows = append(t.rows, []string{pick(r, "identity", "runnerId"), pick(r, "identity", "zone"), trim(pick(r, "installStatus"), "RUNNER_INSTALL_STATUS_"), conn,
				bindingNames(r), pick(r, "revision"), pick(r, "id"), first(pick(r, "identity", "clusterName"), pick(r, "identity", "clusterId")), localTime(pick(r, "updatedAt")), localTime(pick(r, "lastHeartbeatAt"))})
		}
		return t
	})
}

// runnerProblems says below a table why runners can run nothing; berm runner get also says what to do.
func (s *session) runnerProblems(items []map[string]any) {
	for _, r := range items {
		if why := pick(r, "installError", "message"); why != "" {
			fmt.Fprintf(s.Err, "%s: %s (%s)\n", clean(pick(r, "identity", "runnerId")), clean(why), clean(pick(r, "installError", "reason")))
		}
	}
}

// bindingNames lists the names of a runner's bindings, the default one marked.
func bindingNames(r map[string]any) string {
	list, _ := r["profileBindings"].([]any)
	names := make([]string, 0, len(list))
	for _, b := range list {
		name := first(pick(b, "profileName"), pick(b, "profileTemplateId"))
		if pick(b, "isDefault") == "true" {
			name += "*"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
