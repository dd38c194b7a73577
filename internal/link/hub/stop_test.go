package hub_test

import (
	"context"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link/hub"
	"github.com/bermhq/berm/internal/runner"
)

// speechless is a runner that stops sandboxes and is killed before it says so.
type speechless struct {
	runner.Link
	asked chan struct{}
}

func (l *speechless) Stop(ctx context.Context, id string, grace time.Duration, why string) error {
	err := l.Link.Stop(ctx, id, grace, why)
	l.asked <- struct{}{}
	<-ctx.Done()
	return err
}

// TestStopWhileTheRunnerIsAway: a stop whose answer went with the runner is UNAVAILABLE, and may have had its effect, which is told when the
// runner is there again. Asked again, it ends the sandbox, once, with the reason of a stop.
func TestStopWhileTheRunnerIsAway(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "r1")
	c, b := w.enrol("r1", "machine:1"), fake.New(fake.Config{})
	b.IgnoreTerm(true)
	mute := &speechless{Link: runner.NewAgent(b, nil), asked: make(chan struct{}, 1)}
	p := w.startLink(c, "a", mute, true)
	id := w.running("r1")
	stopped := make(chan error, 1)
	go func() { stopped <- w.svc.Stop(w.ctx(), w.admin, id, time.Hour) }()
	<-mute.asked
	w.must(p.end())
	wantFault(t, <-stopped, fault.Unavailable, fault.ReasonRunnerUnavailable)
	w.connected("r1", false)
	wantFault(t, w.svc.Stop(w.ctx(), w.admin, id, 0), fault.Unavailable, fault.ReasonRunnerUnavailable)
	v, err := w.svc.Get(w.ctx(), w.admin, id)
	w.must(err)
	if v.Sandbox.Status.Terminal() || v.Sandbox.ExitCode != nil {
		t.Errorf("an end that nobody saw: %s", v.Sandbox.Status)
	}
	w.start(c, "b", b, true)
	w.eventually("it is being stopped", func() bool {
		v, err := w.svc.Get(w.ctx(), w.admin, id)
		return err == nil && v.Sandbox.Status == core.StatusTerminating
	})
	w.must(w.svc.Stop(w.ctx(), w.admin, id, 0))
	sb, err := w.svc.Wait(w.ctx(), w.admin, id, control.Ended)
	w.must(err)
	ends := 0
	for _, e := range sb.Timeline {
		if e.Name == "ended" {
			ends++
		}
	}
	if sb.Status != core.StatusCompleted || sb.StatusReason != core.EndStopped || ends != 1 {
		t.Errorf("%s %s, ended %d times", sb.Status, sb.StatusReason, ends)
	}
}
