package control_test

import (
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestCapacityFollows: what a runner can do changes while it is there, and launches are planned and counted by what it says now.
func TestCapacityFollows(t *testing.T) {
	one := core.Amounts{CPUMillis: 1000, MemoryBytes: 1 << 30, Sandboxes: 1}
	w := newWorldWith(t, control.Config{}, fakeWith(one))
	first := w.running(nil)
	_, _, err := w.svc.Launch(w.ctx(), w.user, nil)
	wantFault(t, err, fault.Exhausted, fault.ReasonNoSuitableRunner, "")
	f := w.fakes["r1"]
	grown := one
	grown.Sandboxes = 2
	f.SetInfo(backend.Info{Capacity: grown, RuntimeClasses: []string{"fake", "vm"}})
	w.eventually("there is room for a second", func() bool {
		_, _, err := w.svc.Launch(w.ctx(), w.user, &specpb.Launch{})
		return err == nil
	})
	if got := w.reserved("r1").Sandboxes; got != 2 {
		t.Errorf("%d sandboxes are counted", got)
	}
	// What is not there any more takes nothing new; what runs goes on.
	f.SetInfo(backend.Info{Capacity: one})
	w.eventually("there is less room than is used", func() bool {
		v, err := w.svc.AvailableRunner(w.ctx(), w.user, "r1")
		w.must(err)
		return v.Capacity.Sandboxes == 1
	})
	_, _, err = w.svc.Launch(w.ctx(), w.user, nil)
	wantFault(t, err, fault.Exhausted, fault.ReasonNoSuitableRunner, "")
	if got := w.get(first.ID).Status; got != core.StatusRunning {
		t.Errorf("the first is %s", got)
	}
	// A process that comes to be unable is no candidate until it is able again.
	f.SetInfo(backend.Info{Refusal: "the disk is gone"})
	w.eventually("it is said to fail", func() bool {
		v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
		w.must(err)
		return v.Status.Install == control.InstallFailed && v.Status.Error.Message == "the disk is gone"
	})
	grown.Sandboxes = 3
	f.SetInfo(backend.Info{Capacity: grown})
	w.eventually("it takes sandboxes again", func() bool {
		_, _, err := w.svc.Launch(w.ctx(), w.user, &specpb.Launch{})
		return err == nil
	})
}
