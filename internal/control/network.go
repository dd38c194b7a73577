package control

import (
	"context"
	"net/netip"
	"slices"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/spec"
)

// NetworkDecision says what the egress policy of a sandbox, or of one that might be launched, makes of a destination.
type NetworkDecision struct {
	// SandboxID is empty for a plan.
	SandboxID, RunnerID string
	Target              egress.Target
	// Mode is the name of the mode in force and Type its type. Chosen is the field that chose it, nil when none did; Modes is the
	// field that declares it.
	Mode          string
	Type          egress.Type
	Chosen, Modes *ExplainedField
	Judgement     egress.Judgement
	// Rule is the rule that decides, nil where no rule of the list does. Addresses are those of the target, each with its own.
	Rule      *NetworkRule
	Addresses []NetworkAddress
	// Live says that the runner told what it knows now. Otherwise Note says why not, and what that means.
	Live bool
	Note string
}

// NetworkRule is a rule of a policy with its origin.
type NetworkRule struct {
	egress.Rule
	// Layer is that of the field that the rule comes from, "runner" for what is around the sandbox on its machine, or "built-in" for
	// what holds everywhere. Object, Revision and By are those of the field's origin.
	Layer, Object string
	Revision      int32
	By            string
}

// NetworkAddress is one address of a target.
type NetworkAddress struct {
	egress.Judged
	Rule *NetworkRule
}

// ExplainNetwork says which rule of which layer decides about a destination of a sandbox. It is made from the decision that was
// stored with the sandbox; while it runs, together with what its runner knows now.
func (s *Service) ExplainNetwork(ctx context.Context, p core.Principal, id, destination string) (*NetworkDecision, error) {
	if err := s.allow(ctx, p, "ExplainNetwork"); err != nil {
		return nil, err
	}
	row, err := s.row(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	target, err := egress.ParseTarget(destination)
	if err != nil {
		return nil, err
	}
	record, err := plan.ParseRecord(row.Decision)
	if err != nil {
		return nil, err
	}
	resolved, err := spec.ParseStored(record.Spec)
	if err != nil {
		return nil, fault.Internalf(err, "read a stored spec")
	}
	d := &NetworkDecision{SandboxID: row.ID, RunnerID: row.RunnerID, Target: target}
	around, err := s.network(ctx, row, target)
	if err != nil {
		d.Note = fault.From(err).Message + ": decided from the record, without what was answered, which neighbours there were, and what the machine was part of"
	}
	return d, d.decide(resolved.Message(), explained(record.Resolved(), nil, rememberedAttrs(row)), around)
}

// PlanNetwork is ExplainNetwork for what Plan returned. Of a launch that is refused there is nothing to say but that.
func (s *Service) PlanNetwork(ctx context.Context, p core.Principal, planned *Planned, destination string) (*NetworkDecision, error) {
	if err := s.allow(ctx, p, "PlanNetwork"); err != nil {
		return nil, err
	}
	if planned.Plan == nil {
		return nil, planned.Fault
	}
	target, err := egress.ParseTarget(destination)
	if err != nil {
		return nil, err
	}
	r := planned.Plan.Runner.Runner
	d := &NetworkDecision{RunnerID: r.RunnerID, Target: target}
	var around *backend.Network
	if link, _ := s.contacts.linkOf(r.ID); link == nil {
		err = runnerAway(r.RunnerID)
	} else {
		around, err = link.Network(ctx, "", target)
	}
	d.Note = "nothing runs yet: what names will be answered with, and which neighbours there will be, is not known"
	if err != nil {
		d.Note += "; of the machine nothing is known either: " + fault.From(err).Message
	}
	return d, d.decide(planned.Plan.Resolved.Message(), planned.Explanation.Fields, around)
}

func runnerAway(runnerID string) error {
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s is out of contact", runnerID).WithMeta("runner_id", runnerID)
}

// network asks the runner of a sandbox about its network.
func (s *Service) network(ctx context.Context, row *core.Sandbox, target egress.Target) (*backend.Network, error) {
	now := s.overlay(row)
	if now.Status.Terminal() {
		return nil, fault.Preconditionf(fault.ReasonSandboxNotRunning, "the sandbox has ended")
	}
	link, _ := s.contacts.linkOf(row.RunnerUUID)
	if link == nil {
		return nil, runnerAway(row.RunnerID)
	}
	return link.Network(ctx, row.ID, target)
}

// Network returns what is known now of the network of a sandbox. Precondition when it has ended, Unimplemented where its backend does
// not know.
func (s *Service) Network(ctx context.Context, p core.Principal, id string) (*backend.Network, error) {
	if err := s.allow(ctx, p, "Network"); err != nil {
		return nil, err
	}
	row, err := s.row(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	return s.network(ctx, row, egress.Target{})
}

// decide compiles the mode in force and judges the target. fields is the resolved spec with its origins.
func (d *NetworkDecision) decide(resolved *specpb.ProfileSpec, fields []ExplainedField, n *backend.Network) error {
	field := func(path string) *ExplainedField {
		if i := slices.IndexFunc(fields, func(f ExplainedField) bool { return f.Path == path }); i >= 0 {
			return &fields[i]
		}
		return nil
	}
	e := resolved.GetNetwork().GetEgress()
	name, mode := egress.Selected(e)
	d.Mode, d.Modes = name, field(egress.Field)
	if e.GetSelected() != "" {
		d.Chosen = field("network.egress.selected")
	} else if name != "" {
		d.Chosen = field("network.egress.default")
	}
	var around *egress.Around
	var site egress.Site
	if n != nil {
		site = n.Around.Site
		if d.Live = d.SandboxID != ""; d.Live {
			around = &n.Around
		}
	}
	policy, err := egress.Compile(name, mode, site)
	if err != nil {
		return err
	}
	d.Type = policy.Type
	d.Judgement = policy.Judge(d.Target, around)
	d.Rule = d.rule(policy, d.Judgement.Rule, netip.Prefix{})
	for _, a := range d.Judgement.Addresses {
		d.Addresses = append(d.Addresses, NetworkAddress{a, d.rule(policy, a.Rule, a.Range)})
	}
	if len(d.Addresses) == 1 && d.Addresses[0].Judged.Rule == d.Judgement.Rule {
		d.Rule = d.Addresses[0].Rule
	}
	return nil
}

// rule returns a rule with its origin. Of its ranges only the one that matched is kept: those of a class are many.
func (d *NetworkDecision) rule(policy *egress.Policy, i int, matched netip.Prefix) *NetworkRule {
	if i < 0 {
		return nil
	}
	r := &NetworkRule{Rule: policy.Rules[i], Layer: "built-in"}
	r.Ranges = nil
	if matched.IsValid() {
		r.Ranges = []netip.Prefix{matched}
	}
	from := d.Modes
	if mode := d.Mode; mode == "" || from == nil { // No mode is in force: whoever chose none says so.
		from = d.Chosen
	}
	switch {
	case r.Path != "" && from != nil:
		r.Layer, r.Object, r.Revision, r.By = from.Layer, from.Object, from.Revision, from.By
	case r.Kind == egress.KindScope || slices.Contains([]egress.Class{egress.ClassDenied, egress.ClassMachine, egress.ClassSandboxes, egress.ClassOnLink}, r.Class):
		r.Layer, r.Object = "runner", "runner "+d.RunnerID
	}
	return r
}
