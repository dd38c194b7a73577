package control_test

import (
	"context"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestConsolidate: two profiles become one, launches get what they got under the names they use, in one edit that can be previewed.
func TestConsolidate(t *testing.T) {
	w := newWorld(t)
	east := w.newProfile("agent-east", `{"resource_defaults":{"memory_limit":"1Gi","cpu_limit":"1"},"node_selector":{"region":"east"},"tags":["a"]}`)
	west := w.newProfile("agent-west", `{"resource_defaults":{"memory_limit":"1Gi","cpu_limit":"1"},"node_selector":{"region":"west"}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: east.ID},
		core.Binding{ProfileID: west.ID, Overrides: w.layer(`{"resource_defaults":{"cpu_limit":"2"}}`), Warm: 1}))
	all := control.Consolidation{Keep: "agent-east", Others: []string{"agent-west"}, Delete: true}

	seen, err := w.svc.Preview(w.ctx(), w.admin, 0, func(ctx context.Context) error {
		_, err := w.svc.ConsolidateProfiles(ctx, w.admin, all, control.EditState{})
		return err
	})
	w.must(err)
	if len(seen.Changes) == 0 {
		t.Error("the preview shows no change")
	}
	for _, g := range seen.Bindings {
		for _, f := range g.Fields {
			if f.Matters() {
				t.Errorf("%s: %s %s -> %s", g.About, f.Path, f.Old, f.New)
			}
		}
	}
	if _, err := w.svc.GetProfile(w.ctx(), w.admin, "agent-west"); err != nil {
		t.Fatalf("after a preview: %v", err)
	}

	got, err := w.svc.ConsolidateProfiles(w.ctx(), w.admin, all, control.EditState{Etag: control.Etag(east.Meta)})
	w.must(err)
	if len(got.Bindings) != 1 || got.Bindings[0].Name != "agent-west" || got.Bindings[0].Pinned[0] != "tags" || got.Deleted[0] != "agent-west" {
		t.Errorf("%+v", got)
	}
	if text := got.Bindings[0].Override.String(); text != `{"nodeSelector":{"region":"west"},"resourceDefaults":{"cpuLimit":"2"},"tags":null}` {
		t.Error(text)
	}
	v, err := w.svc.GetRunner(w.ctx(), w.admin, "r1")
	w.must(err)
	if b := v.Runner.Bindings[2]; names(v) != "default* agent-east agent-west" || b.ProfileID != east.ID || b.Warm != 1 || v.Runner.Reason != "consolidated into profile agent-east" {
		t.Errorf("%s %+v", names(v), b)
	}
	_, err = w.svc.GetProfile(w.ctx(), w.admin, "agent-west")
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)
}

func TestConsolidateRefused(t *testing.T) {
	w := newWorld(t)
	tight := w.newProfile("tight", `{"guardrails":{"resources":{"max_cpu":"1"}}}`)
	loose := w.newProfile("loose", `{}`)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: tight.ID}, core.Binding{ProfileID: loose.ID}))
	_, err := w.svc.ConsolidateProfiles(w.ctx(), w.admin, control.Consolidation{Keep: "tight", Others: []string{"loose"}}, control.EditState{})
	wantFault(t, err, fault.Precondition, fault.ReasonProfilesDiffer, "binding loose of runner r1: guardrails.resources.max_cpu", `would be "1" in place of none`, "keep the profile that demands less")
	if v, err := w.svc.GetRunner(w.ctx(), w.admin, "r1"); err != nil || v.Runner.Bindings[2].ProfileID != loose.ID {
		t.Errorf("%+v, %v", v, err)
	}
	// The other way round it can be said.
	got, err := w.svc.ConsolidateProfiles(w.ctx(), w.admin, control.Consolidation{Keep: "loose", Others: []string{"tight"}}, control.EditState{Reason: "one is enough"})
	w.must(err)
	if text := got.Bindings[0].Override.String(); text != `{"guardrails":{"resources":{"maxCpu":"1"}}}` || got.Deleted != nil {
		t.Errorf("%+v %s", got, text)
	}
	for name, c := range map[string]control.Consolidation{
		"nothing": {Keep: "loose"}, "itself": {Keep: "loose", Others: []string{"loose"}}, "twice": {Keep: "loose", Others: []string{"tight", tight.ID}},
	} {
		if _, err := w.svc.ConsolidateProfiles(w.ctx(), w.admin, c, control.EditState{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.svc.ConsolidateProfiles(w.ctx(), w.admin, control.Consolidation{Keep: "loose", Others: []string{"nobody"}}, control.EditState{})
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)
	_, err = w.svc.ConsolidateProfiles(w.ctx(), w.admin, control.Consolidation{Keep: "loose", Others: []string{"tight"}}, control.EditState{Etag: "old"})
	wantFault(t, err, fault.Conflict, fault.ReasonEtagMismatch)
}

// TestPromote: what a profile and an override say together becomes a profile of its own.
func TestPromote(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", `{"tags":["a"],"guardrails":{"annotations":{"denied_prefixes":["a.io/"]}}}`)
	over := w.layer(`{"container_image":"host","resource_defaults":{"memory_limit":"2Gi"},"guardrails":{"annotations":{"denied_prefixes":["b.io/"]}}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: agent.ID},
		core.Binding{ProfileID: agent.ID, Alias: "big", Overrides: over}, core.Binding{ProfileID: agent.ID, Alias: "huge", Overrides: over}))
	pr := control.Promotion{Runner: "r1", Binding: "big", DisplayName: "agent-big"}
	got, err := w.svc.PromoteOverride(w.ctx(), w.admin, pr, control.EditState{})
	w.must(err)
	if text := got.Profile.Spec.String(); len(got.Bindings) != 1 || got.Bindings[0].Override != nil ||
		text != `{"containerImage":"host","guardrails":{"annotations":{"deniedPrefixes":["a.io/","b.io/"]}},"resourceDefaults":{"memoryLimit":"2Gi"},"tags":["a"]}` {
		t.Errorf("%+v %s", got, text)
	}
	v, err := w.svc.GetRunner(w.ctx(), w.admin, "r1")
	w.must(err)
	if b := v.Runner.Bindings; names(v) != "default* agent big huge" || b[2].ProfileID != got.Profile.ID || b[2].Overrides != nil || b[3].ProfileID != agent.ID {
		t.Errorf("%s %+v", names(v), b)
	}
	_, err = w.svc.PromoteOverride(w.ctx(), w.admin, pr, control.EditState{})
	wantFault(t, err, fault.Precondition, fault.ReasonBindingsInvalid, "no override")
	pr.Binding, pr.Everywhere = "huge", true
	_, err = w.svc.PromoteOverride(w.ctx(), w.admin, pr, control.EditState{})
	wantFault(t, err, fault.Exists, fault.ReasonProfileExists)
	pr.DisplayName = "agent-huge"
	_, err = w.svc.PromoteOverride(w.ctx(), w.user, pr, control.EditState{})
	wantFault(t, err, fault.Denied, fault.ReasonRoleMissing)
	got, err = w.svc.PromoteOverride(w.ctx(), w.admin, pr, control.EditState{})
	w.must(err)
	if len(got.Bindings) != 1 || got.Bindings[0].Name != "huge" {
		t.Errorf("%+v", got)
	}
	pr.Binding = "nobody"
	_, err = w.svc.PromoteOverride(w.ctx(), w.admin, pr, control.EditState{})
	wantFault(t, err, fault.NotFound, fault.ReasonBindingNotFound)
}
