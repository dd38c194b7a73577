package control_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestPause(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	for range 2 {
		w.must(w.svc.Pause(w.ctx(), w.user, sb.ID))
		if got := w.get(sb.ID); got.Status != core.StatusPaused {
			t.Fatalf("after a pause: %s", got.Status)
		}
	}
	list, _, err := w.svc.List(w.ctx(), w.user, control.SandboxQuery{Statuses: []core.Status{core.StatusPaused}})
	w.must(err)
	if len(list) != 1 || list[0].ID != sb.ID {
		t.Errorf("listed as paused: %v", list)
	}
	if list, _, err = w.svc.List(w.ctx(), w.user, control.SandboxQuery{Statuses: []core.Status{core.StatusRunning}}); err != nil || len(list) != 0 {
		t.Errorf("listed as running: %v, %v", list, err)
	}
	_, err = w.svc.Exec(w.ctx(), w.user, sb.ID, execOf("true"))
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
	if status := fault.From(err).Meta["status"]; status != "PAUSED" {
		t.Errorf("status %q", status)
	}
	_, _, err = w.svc.ReadFile(w.ctx(), w.user, sb.ID, "/tmp/a", 1)
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
	err = w.svc.WriteFile(w.ctx(), w.user, sb.ID, "/tmp/a", 0o644, strings.NewReader("x"))
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)

	for range 2 {
		w.must(w.svc.Resume(w.ctx(), w.user, sb.ID))
		if got := w.get(sb.ID); got.Status != core.StatusRunning {
			t.Fatalf("after a resumption: %s", got.Status)
		}
	}
	p, err := w.svc.Exec(w.ctx(), w.user, sb.ID, execOf("echo", "on"))
	w.must(err)
	if out, _ := output(t, p); out != "on\n" {
		t.Errorf("%q", out)
	}
	w.must(w.svc.Pause(w.ctx(), w.user, sb.ID))
	w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	end := w.get(sb.ID)
	if end.Status != core.StatusCompleted || end.StatusReason != core.EndDeleted {
		t.Errorf("the end: %s %s", end.Status, end.StatusReason)
	}
	var names []string
	for _, e := range end.Timeline {
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "started paused resumed paused stopping ended") {
		t.Errorf("timeline: %s", got)
	}
	wantFault(t, w.svc.Pause(w.ctx(), w.user, sb.ID), fault.Precondition, fault.ReasonSandboxNotRunning)
	wantFault(t, w.svc.Resume(w.ctx(), w.user, sb.ID), fault.Precondition, fault.ReasonSandboxNotRunning)
	wantFault(t, w.svc.Pause(w.ctx(), w.user, "nobody"), fault.NotFound, fault.ReasonSandboxNotFound)
}

// TestLifetimeOfAPausedSandbox: a pause saves nobody from the end of the lifetime.
func TestLifetimeOfAPausedSandbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{}, fake.Config{})
		sb := w.running(&specpb.Launch{MaxLifetimeSeconds: 600})
		w.must(w.svc.Pause(w.ctx(), w.user, sb.ID))
		ctx, cancel := context.WithTimeout(w.ctx(), 20*time.Minute)
		defer cancel()
		end, err := w.svc.Wait(ctx, w.user, sb.ID, control.Ended)
		w.must(err)
		if end.StatusReason != core.EndLifetimeExceeded || end.EndedAt.Sub(end.CreatedAt) < 10*time.Minute {
			t.Errorf("%s after %v", end.StatusReason, end.EndedAt.Sub(end.CreatedAt))
		}
	})
}

// TestPausedSandboxOfAnEarlierProcess: a new process finds it paused.
func TestPausedSandboxOfAnEarlierProcess(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	w.must(w.svc.Pause(w.ctx(), w.user, sb.ID))
	w.restart()
	w.attach("r1")
	if got := w.get(sb.ID); got.Status != core.StatusPaused {
		t.Fatalf("after a restart: %s", got.Status)
	}
	w.must(w.svc.Resume(w.ctx(), w.user, sb.ID))
	if got := w.get(sb.ID); got.Status != core.StatusRunning {
		t.Errorf("%s", got.Status)
	}
}
