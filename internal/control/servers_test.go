package control_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/runner"
)

// gate is the line of the first of two servers to a runner. While it is shut, what is handed over does not arrive.
type gate struct {
	runner.Link
	w *world
}

func (g *gate) Apply(ctx context.Context, a *runner.Assignment) error {
	if shut := g.w.shut.Load(); shut != nil {
		select {
		case <-*shut:
		case <-ctx.Done():
			return fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "no answer in time")
		}
	}
	return g.Link.Apply(ctx, a)
}

// shutGate shuts it, and returns how it is opened.
func (w *world) shutGate() (open func()) {
	c := make(chan struct{})
	w.shut.Store(&c)
	return func() { w.shut.Store(nil); close(c) }
}

// launching launches on lab through the first server and returns the sandbox, which is not handed over yet.
func (w *world) launching() string {
	w.Helper()
	first := w.svc
	go func() { _, _, _ = first.Launch(w.ctx(), w.user, &specpb.Launch{RunnerIds: []string{"lab"}}) }()
	synctest.Wait()
	all, _, err := first.List(w.ctx(), w.user, control.SandboxQuery{Statuses: []core.Status{core.StatusPending}})
	w.must(err)
	if len(all) != 1 {
		w.Fatalf("%d sandboxes are being handed over", len(all))
	}
	return all[0].ID
}

// statusAt checks what both servers say of a sandbox.
func (w *world) statusAt(second *control.Service, id string, want core.Status) {
	w.Helper()
	for name, svc := range map[string]*control.Service{"first": w.svc, "second": second} {
		v, err := svc.Get(w.ctx(), w.user, id)
		w.must(err)
		if v.Sandbox.Status != want {
			w.Errorf("the %s server says %s %q, want %s", name, v.Sandbox.Status, v.Sandbox.StatusReason, want)
		}
	}
}

// TestHandOverBesideAnotherServer: a server that comes to a runner while another one hands a sandbox over to it leaves that alone.
func TestHandOverBesideAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, second, _, _ := twoServers(t)
		open := w.shutGate()
		id := w.launching()
		w.must(second.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
		time.Sleep(50 * time.Second)
		w.statusAt(second, id, core.StatusPending)
		open()
		time.Sleep(time.Second)
		synctest.Wait()
		w.statusAt(second, id, core.StatusRunning)
		w.must(second.Stop(w.ctx(), w.user, id, time.Second))
		got := w.ended(id)
		w.statusAt(second, id, core.StatusCompleted)
		ends := 0
		for _, e := range got.Timeline {
			if e.Name == "ended" {
				ends++
			}
		}
		if ends != 1 {
			t.Errorf("it ended %d times: %v", ends, got.Timeline)
		}
		second.Close()
	})
}

// TestServerThatEndsBeforeItHandsOver: the servers that are left find out what its runner has not got, whether they came to the runner
// before or after, and not before it has been silent for long enough.
func TestServerThatEndsBeforeItHandsOver(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, second, running, _ := twoServers(t)
				if when == "before" {
					w.must(second.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
				}
				open := w.shutGate()
				defer open()
				id := w.launching()
				w.firstDies(second)
				if when == "after" {
					w.must(second.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
				}
				time.Sleep(20 * time.Second)
				if got := w.get(id); got.Status != core.StatusPending {
					t.Errorf("decided too early: %s %q", got.Status, got.StatusReason)
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				if got := w.get(id); got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndStartFailed) || got.ExitCode != nil {
					t.Errorf("nobody hands it over: %s %q %v", got.Status, got.StatusReason, got.ExitCode)
				}
				if w.fakes["lab"].Work(id) != nil {
					t.Error("it was started")
				}
				if got := w.get(running.ID); got.Status != core.StatusRunning {
					t.Errorf("another sandbox is %s %q", got.Status, got.StatusReason)
				}
			})
		})
	}
}

// TestHandOverThatOneServerCannotMake: the runner is lost to the server that launched and not to the other one. The first gives the
// sandbox up, and the other one decides.
func TestHandOverThatOneServerCannotMake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, second, _, _ := twoServers(t)
		open := w.shutGate()
		id := w.launching()
		w.must(second.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
		w.svc.Detach(w.runners["lab"].ID)
		time.Sleep(61 * time.Second) // the hand-over has failed: nobody knows whether it arrived
		open()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		w.statusAt(second, id, core.StatusFailed)
		if w.fakes["lab"].Work(id) != nil {
			t.Error("it was started")
		}
		second.Close()
	})
}

// TestTrafficThroughEitherServer: a command that runs through one server keeps a sandbox from being idle for the other one, too.
func TestTrafficThroughEitherServer(t *testing.T) {
	for _, through := range []string{"first", "second"} {
		t.Run(through, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, second, _, _ := twoServers(t)
				w.must(second.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
				w.editProfile("default", `{"container_image":"host","network":{"egress":{"default":"none","modes":{"none":{"type":"none"}}}},"guardrails":{"lifetime":{"max_idle_seconds":60}}}`)
				sb := w.running(&specpb.Launch{RunnerIds: []string{"lab"}})
				svc := map[string]*control.Service{"first": w.svc, "second": second}[through]
				p, err := svc.Exec(w.ctx(), w.user, sb.ID, backend.Exec{Argv: []string{"cat"}, Stdin: true})
				w.must(err)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				w.statusAt(second, sb.ID, core.StatusRunning)
				over := time.Now()
				w.must(p.Close())
				end, after := w.endOf(sb.ID, over)
				wantIdleEnd(t, end, after)
				second.Close()
			})
		})
	}
}

// TestServerThatComesBack: a process that follows one in the same data directory knows that the other is no more. It decides at once what
// that was about to hand over, and its lines keep nobody out.
func TestServerThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, second, _, _ := twoServers(t)
		lab := w.runners["lab"].ID
		if other, err := w.svc.HoldLine(w.ctx(), lab, "process 1"); err != nil || other != "" {
			t.Fatalf("%q %v", other, err)
		}
		if other, err := second.HoldLine(w.ctx(), lab, "process 2"); err != nil || other != w.svc.Self() {
			t.Fatalf("a second process: %q %v, want %q", other, err, w.svc.Self())
		}
		open := w.shutGate()
		defer open()
		id := w.launching()
		w.svc.Close()
		cfg := w.cfg
		cfg.Store = w.store
		w.svc = control.New(w.ctx(), cfg)
		_, err := w.svc.Bootstrap(w.ctx(), control.Bootstrap{Place: "1111111111111111"})
		w.must(err)
		w.must(w.svc.Recover(w.ctx()))
		if other, err := second.HoldLine(w.ctx(), lab, "process 2"); err != nil || other != "" {
			t.Errorf("the line of a process that is no more: %q %v", other, err)
		}
		w.must(w.svc.Attach(w.ctx(), lab, w.agent(w.fakes["lab"])))
		synctest.Wait()
		if got := w.get(id); got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndStartFailed) {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
		second.Close()
	})
}
