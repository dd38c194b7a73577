package control_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// TestRestart: what runs goes on, what ended meanwhile is told with its code, and what is gone is lost without one.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	survivor, ended, gone, failed := w.running(nil), w.running(nil), w.running(nil), w.running(nil)
	before := w.get(survivor.ID)
	w.close()
	w.fakes["r1"].Exit(ended.ID, 6)
	w.fakes["r1"].OutOfMemory(failed.ID)
	w.fakes["r1"].Lose(gone.ID)
	w.open()
	w.must(w.svc.Recover(w.ctx()))
	if got := w.get(survivor.ID); got.Status != core.StatusRunning || got.Observation != core.ObservationUnknown || !strings.HasPrefix(got.StatusReason, core.ReasonRunnerLostNote) {
		t.Errorf("before the runner is back: %s %s %q", got.Status, got.Observation, got.StatusReason)
	}
	w.attach("r1")
	if got := w.get(survivor.ID); got.Status != core.StatusRunning || got.Observation != core.ObservationCurrent || !got.StartedAt.Equal(before.StartedAt) || len(got.Timeline) != len(before.Timeline) {
		t.Errorf("the survivor: %s %s %v", got.Status, got.Observation, got.Timeline)
	}
	if got := w.ended(ended.ID); got.Status != core.StatusCompleted || got.ExitCode == nil || *got.ExitCode != 6 {
		t.Errorf("%s %q %v", got.Status, got.StatusReason, got.ExitCode)
	}
	if got := w.ended(failed.ID); got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndOutOfMemory) {
		t.Errorf("%s %q", got.Status, got.StatusReason)
	}
	if got := w.ended(gone.ID); got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndLost+": ") || got.ExitCode != nil {
		t.Errorf("%s %q %v", got.Status, got.StatusReason, got.ExitCode)
	}
	if got := w.reserved("r1").Sandboxes; got != 1 {
		t.Errorf("%d reserved", got)
	}
	p, err := w.svc.Exec(w.ctx(), w.user, survivor.ID, execOf("echo", "alive"))
	w.must(err)
	if out, _ := output(t, p); out != "alive\n" {
		t.Errorf("%q", out)
	}
	if n := w.fakes["r1"].Creates(); n != 4 {
		t.Errorf("%d sandboxes were made for 4 launches", n)
	}
}

// severed is a link that ends the process at the hand-over, before or after the runner took the sandbox.
type severed struct {
	runner.Link
	before, after func()
}

func (l *severed) Apply(ctx context.Context, a *runner.Assignment) error {
	if l.before != nil {
		l.before()
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the process ended")
	}
	err := l.Link.Apply(ctx, a)
	if l.after != nil {
		l.after()
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the process ended")
	}
	return err
}

// TestCrashAroundTheHandOver: a launch that was committed but not answered is neither lost nor started twice.
func TestCrashAroundTheHandOver(t *testing.T) {
	for _, taken := range []bool{false, true} {
		w := newWorld(t)
		w.svc.Detach(w.runners["r1"].ID)
		link := &severed{Link: w.agent(w.fakes["r1"])}
		if taken {
			link.after = func() { w.svc.Close() }
		} else {
			link.before = func() { w.svc.Close() }
		}
		w.must(w.svc.Attach(w.ctx(), w.runners["r1"].ID, link))
		sb, _, err := w.svc.Launch(w.ctx(), w.user, nil)
		w.must(err)
		w.restart()
		w.attach("r1")
		got := w.wait(sb.ID, control.Settled)
		if taken && got.Status != core.StatusRunning {
			t.Errorf("the runner has it: %s %q", got.Status, got.StatusReason)
		}
		if !taken && (got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndStartFailed) || got.ExitCode != nil) {
			t.Errorf("the runner never had it: %s %q", got.Status, got.StatusReason)
		}
		if n := w.fakes["r1"].Creates(); n > 1 {
			t.Errorf("it was started %d times", n)
		}
		if got := w.reserved("r1").Sandboxes; (got == 1) != taken {
			t.Errorf("taken %v, %d reserved", taken, got)
		}
	}
}

