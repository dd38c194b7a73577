package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

func (s *session) explainCmd() *cobra.Command {
	var path, destination string
	var submitted, drift bool
	c := s.outputFlag(&cobra.Command{
		Use: "explain SANDBOX [--field PATH | --submitted | --drift | --network DESTINATION]", Short: "Say where every field of a sandbox came from, or what decides about a destination", Args: args(1, 1, "the id of a sandbox"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			if destination != "" {
				return s.explainNetwork(ctx, c, a[0], destination)
			}
			if drift {
				return s.explainDrift(ctx, c, a[0])
			}
			s.flags = map[string]string{"field_path": "--field"}
			resp, err := c.Explain().ExplainSandbox(ctx, &bermv1.ExplainSandboxRequest{SandboxId: a[0], FieldPath: path})
			if err != nil {
				return err
			}
			if submitted {
				return s.emitSubmitted(resp)
			}
			if s.output == "json" || s.output == "yaml" {
				raw, err := toJSON(resp)
				if err != nil {
					return err
				}
				return s.emitJSON(raw)
			}
			if path == "" {
				fmt.Fprintf(s.Out, "Sandbox %s on runner %s, profile %s (revision %d)\n\n", resp.GetSandboxId(), resp.GetRunnerId(), resp.GetProfileName(), resp.GetProfileRevision())
			}
			if path != "" && len(resp.GetFields()) == 0 {
				fmt.Fprintf(s.Out, "%s: no layer says anything about it\n", clean(path))
				return nil
			}
			s.fields(resp.GetFields())
			if path == "" {
				s.candidates(resp.GetCandidates(), resp.GetOmittedCandidates())
				s.groups(resp.GetGroups())
				s.networkState(resp.GetNetwork())
				s.timeline(resp.GetTimeline())
			}
			return nil
		}),
	})
	c.Flags().StringVar(&path, "field", "", "only this field, or those below it: resource_defaults.cpu_limit")
	c.Flags().StringVar(&destination, "network", "", "only which rule of which layer decides about this destination: a name, an address, either with :PORT, or a URL")
	c.Flags().BoolVar(&submitted, "submitted", false, "only the object that was given to what runs it: a pod, or an OCI runtime configuration, as JSON (-o yaml)")
	c.Flags().BoolVar(&drift, "drift", false, "only in what the object that the cluster holds now differs from the one that was submitted (-o wide: also what Kubernetes fills in)")
	exclusive(c, "field", "submitted", "drift", "network")
	exclusive(c, "submitted", "drift", "network")
	exclusive(c, "drift", "network")
	return c
}

func (s *session) emitSubmitted(resp *bermv1.ExplainSandboxResponse) error {
	if resp.GetSubmitted() == nil {
		return fault.Preconditionf("NOT_SUBMITTED", "nothing is known to have been given to a runtime for sandbox %s", resp.GetSandboxId()).
			WithHint("berm get %s says how far it got", resp.GetSandboxId())
	}
	raw, err := toJSON(resp.GetSubmitted())
	if err != nil {
		return err
	}
	return s.emitJSON(raw)
}

func (s *session) fields(fields []*bermv1.ExplainedField) {
	t := table{
		head: []string{"FIELD", "VALUE", "LAYER", "FROM", "BY", "AT", "SHADOWED", "HERE"},
		wide: []string{"WHY", "NOTE"},
	}
	for _, f := range fields {
		from := originText(&bermv1.Origin{Object: f.GetObject(), Revision: f.GetRevision()})
		for _, also := range f.GetCombined() {
			from += " and " + originText(&bermv1.Origin{Object: also.GetObject(), Revision: also.GetRevision()})
		}
		t.rows = append(t.rows, []string{f.GetPath(), valueText(f.GetValue()), f.GetLayer(), from, f.GetBy(), clock(f.GetAt()),
			shadowText(f.GetShadowed()), f.GetEnforcement(), f.GetReason(), f.GetEnforcementNote()})
	}
	s.table(t)
}

func shadowText(list []*bermv1.ShadowedValue) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = fmt.Sprintf("%s (%s)", valueText(v.GetValue()), v.GetLayer())
	}
	return strings.Join(parts, ", ")
}

