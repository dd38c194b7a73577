package control_test

import (
	"context"
	"sync/atomic"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// counting counts transactions that were committed.
type counting struct {
	store.Store
	updates atomic.Int64
}

func (c *counting) Update(ctx context.Context, fn func(store.Tx) error) error {
	err := c.Store.Update(ctx, fn)
	if err == nil {
		c.updates.Add(1)
	}
	return err
}

// TestThreeCommits: a sandbox costs three at most, from its acceptance to its end, however it ends and whatever is done in it.
func TestThreeCommits(t *testing.T) {
	w := newWorld(t)
	counted := &counting{Store: w.store}
	cfg := w.cfg
	cfg.Store = counted
	svc := control.New(w.ctx(), cfg)
	defer svc.Close()
	w.svc.Detach(w.runners["r1"].ID)
	w.must(svc.Attach(w.ctx(), w.runners["r1"].ID, w.agent(w.fakes["r1"])))
	before := counted.updates.Load()
	sb, _, err := svc.Launch(w.ctx(), w.user, &specpb.Launch{MaxLifetimeSeconds: 1000})
	w.must(err)
	_, err = svc.Wait(w.ctx(), w.user, sb.ID, control.Settled)
	w.must(err)
	for range 10 {
		p, err := svc.Exec(w.ctx(), w.user, sb.ID, execOf("echo", "hi"))
		w.must(err)
		output(t, p)
		_, err = svc.Get(w.ctx(), w.user, sb.ID)
		w.must(err)
	}
	w.fakes["r1"].Unreachable(true)
	w.eventually("the line is down", func() bool {
		v, err := svc.Get(w.ctx(), w.user, sb.ID)
		return err == nil && v.Sandbox.Observation == core.ObservationUnknown
	})
	w.fakes["r1"].Unreachable(false)
	w.eventually("the line is up", func() bool {
		v, err := svc.Get(w.ctx(), w.user, sb.ID)
		return err == nil && v.Sandbox.Observation == core.ObservationCurrent
	})
	w.must(svc.Stop(w.ctx(), w.user, sb.ID, control.MaxGrace))
	got, err := svc.Wait(w.ctx(), w.user, sb.ID, control.Ended)
	w.must(err)
	if n := counted.updates.Load() - before; n != 3 || got.Status != core.StatusCompleted {
		t.Errorf("%d commits until %s", n, got.Status)
	}
}

// TestRunnerWithoutAProcess is PENDING and DISCONNECTED and never a candidate.
func TestRunnerWithoutAProcess(t *testing.T) {
	w := newWorld(t)
	_, _, err := w.svc.CreateRunner(w.ctx(), w.admin, control.RunnerInput{
		RunnerID: "pending", Zone: "z", ClusterName: "c", Bindings: []core.Binding{{ProfileID: w.profile.ID, Default: true}},
	})
	w.must(err)
	for range 20 {
		if sb := w.launch(nil); sb.RunnerID != "r1" {
			t.Fatalf("launched on %s", sb.RunnerID)
		}
	}
	_, _, err = w.svc.Launch(w.ctx(), w.user, &specpb.Launch{RunnerIds: []string{"pending"}})
	wantFault(t, err, fault.Unavailable, fault.ReasonNoSuitableRunner, "no process has connected yet")
}
