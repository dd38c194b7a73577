package control_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// idleTime is how long sandboxes of these tests may be without traffic, and lateness by how much an end may be late.
const idleTime, lateness = 60 * time.Second, 15 * time.Second

// idleWorld has a profile whose sandboxes may not be idle for long.
func idleWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldWith(t, control.Config{}, fake.Config{})
	w.editProfile("default", `{"container_image":"host","network":{"egress":{"default":"none","modes":{"none":{"type":"none"}}}},"guardrails":{"lifetime":{"max_idle_seconds":60}}}`)
	return w
}

// endOf waits for the end of a sandbox and returns it with the time from since to when it was stopped.
func (w *world) endOf(id string, since time.Time) (*core.Sandbox, time.Duration) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx(), time.Hour)
	defer cancel()
	sb, err := w.svc.Wait(ctx, w.user, id, control.Ended)
	w.must(err)
	for _, e := range sb.Timeline {
		if e.Name == "stopping" {
			return sb, e.At.Sub(since)
		}
	}
	w.Fatalf("it was not stopped: %+v", sb)
	return nil, 0
}

func wantIdleEnd(t *testing.T, sb *core.Sandbox, after time.Duration) {
	t.Helper()
	if sb.Status != core.StatusCompleted || sb.StatusReason != core.EndIdle || after < idleTime || after > idleTime+lateness {
		t.Errorf("%s %s after %v", sb.Status, sb.StatusReason, after)
	}
}

func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := idleWorld(t)
		sb := w.running(nil)
		end, after := w.endOf(sb.ID, sb.CreatedAt)
		wantIdleEnd(t, end, after)
	})
}

// TestTraffic: what counts as traffic puts the end off, for as long as it goes on.
func TestTraffic(t *testing.T) {
	const span = 5 * time.Minute
	every := func(d time.Duration, do func()) {
		for range span / d {
			time.Sleep(d)
			do()
		}
	}
	for name, traffic := range map[string]func(w *world, id string){
		"a command that runs": func(w *world, id string) {
			p, err := w.svc.Exec(w.ctx(), w.user, id, execOf("sleep", "300"))
			w.must(err)
			if _, code := output(w, p); code != 0 {
				w.Errorf("code %d", code)
			}
		},
		"a command that is given up": func(w *world, id string) {
			ctx, cancel := context.WithTimeout(w.ctx(), span)
			defer cancel()
			_, err := w.svc.Exec(ctx, w.user, id, execOf("sleep", "infinity"))
			w.must(err)
			<-ctx.Done()
		},
		"files": func(w *world, id string) {
			every(50*time.Second, func() {
				w.must(w.svc.WriteFile(w.ctx(), w.user, id, "/tmp/a", 0o644, strings.NewReader("x")))
			})
		},
		"output that is followed": func(w *world, id string) {
			r, err := w.svc.Logs(w.ctx(), w.user, id, backend.LogQuery{Follow: true})
			w.must(err)
			time.Sleep(span)
			w.must(r.Close())
		},
		"the network": func(w *world, id string) {
			bytes := int64(0)
			every(30*time.Second, func() { bytes++; w.fakes["r1"].SetTraffic(id, bytes) })
		},
		"a pause": func(w *world, id string) {
			w.must(w.svc.Pause(w.ctx(), w.user, id))
			time.Sleep(span)
			w.must(w.svc.Resume(w.ctx(), w.user, id))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := idleWorld(t)
				sb := w.running(nil)
				traffic(w, sb.ID)
				if now := w.get(sb.ID); now.Status != core.StatusRunning {
					t.Fatalf("%s %s in the middle of traffic", now.Status, now.StatusReason)
				}
				end, after := w.endOf(sb.ID, time.Now())
				if end.StatusReason != core.EndIdle || after < idleTime-lateness || after > idleTime+lateness {
					t.Errorf("%s after %v", end.StatusReason, after)
				}
			})
		})
	}
}

// TestIdleOfAnEarlierProcess: a new process knows the bound, and its clock begins anew.
func TestIdleOfAnEarlierProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := idleWorld(t)
		sb := w.running(nil)
		time.Sleep(50 * time.Second)
		w.restart()
		since := time.Now()
		w.attach("r1")
		end, after := w.endOf(sb.ID, since)
		wantIdleEnd(t, end, after)
	})
}

// TestIdleOutOfContact: the end waits for the line, and comes with it.
func TestIdleOutOfContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := idleWorld(t)
		sb := w.running(nil)
		w.fakes["r1"].Unreachable(true)
		time.Sleep(3 * time.Minute)
		if now := w.get(sb.ID); now.Status != core.StatusRunning || now.Observation != core.ObservationUnknown {
			t.Errorf("%s %s", now.Status, now.Observation)
		}
		w.fakes["r1"].Unreachable(false)
		if end, _ := w.endOf(sb.ID, sb.CreatedAt); end.StatusReason != core.EndIdle {
			t.Errorf("%s", end.StatusReason)
		}
	})
}

// TestNoIdle: without the guardrail nothing is watched.
func TestNoIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{}, fake.Config{})
		sb := w.running(nil)
		ctx, cancel := context.WithTimeout(w.ctx(), 30*24*time.Hour)
		defer cancel()
		if _, err := w.svc.Wait(ctx, w.user, sb.ID, control.Ended); !fault.Is(err, fault.Deadline) {
			t.Errorf("%v", err)
		}
		w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	})
}
