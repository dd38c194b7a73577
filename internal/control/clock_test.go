package control_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/clocktest"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
)

// setBack is a server whose machine's clock can be set.
func setBack(t *testing.T, change func(*control.Config)) (*world, *clocktest.Clock) {
	t.Helper()
	clock := clocktest.New()
	cfg := control.Config{Now: clock.Now}
	if change != nil {
		change(&cfg)
	}
	return newWorldWith(t, cfg, fake.Config{Now: clock.Now}), clock
}

// took waits for the end of a sandbox, and returns how long after a moment it came, whatever any clock says.
func (w *world) took(id string, since time.Time) (*core.Sandbox, time.Duration) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx(), 3*time.Hour)
	defer cancel()
	sb, err := w.svc.Wait(ctx, w.user, id, control.Ended)
	w.must(err)
	return sb, time.Since(since)
}

// TestClockSetBack: of what runs while the clock is set back, or forward, nothing ends early or late: lifetimes, idle times, leases that are
// renewed and those that are not. Who watches is told of each, once.
func TestClockSetBack(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, -40 * 24 * time.Hour, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w, clock := setBack(t, nil)
			kept, silent := w.leaseOf(leaseTTL, 0), w.leaseOf(leaseTTL, leaseGrace)
			leave := w.holder(kept)
			under, orphaned := w.running(&specpb.Launch{LeaseId: kept.ID}), w.running(&specpb.Launch{LeaseId: silent.ID})
			short, long := w.running(&specpb.Launch{MaxLifetimeSeconds: 90}), w.running(&specpb.Launch{MaxLifetimeSeconds: 4 * 3600})
			w.editProfile("default", `{"container_image":"host","network":{"egress":{"default":"none","modes":{"none":{"type":"none"}}}},"guardrails":{"lifetime":{"max_idle_seconds":60}}}`)
			idle, since := w.running(nil), time.Now()
			after(20 * time.Second)
			clock.Set(by)
			for _, c := range []struct {
				sb       *core.Sandbox
				why      string
				min, max time.Duration
			}{{idle, core.EndIdle, idleTime, idleTime + lateness}, {short, core.EndLifetimeExceeded, 90 * time.Second, 91 * time.Second}, {orphaned, core.EndLeaseExpired, 180 * time.Second, 185 * time.Second}} {
				if sb, took := w.took(c.sb.ID, since); sb.StatusReason != c.why || took < c.min || took > c.max {
					t.Errorf("set by %v: %s after %v, want %s after %v", by, sb.StatusReason, took, c.why, c.min)
				}
			}
			after(30 * time.Minute)
			w.wantRunning(under.ID)
			w.wantRunning(long.ID)
			leave()
			// What is launched now has a place among what was launched before: it is listed, and has a history.
			now := w.running(nil)
			all, _, err := w.svc.List(w.ctx(), w.user, control.SandboxQuery{IncludeEnded: true})
			w.must(err)
			if len(all) != 6 || !slices.ContainsFunc(all, func(sb *core.Sandbox) bool { return sb.ID == now.ID }) {
				t.Errorf("set by %v: %d sandboxes are listed", by, len(all))
			}
			if d := now.CreatedAt.Round(0).Sub(clock.Now().Round(0)).Abs(); d > time.Minute || now.StartedAt.Before(now.CreatedAt) {
				t.Errorf("set by %v: created at %v, started at %v", by, now.CreatedAt, now.StartedAt)
			}
		})
	}
}

// TestClockSetBackWhileARunnerIsAway: its sandboxes are LOST when they would have been.
func TestClockSetBackWhileARunnerIsAway(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w, clock := setBack(t, func(c *control.Config) { c.LostAfter = 5 * time.Minute })
			sb := w.running(nil)
			w.svc.Detach(w.runners["r1"].ID)
			since := time.Now()
			after(time.Minute)
			clock.Set(by)
			if sb, took := w.took(sb.ID, since); sb.StatusReason[:len(core.EndLost)] != core.EndLost || took < 5*time.Minute || took > 6*time.Minute {
				t.Errorf("set by %v: %s after %v", by, sb.StatusReason, took)
			}
		})
	}
}

// TestClockSetBackOverARestart: a new process knows of a lifetime what was written, by a clock that went wrong since: it is never longer than
// it was to be.
func TestClockSetBackOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clock := setBack(t, nil)
		sb := w.running(&specpb.Launch{MaxLifetimeSeconds: 300})
		after(20 * time.Second)
		clock.Set(-time.Hour)
		w.restart()
		since := time.Now()
		w.attach("r1")
		after(time.Minute)
		w.wantRunning(sb.ID)
		if sb, took := w.took(sb.ID, since); sb.StatusReason != core.EndLifetimeExceeded || took > 301*time.Second {
			t.Errorf("%s after %v", sb.StatusReason, took)
		}
	})
}

// TestClockSetBackIsWatched: a stream of changes goes on, and is resumed, over a clock that was set back.
func TestClockSetBackIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clock := setBack(t, nil)
		s := w.watch(w.svc, w.user, control.WatchQuery{})
		mark, _ := s.until("the mark", marked)
		clock.Set(-time.Hour)
		sb := w.running(&specpb.Launch{MaxLifetimeSeconds: 30})
		ends := func(s *watched) {
			_, all := s.until("its end", has(sb.ID, core.StatusCompleted))
			for i, e := range all {
				if e.Sandbox != nil && e.Sandbox.Status.Terminal() && i < len(all)-1 {
					t.Errorf("its end came twice, or of another: %+v", e)
				}
			}
		}
		ends(s)
		again := w.watch(w.svc, w.user, control.WatchQuery{Token: mark.Token})
		ends(again)
	})
}
