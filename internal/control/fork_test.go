package control_test

import (
	"slices"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestForkObeysTheProfileOfToday: a fork is a launch. What a profile that has become stricter does not admit is refused and leaves
// nothing; what it admits has a record, a reservation and a lifetime of its own.
func TestForkObeysTheProfileOfToday(t *testing.T) {
	w := newWorldWith(t, control.Config{}, fake.Config{Saves: true}, "r1")
	p := w.newProfile("agent", `{"container_image":"host","guardrails":{"resources":{"max_memory":"1Gi"},"lifetime":{"default_seconds":600,"max_seconds":600}}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true}))
	first := w.running(&specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Memory: "512Mi"}, Tags: []string{"a"}})

	w.editProfile(p.ID, `{"container_image":"host","guardrails":{"resources":{"max_memory":"256Mi"},"lifetime":{"default_seconds":600,"max_seconds":600}}}`)
	before, held := w.count(), w.reserved("r1")
	_, _, err := w.svc.Fork(w.ctx(), w.user, first.ID, 0, nil)
	wantFault(t, err, fault.Precondition, fault.ReasonProfileMismatch)
	if w.count() != before || w.reserved("r1") != held {
		t.Errorf("a refused fork left something: %d sandboxes, %+v", w.count(), w.reserved("r1"))
	}

	w.editProfile(p.ID, `{"container_image":"host","guardrails":{"resources":{"max_memory":"768Mi"},"lifetime":{"default_seconds":60,"max_seconds":60}}}`)
	sb, plan, err := w.svc.Fork(w.ctx(), w.user, first.ID, 0, []string{"b"})
	w.must(err)
	second := w.wait(sb.ID, control.Settled)
	if second.ID == first.ID || second.Status != core.StatusRunning || second.ProfileRevision != 3 || plan.LifetimeSeconds != 60 || !slices.Equal(second.Tags, []string{"b"}) {
		t.Errorf("%+v", second)
	}
	if of := sb.Launch.GetForkOf(); of != first.ID || first.Launch.GetForkOf() != "" {
		t.Errorf("it is a fork of %q", of)
	}
	if got := w.reserved("r1").Sandboxes; got != held.Sandboxes+1 {
		t.Errorf("%d sandboxes are reserved, %d before", got, held.Sandboxes)
	}
	if w.get(first.ID).Status != core.StatusRunning {
		t.Errorf("the first one is %s", w.get(first.ID).Status)
	}
	other := w.otherOrg("elsewhere")
	if _, _, err := w.svc.Fork(w.ctx(), other, first.ID, 0, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("of another organization: %v", err)
	}
	w.must(w.svc.Suspend(w.ctx(), w.user, second.ID))
	if _, _, err := w.svc.Fork(w.ctx(), w.user, second.ID, 0, nil); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		t.Errorf("of one on disk: %v", err)
	}
	w.must(w.svc.Resume(w.ctx(), w.user, second.ID))
}

// TestForkRefused: a runner that cannot save says so, before anything exists.
func TestForkRefused(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	_, _, err := w.svc.Fork(w.ctx(), w.user, sb.ID, 0, nil)
	if !fault.Is(err, fault.Precondition) || w.count() != 1 {
		t.Errorf("%v, %d sandboxes", err, w.count())
	}
	wantFault(t, w.svc.Suspend(w.ctx(), w.user, sb.ID), fault.Precondition, fault.ReasonBackendUnsupported)
	if w.get(sb.ID).Status != core.StatusRunning {
		t.Errorf("it is %s", w.get(sb.ID).Status)
	}
}
