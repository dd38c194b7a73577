package control_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// TestOwners: an object belongs to one set; another set is refused, takes it over when it says so, and prunes what is its own alone.
func TestOwners(t *testing.T) {
	w := newWorld(t)
	one := control.Application{Owner: "one", Objects: []control.ApplyObject{w.profileObject("agent", `{}`), w.profileObject("other", `{}`), w.zoneObject("moon", `{}`)}}
	w.wantApplied(one, "profile agent create, profile other create, zone moon create")
	two := control.Application{Owner: "two", Objects: []control.ApplyObject{w.profileObject("agent", `{"tags":["two"]}`), w.profileObject("third", `{}`)}}
	before := w.configured()
	_, err := w.applied(two)
	wantFault(t, err, fault.Precondition, fault.ReasonOwnedByAnother, `profile agent belongs to "one", since`, "by token:admin", "--take-over")
	_, err = w.applied(control.Application{Objects: []control.ApplyObject{gone(store.KindProfile, "agent")}})
	wantFault(t, err, fault.Precondition, fault.ReasonOwnedByAnother)
	if now := w.configured(); now != before {
		t.Errorf("refused, and %s", now)
	}
	w.wantApplied(control.Application{Objects: one.Objects}, "profile agent none, profile other none, zone moon none")
	two.TakeOver = true
	w.wantApplied(two, "profile agent change (from one), profile third create")
	two.TakeOver = false
	w.wantApplied(two, "profile agent none, profile third none")

	// An object of nobody is taken; that is all that changes, and it is no revision.
	w.wantApplied(control.Application{Owner: "one", Objects: []control.ApplyObject{w.profileObject("default", w.profile.Spec.String())}}, "profile default change")
	w.wantApplied(control.Application{Owner: "one", Objects: []control.ApplyObject{gone(store.KindProfile, "nobody")}}, "profile nobody none")
	before = w.configured()
	w.wantApplied(control.Application{Owner: "two", TakeOver: true, Objects: []control.ApplyObject{w.profileObject("default", w.profile.Spec.String())}}, "profile default own (from one)")
	if now := w.configured(); now != before {
		t.Errorf("another owner, and %s, want %s", now, before)
	}

	one.Objects, one.Prune = one.Objects[2:], true
	w.wantApplied(one, "zone moon none, profile other delete (pruned)")
	if got, err := w.svc.GetProfile(w.ctx(), w.user, "agent"); err != nil || got.DisplayName != "agent" {
		t.Errorf("what belongs to another set: %v", err)
	}
	// The name is free again, and what has it belongs to nobody.
	w.newProfile("other", `{}`)
	w.wantApplied(control.Application{Owner: "two", Objects: []control.ApplyObject{w.profileObject("other", `{}`)}}, "profile other own")
}

// TestNothingIsTakenOverToBeDeleted: what a plan would prune, and another set took before it was done, stays.
func TestNothingIsTakenOverToBeDeleted(t *testing.T) {
	w := newWorld(t)
	w.wantApplied(control.Application{Owner: "one", Objects: []control.ApplyObject{w.profileObject("agent", `{}`)}}, "profile agent create")
	var plan []control.Applied
	_, err := w.svc.Preview(w.ctx(), w.admin, 0, func(ctx context.Context) (err error) {
		plan, _, err = w.svc.Apply(ctx, w.admin, control.Application{Owner: "one", Prune: true, TakeOver: true})
		return err
	})
	w.must(err)
	if len(plan) != 1 || plan[0].Action != control.ActionDelete {
		t.Fatalf("planned %+v", plan)
	}
	w.wantApplied(control.Application{Owner: "two", TakeOver: true, Objects: []control.ApplyObject{w.profileObject("agent", `{}`)}}, "profile agent own (from one)")
	planned := gone(store.KindProfile, "agent")
	planned.Etag = &plan[0].Etag
	for _, owner := range []string{"one", ""} {
		_, err = w.applied(control.Application{Owner: owner, TakeOver: true, Objects: []control.ApplyObject{planned}})
		wantFault(t, err, fault.Precondition, fault.ReasonOwnedByAnother, `profile agent belongs to "two", since`, "taking over never deletes")
	}
	w.wantApplied(control.Application{Owner: "two", Objects: []control.ApplyObject{planned}}, "profile agent delete")
}