// candidates lists what was considered; omitted is how many more there were.
func (s *session) candidates(list []*bermv1.Candidate, omitted int32) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(s.Out, "\nCandidates:")
	t := table{head: []string{"", "RUNNER", "PROFILE", "CHOSEN", "SCORE", "WHY NOT"}}
	for _, c := range list {
		chosen, score := "", ""
		if c.GetChosen() {
			chosen = "yes"
		}
		if c.GetScore() > 0 {
			score = strconv.FormatFloat(c.GetScore(), 'f', 3, 64)
		}
		var why []string
		for _, r := range c.GetReasons() {
			why = append(why, reasonText(r))
		}
		t.rows = append(t.rows, []string{"", c.GetRunnerId(), c.GetProfileName(), chosen, score, strings.Join(why, "; ")})
	}
	s.table(t)
	if omitted > 0 {
		fmt.Fprintf(s.Out, "   and %d more\n", omitted)
	}
}

// groups lists the runner groups in the order of the profile.
func (s *session) groups(list []*bermv1.GroupStep) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(s.Out, "\nRunner groups, in the order of the profile:")
	t := table{head: []string{"", "GROUP", "OUTCOME", "WAITED", "WHY"}}
	for _, g := range list {
		name, waited := g.GetGroup(), ""
		if name == "" {
			name = "(any other)"
		}
		if ms := g.GetWaitedMillis(); ms > 0 {
			waited = (time.Duration(ms) * time.Millisecond).String()
		}
		if ms := g.GetMayWaitMillis(); ms > 0 {
			waited = "would wait up to " + (time.Duration(ms) * time.Millisecond).String()
		}
		t.rows = append(t.rows, []string{"", name, g.GetOutcome(), waited, g.GetMessage()})
	}
	s.table(t)
}

func (s *session) planCmd() *cobra.Command {
	var name, destination string
	var l launchFlags
	c := &cobra.Command{
		Use: "plan [-f REQUEST] [launch flags]", Short: "Say what a launch would do, without doing it", Args: args(0, 0, "no arguments, only -f FILE or the flags of run"),
		RunE: func(cmd *cobra.Command, a []string) error {
			pod := s.output == "pod"
			s.flags = l.flagNames()
			req, err := l.request(s)
			if err != nil {
				return err
			}
			var f *file
			if name != "" {
				s.flags = map[string]string{}
				if f, err = s.readFile(name); err != nil {
					return err
				}
				req = &v1beta2pb.StartSandboxRequest{}
				if _, err := tree.Decode(f.root, req); err != nil {
					return f.show(err)
				}
			}
			s.flags["network_destination"] = "--network"
			return s.with(func(ctx context.Context, c *client.Client, _ []string) error {
				resp, err := c.Explain().PlanSandbox(ctx, &bermv1.PlanSandboxRequest{Request: req, IncludePod: pod, NetworkDestination: destination})
				if err != nil {
					return show(f, err)
				}
				return s.showPlan(resp, pod)
			})(cmd, a)
		},
	}
	c.Flags().StringVar(&destination, "network", "", "say what the egress policy would make of this destination: a name, an address, either with :PORT, or a URL")
	c.Flags().StringVarP(&name, "request", "f", "", "launch request as YAML or JSON, - for standard input, in place of the flags of run")
	s.outputFlagOf(c, "output format: table, wide, json, yaml, or pod for the exact Kubernetes pod", "table", "wide", "json", "yaml", "pod")
	l.bind(c)
	exclusive(c, "request", launchFlagNames()...)
	return c
}

func (s *session) showPlan(resp *bermv1.PlanSandboxResponse, pod bool) error {
	if s.output == "json" || s.output == "yaml" {
		raw, err := toJSON(resp)
		if err != nil {
			return err
		}
		if err := s.emitJSON(raw); err != nil {
			return err
		}
		if !resp.GetAdmitted() {
			return &exitError{exitPrecondition}
		}
		return nil
	}
	if !resp.GetAdmitted() {
		return fault.Preconditionf(resp.GetRefusal().GetReason(), "%s", resp.GetRefusal().GetMessage()).WithDetail(resp.GetRefusal())
	}
	if pod {
		return s.emitPod(resp.GetPod())
	}
	fmt.Fprintf(s.Out, "Would run on runner %s, profile %s (revision %d)\n\n", resp.GetRunnerId(), resp.GetProfileName(), resp.GetProfileRevision())
	if resp.GetNetwork() != nil {
		s.decision(resp.GetNetwork())
		return nil
	}
	s.fields(resp.GetFields())
	s.candidates(resp.GetCandidates(), resp.GetOmittedCandidates())
	s.groups(resp.GetGroups())
	return nil
}

func (s *session) emitPod(pod *structpb.Struct) error {
	if pod == nil {
		return fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "the server returned no pod")
	}
	raw, err := json.Marshal(pod.AsMap())
	if err != nil {
		return errors.New("the pod is not JSON")
	}
	s.output = "yaml"
	return s.emitJSON(raw)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