// flaky is a link whose next hand-overs are not answered, although the runner may have taken the sandbox.
type flaky struct {
	runner.Link
	failures int
	taken    bool
}

func (l *flaky) Apply(ctx context.Context, a *runner.Assignment) error {
	if l.failures == 0 {
		return l.Link.Apply(ctx, a)
	}
	l.failures--
	if l.taken {
		if err := l.Link.Apply(ctx, a); err != nil {
			return err
		}
	}
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "no answer")
}

// TestUnansweredHandOver: it is repeated until it is answered; the runner takes the sandbox once.
func TestUnansweredHandOver(t *testing.T) {
	for _, taken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.svc.Detach(w.runners["r1"].ID)
			w.must(w.svc.Attach(w.ctx(), w.runners["r1"].ID, &flaky{Link: w.agent(w.fakes["r1"]), failures: 3, taken: taken}))
			sb := w.launch(nil)
			if got := w.wait(sb.ID, control.Settled); got.Status != core.StatusRunning {
				t.Errorf("%s %q", got.Status, got.StatusReason)
			}
			if n := w.fakes["r1"].Creates(); n != 1 {
				t.Errorf("made %d times", n)
			}
		})
	}
}

// TestStrays: what a runner has and no row stands for is ended and removed; other processes' sandboxes are taken over.
func TestStrays(t *testing.T) {
	w := newWorld(t)
	w.svc.Detach(w.runners["r1"].ID)
	f := w.fakes["r1"]
	for _, id := range []string{"stray-running", "stray-ended"} {
		w.must(f.Create(w.ctx(), &backend.Work{SandboxID: id, Launch: &specpb.Launch{}}))
	}
	f.Exit("stray-ended", 0)
	w.attach("r1")
	w.eventually("the strays are gone", func() bool { return len(f.Sandboxes()) == 0 })
	// A row that another gateway wrote, on a runner that is attached here.
	w.svc.Detach(w.runners["r1"].ID)
	cfg := w.cfg
	cfg.Store = w.store
	other := control.New(w.ctx(), cfg)
	w.must(other.Attach(w.ctx(), w.runners["r1"].ID, w.agent(f)))
	sb, _, err := other.Launch(w.ctx(), w.user, nil)
	w.must(err)
	other.Close()
	w.attach("r1")
	w.must(w.svc.Stop(w.ctx(), w.user, sb.ID, time.Second))
	if got := w.ended(sb.ID); got.Status != core.StatusCompleted {
		t.Errorf("%s %q", got.Status, got.StatusReason)
	}
}

// TestRunnerThatDoesNotComeBack: its sandboxes are lost after the bound, counted from the restart.
func TestRunnerThatDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{LostAfter: time.Minute}, fake.Config{})
		sb := w.running(nil)
		w.restart()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := w.get(sb.ID); got.Status != core.StatusRunning || got.Observation != core.ObservationUnknown {
			t.Errorf("before the bound: %s %s", got.Status, got.Observation)
		}
		time.Sleep(2 * time.Second)
		if got := w.ended(sb.ID); got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndLost) {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
	})
}

// TestOtherPlacesAnswerForThemselves: of a server that shares the database, nothing is called lost, however long it is not seen here.
func TestOtherPlacesAnswerForThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{LostAfter: time.Minute}, fake.Config{})
		there := control.Bootstrap{Place: "1111111111111111", Runners: []control.LocalRunner{{Name: "there"}}}
		out, err := w.svc.Bootstrap(w.ctx(), there)
		w.must(err)
		w.runners["there"], w.fakes["there"] = out.Runners[0], fake.New(fake.Config{})
		w.attach("there")
		sb, _, err := w.svc.Launch(w.ctx(), w.user, &specpb.Launch{RunnerIds: []string{"there"}})
		w.must(err)
		w.wait(sb.ID, control.Settled)
		w.close()
		w.open()
		_, err = w.svc.Bootstrap(w.ctx(), control.Bootstrap{Place: "2222222222222222", Runners: []control.LocalRunner{{Name: "here"}}})
		w.must(err)
		w.must(w.svc.Recover(w.ctx()))
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := w.get(sb.ID); got.Status != core.StatusRunning || got.Observation != core.ObservationUnknown {
			t.Errorf("a sandbox of another place: %s %s %q", got.Status, got.Observation, got.StatusReason)
		}
	})
}