// TestPruneIsRefused: what others need is not deleted, nor a runner with sandboxes.
func TestPruneIsRefused(t *testing.T) {
	w := newWorld(t)
	far := w.runnerObject("far", "moon", core.Binding{ProfileID: "agent"})
	agent := w.profileObject("agent", `{}`)
	w.wantApplied(control.Application{Owner: "one", Objects: []control.ApplyObject{agent}}, "profile agent create")
	w.wantApplied(control.Application{Owner: "two", Objects: []control.ApplyObject{far}}, "runner far create")
	_, err := w.applied(control.Application{Owner: "one", Prune: true})
	wantFault(t, err, fault.Precondition, fault.ReasonProfileBound, "profile agent is bound to 1 runner")
	w.wantApplied(control.Application{Owner: "two", Prune: true}, "runner far delete (pruned)")
	w.wantApplied(control.Application{Owner: "one", Prune: true}, "profile agent delete (pruned)")

	w.running(nil)
	r1, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	same := control.ApplyObject{Kind: store.KindRunner, Name: "r1", Runner: &control.RunnerInput{Zone: r1.Runner.Zone, ClusterName: r1.Runner.ClusterName, Bindings: r1.Runner.Bindings}}
	w.wantApplied(control.Application{Owner: "three", Objects: []control.ApplyObject{same}}, "runner r1 own")
	_, err = w.applied(control.Application{Owner: "three", Prune: true})
	wantFault(t, err, fault.Precondition, fault.ReasonRunnerHasSandboxes, "runner r1 has 1 sandbox")
}

// TestApplyIsAudited: each object that is written has a row, each that gets an owner another; a refused apply has one.
func TestApplyIsAudited(t *testing.T) {
	w := newWorld(t)
	apply := func(a control.Application) error {
		return w.called(func(ctx context.Context) error {
			_, _, err := w.svc.Apply(ctx, w.admin, a)
			return err
		})
	}
	w.must(apply(control.Application{Owner: "one", Reason: "why", Objects: []control.ApplyObject{w.profileObject("agent", `{}`), w.zoneObject("moon", `{}`)}}))
	if err := apply(control.Application{Owner: "two", Objects: []control.ApplyObject{w.zoneObject("moon", `{"tags":[]}`)}}); err == nil {
		t.Fatal("taken from its owner")
	}
	var got []string
	for _, e := range w.auditOf(control.AuditChain{}) {
		if e.Method == "Apply" {
			got = append(got, fmt.Sprintf("%s %s %s %s %s", e.Kind, e.Name, e.Outcome, e.ErrorReason, e.Reason))
		}
	}
	if want := "zone moon done  why, owner one done  why, profile agent done  why, owner one done  why, owner two refused OWNED_BY_ANOTHER "; strings.Join(got, ", ") != want {
		t.Errorf("audited %q\nwant    %q", strings.Join(got, ", "), want)
	}
}

// TestPolicyTestsGuardAnApply: they look at the state after all of it, refuse it as a single edit, and are told in its plan.
func TestPolicyTestsGuardAnApply(t *testing.T) {
	w, agent := testedWorld(t, control.EnforceTests)
	before := w.configured()
	broken := control.Application{Objects: []control.ApplyObject{
		w.profileObject("agent", strings.ReplaceAll(agentSpec, "4Gi", "16Gi")), w.zoneObject("moon", `{}`),
	}}
	_, err := w.applied(broken)
	if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "no more than the maximum") {
		t.Errorf("a broken test: %v", err)
	}
	if now := w.configured(); now != before {
		t.Errorf("refused, and %s", now)
	}
	p, err := w.svc.Preview(w.ctx(), w.admin, 0, func(ctx context.Context) error {
		_, _, err := w.svc.Apply(ctx, w.admin, broken)
		return err
	})
	w.must(err)
	if p.Refusal() == nil || len(p.Tests) == 0 {
		t.Errorf("the plan does not say so: %+v", p)
	}
	w.wantApplied(control.Application{Objects: []control.ApplyObject{w.profileObject("agent", strings.ReplaceAll(agentSpec, "4Gi", "2Gi"))}}, "profile agent change")
	if got, err := w.svc.GetProfile(w.ctx(), w.user, agent.ID); err != nil || got.Revision != agent.Revision+1 {
		t.Errorf("%+v %v", got, err)
	}
}
