package control_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
)

// twoServers makes two servers that share a database, and a runner on another machine that is in contact with the first. It returns the
// second, and a sandbox from before it started and one from after.
func twoServers(t *testing.T) (w *world, second *control.Service, before, after *core.Sandbox) {
	t.Helper()
	w, o := sharing(t, time.Minute)
	w.must(w.svc.Attach(w.ctx(), w.runners["lab"].ID, &gate{Link: w.agent(w.fakes["lab"]), w: w}))
	onLab := &specpb.Launch{RunnerIds: []string{"lab"}}
	before = w.running(onLab)
	second = w.serverAt(o.Store, "2222222222222222")
	return w, second, before, w.running(onLab)
}

// firstDies ends the first server; the world goes on with the second.
func (w *world) firstDies(second *control.Service) {
	w.svc.Close()
	w.svc = second
}

// TestNotLostWhileAnotherServerIsInContact: a server that never reached a runner does not call lost what is on it, as long as another
// one reaches it; and takes it over when that one is gone.
func TestNotLostWhileAnotherServerIsInContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, second, before, after := twoServers(t)
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, sb := range []*core.Sandbox{before, after} {
			if got := w.get(sb.ID); got.Status != core.StatusRunning || got.Observation != core.ObservationCurrent {
				t.Errorf("while the first is in contact: %s %s %q", got.Status, got.Observation, got.StatusReason)
			}
		}
		w.must(w.svc.Stop(w.ctx(), w.user, before.ID, time.Second))
		ended := w.ended(before.ID)
		w.firstDies(second)
		time.Sleep(30 * time.Second)
		w.attach("lab")
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := w.get(after.ID); got.Status != core.StatusRunning || got.Observation != core.ObservationCurrent {
			t.Errorf("taken over: %s %s %q", got.Status, got.Observation, got.StatusReason)
		}
		if got := w.get(before.ID); got.Status != core.StatusCompleted || got.Revision != ended.Revision || len(got.Timeline) != len(ended.Timeline) {
			t.Errorf("what the first has ended was written again: revision %d %v, was %d %v", got.Revision, got.Timeline, ended.Revision, ended.Timeline)
		}
		w.must(w.svc.Stop(w.ctx(), w.user, after.ID, time.Second))
		if got := w.ended(after.ID); got.Status != core.StatusCompleted {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
		if used := w.reserved("lab"); used != (core.Amounts{}) {
			t.Errorf("still reserved: %+v", used)
		}
	})
}

// TestLostWhenNoServerIsInContact: when the server that was in contact is gone and the runner with it, the other one declares what was
// on it lost, also what was launched when it looked elsewhere, after the bound and once.
func TestLostWhenNoServerIsInContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, second, before, after := twoServers(t)
		time.Sleep(time.Hour)
		synctest.Wait()
		w.firstDies(second)
		time.Sleep(50 * time.Second)
		synctest.Wait()
		for _, sb := range []*core.Sandbox{before, after} {
			if got := w.get(sb.ID); got.Status != core.StatusRunning || got.Observation != core.ObservationUnknown {
				t.Errorf("before the bound: %s %s %q", got.Status, got.Observation, got.StatusReason)
			}
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for _, sb := range []*core.Sandbox{before, after} {
			if got := w.get(sb.ID); got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndLost) || got.ExitCode != nil {
				t.Errorf("after the bound: %s %q %v", got.Status, got.StatusReason, got.ExitCode)
			}
		}
		if used := w.reserved("lab"); used != (core.Amounts{}) {
			t.Errorf("still reserved: %+v", used)
		}
	})
}

// TestRunnerThatMovesToAnotherServer: the server that it left calls nothing lost; the one that it came to knows what it should have.
func TestRunnerThatMovesToAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, second, before, after := twoServers(t)
		third := w.running(&specpb.Launch{RunnerIds: []string{"lab"}})
		w.svc.Detach(w.runners["lab"].ID)
		w.fakes["lab"].Lose(third.ID)
		w.must(second.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
		time.Sleep(time.Hour)
		synctest.Wait()
		w.firstDies(second)
		for _, sb := range []*core.Sandbox{before, after} {
			if got := w.get(sb.ID); got.Status != core.StatusRunning || got.Observation != core.ObservationCurrent {
				t.Errorf("it moved along: %s %s %q", got.Status, got.Observation, got.StatusReason)
			}
		}
		if got := w.get(third.ID); got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndLost) {
			t.Errorf("it was lost on the way: %s %q", got.Status, got.StatusReason)
		}
	})
}

// TestClockOfAnotherServer: what a server whose clock is wrong reaches is not called lost by another, nor is what comes from it to a server
// whose clock is right; and once nobody reaches it, it is LOST in time.
func TestClockOfAnotherServer(t *testing.T) {
	for _, wrong := range []time.Duration{-15 * time.Minute, 15 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w, o := sharing(t, 10*time.Minute)
			lab := w.runners["lab"].ID
			w.svc.Close()
			w.cfg.Now = func() time.Time { return time.Now().Add(wrong) }
			w.svc = w.serverAt(o, "1111111111111111")
			w.cfg.Now = nil
			second := w.serverAt(o.Store, "2222222222222222")
			w.must(w.svc.Attach(w.ctx(), lab, w.agent(w.fakes["lab"])))
			sb := w.running(&specpb.Launch{RunnerIds: []string{"lab"}})
			third := w.serverAt(o.Store, "3333333333333333") // It takes over what has not ended.
			fourth := w.serverAt(o.Store, "4444444444444444")
			time.Sleep(5 * time.Minute)
			fourth.Close() // The second takes up what that may have left.
			time.Sleep(40 * time.Minute)
			synctest.Wait()
			w.statusAt(third, sb.ID, core.StatusRunning)
			w.firstDies(second)
			w.must(second.Attach(w.ctx(), lab, w.agent(w.fakes["lab"])))
			time.Sleep(40 * time.Minute)
			synctest.Wait()
			w.statusAt(third, sb.ID, core.StatusRunning)
			w.firstDies(third)
			time.Sleep(9 * time.Minute)
			synctest.Wait()
			w.statusAt(third, sb.ID, core.StatusRunning)
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			w.statusAt(third, sb.ID, core.StatusFailed)
		})
	}
}