// TestStatusesAreWrittenWhenTheStoreIsBack: an end that was observed while the store was away is not lost.
func TestStatusesAreWrittenWhenTheStoreIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		down := &away{Store: w.store}
		cfg := w.cfg
		cfg.Store = down
		svc := control.New(w.ctx(), cfg)
		defer svc.Close()
		w.svc.Detach(w.runners["r1"].ID)
		w.must(svc.Attach(w.ctx(), w.runners["r1"].ID, w.agent(w.fakes["r1"])))
		var ids []string
		for range 3 {
			sb, _, err := svc.Launch(w.ctx(), w.user, nil)
			w.must(err)
			ids = append(ids, sb.ID)
		}
		synctest.Wait()
		down.set(fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "read-only"))
		for i, id := range ids {
			w.fakes["r1"].Exit(id, int32(i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if v, err := svc.Get(w.ctx(), w.user, ids[0]); err != nil || v.Sandbox.Status != core.StatusRunning {
			t.Errorf("while the store is away: %+v, %v", v, err)
		}
		down.set(nil)
		for i, id := range ids {
			sb, err := svc.Wait(w.ctx(), w.user, id, control.Ended)
			w.must(err)
			if sb.ExitCode == nil || *sb.ExitCode != int32(i) {
				t.Errorf("%s: %v", id, sb.ExitCode)
			}
		}
	})
}

// away is a store whose updates fail while err is set.
type away struct {
	store.Store
	err chan error
}

func (a *away) set(err error) {
	if a.err == nil {
		a.err = make(chan error, 1)
	}
	select {
	case <-a.err:
	default:
	}
	a.err <- err
}

func (a *away) Update(ctx context.Context, fn func(store.Tx) error) error {
	if a.err != nil {
		err := <-a.err
		a.err <- err
		if err != nil {
			return err
		}
	}
	return a.Store.Update(ctx, fn)
}

func TestAttach(t *testing.T) {
	w := newWorld(t)
	agent := w.agent(w.fakes["r1"])
	wantFault(t, w.svc.Attach(w.ctx(), w.runners["r1"].ID, agent), fault.Exists, fault.ReasonRunnerExists, "has a process already")
	wantFault(t, w.svc.Attach(w.ctx(), "nobody", agent), fault.NotFound, fault.ReasonRunnerNotFound)
	w.svc.Detach(w.runners["r1"].ID)
	w.svc.Detach(w.runners["r1"].ID) // again
	w.svc.Detach("nobody")
	v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	if v.Status.Connection != control.Disconnected || v.Status.LastHeartbeat.IsZero() {
		t.Errorf("%+v", v.Status)
	}
	// A process that can run nothing says so, and is no candidate.
	f := w.fakes["r1"]
	f.SetInfo(backend.Info{Refusal: "needs root"})
	w.attach("r1")
	v, err = w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	if v.Status.Install != control.InstallFailed || v.Status.Error == nil || v.Status.Error.Message != "needs root" {
		t.Errorf("%+v", v.Status)
	}
	_, _, err = w.svc.Launch(w.ctx(), w.user, nil)
	wantFault(t, err, fault.Precondition, fault.ReasonNoSuitableRunner, "needs root")
	w.svc.Detach(w.runners["r1"].ID)
	f.Unreachable(true)
	ctx, cancel := context.WithCancel(w.ctx())
	cancel()
	if err := w.svc.Attach(ctx, w.runners["r1"].ID, agent); err == nil {
		t.Error("a process that does not say what it runs was attached")
	}
	f.Unreachable(false)
	f.SetInfo(backend.Info{})
	w.attach("r1")
	w.running(nil)
}
