package control_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestExitOfTheMainProcess(t *testing.T) {
	w := newWorld(t)
	for script, want := range map[string]int32{"exit 0": 0, "exit 3": 3, "kill -KILL $$": 137} {
		sb := w.ended(w.launch(&specpb.Launch{Command: "sh", Args: []string{"-c", script}}).ID)
		if sb.Status != core.StatusCompleted || sb.StatusReason != core.EndExited || sb.ExitCode == nil || *sb.ExitCode != want {
			t.Errorf("%q: %s %q %v", script, sb.Status, sb.StatusReason, sb.ExitCode)
		}
		if sb.EndedAt.IsZero() || sb.StartedAt.IsZero() || sb.Timeline[len(sb.Timeline)-1].Name != "ended" {
			t.Errorf("%q: started %v, ended %v, timeline %v", script, sb.StartedAt, sb.EndedAt, sb.Timeline)
		}
	}
	if got := w.reserved("r1"); got != (core.Amounts{}) {
		t.Errorf("still reserved: %+v", got)
	}
}

func TestFailures(t *testing.T) {
	w := newWorld(t)
	oom := w.running(nil)
	w.fakes["r1"].OutOfMemory(oom.ID)
	if sb := w.ended(oom.ID); sb.Status != core.StatusFailed || !strings.HasPrefix(sb.StatusReason, core.EndOutOfMemory) || sb.ExitCode != nil {
		t.Errorf("%s %q %v", sb.Status, sb.StatusReason, sb.ExitCode)
	}
	lost := w.running(nil)
	w.fakes["r1"].Fail(lost.ID, core.EndLost, "the shim is gone")
	if sb := w.ended(lost.ID); sb.Status != core.StatusFailed || sb.StatusReason != "LOST: the shim is gone" || sb.ExitCode != nil {
		t.Errorf("%s %q %v", sb.Status, sb.StatusReason, sb.ExitCode)
	}
	if got := w.reserved("r1"); got != (core.Amounts{}) {
		t.Errorf("still reserved: %+v", got)
	}
}

// TestStates walks through the states that are never written as well.
func TestStates(t *testing.T) {
	w := newWorld(t)
	f := w.fakes["r1"]
	f.Hold()
	f.IgnoreTerm(true)
	sb := w.launch(nil)
	if sb.Status != core.StatusPending && sb.Status != core.StatusCreating {
		t.Errorf("right after the launch: %s", sb.Status)
	}
	w.wait(sb.ID, func(s *core.Sandbox) bool { return s.Status == core.StatusCreating })
	f.Release()
	w.wait(sb.ID, func(s *core.Sandbox) bool { return s.Status == core.StatusRunning })
	w.must(w.svc.Stop(w.ctx(), w.user, sb.ID, control.MaxGrace))
	if got := w.get(sb.ID); got.Status != core.StatusTerminating {
		t.Errorf("after a stop began: %s", got.Status)
	}
	w.must(w.svc.Stop(w.ctx(), w.user, sb.ID, control.MaxGrace)) // again
	for _, st := range []core.Status{core.StatusTerminating, core.StatusRunning} {
		all, _, err := w.svc.List(w.ctx(), w.user, control.SandboxQuery{Statuses: []core.Status{st}})
		w.must(err)
		if want := st == core.StatusTerminating; (len(all) == 1) != want {
			t.Errorf("listed as %s: %v", st, len(all) == 1)
		}
	}
	w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	got := w.get(sb.ID)
	if got.Status != core.StatusCompleted || got.StatusReason != core.EndStopped || got.ExitCode == nil || *got.ExitCode != 137 {
		t.Errorf("after the delete: %s %q %v", got.Status, got.StatusReason, got.ExitCode)
	}
	// What has ended can be stopped and deleted, and stays readable.
	w.must(w.svc.Stop(w.ctx(), w.user, sb.ID, 0))
	w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	if got := w.get(sb.ID); got.Status != core.StatusCompleted {
		t.Errorf("%s", got.Status)
	}
}

func TestStopWithoutAnObservedCode(t *testing.T) {
	w := newWorld(t)
	w.fakes["r1"].Hold()
	sb := w.launch(nil)
	w.must(w.svc.Stop(w.ctx(), w.user, sb.ID, time.Second))
	if got := w.ended(sb.ID); got.Status != core.StatusCompleted || got.ExitCode != nil || !strings.HasPrefix(got.StatusReason, core.EndStopped) {
		t.Errorf("%s %q %v", got.Status, got.StatusReason, got.ExitCode)
	}
	for _, grace := range []time.Duration{-1, control.MaxGrace + 1} {
		if err := w.svc.Stop(w.ctx(), w.user, sb.ID, grace); !fault.Is(err, fault.Invalid) {
			t.Errorf("grace %v: %v", grace, err)
		}
	}
	wantFault(t, w.svc.Stop(w.ctx(), w.user, "nobody", 0), fault.NotFound, fault.ReasonSandboxNotFound)
}

func TestNothingStaysOnTheRunner(t *testing.T) {
	w := newWorld(t)
	ids := []string{w.running(nil).ID, w.running(nil).ID}
	w.must(w.svc.Delete(w.ctx(), w.user, ids[0]))
	w.fakes["r1"].Exit(ids[1], 1)
	w.ended(ids[1])
	w.eventually("the backend knows nothing any more", func() bool { return len(w.fakes["r1"].Sandboxes()) == 0 })
}

func TestLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.running(&specpb.Launch{MaxLifetimeSeconds: 3600})
		forever := w.running(nil)
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		if got := w.get(sb.ID); got.Status != core.StatusRunning {
			t.Errorf("before its time: %s", got.Status)
		}
		time.Sleep(time.Second)
		got := w.ended(sb.ID)
		if got.Status != core.StatusCompleted || got.StatusReason != core.EndLifetimeExceeded || got.EndedAt.Before(sb.ExpiresAt) {
			t.Errorf("%s %q at %v", got.Status, got.StatusReason, got.EndedAt)
		}
		time.Sleep(100 * 24 * time.Hour)
		if got := w.get(forever.ID); got.Status != core.StatusRunning {
			t.Errorf("one without a lifetime: %s", got.Status)
		}
	})
}

func TestLifetimeSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.running(&specpb.Launch{MaxLifetimeSeconds: 60})
		during := w.running(&specpb.Launch{MaxLifetimeSeconds: 30})
		w.close()
		time.Sleep(40 * time.Second) // one lifetime ends while nobody looks
		w.open()
		w.must(w.svc.Recover(w.ctx()))
		w.attach("r1")
		synctest.Wait() // at once, not at the next try
		if got := w.get(during.ID); got.StatusReason != core.EndLifetimeExceeded {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
		if got := w.get(sb.ID); got.Status != core.StatusRunning {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
		time.Sleep(20 * time.Second)
		if got := w.ended(sb.ID); got.StatusReason != core.EndLifetimeExceeded {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
	})
}

func TestLostContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{LostAfter: time.Minute}, fake.Config{})
		sb := w.running(nil)
		time.Sleep(time.Hour)
		since := time.Now().UTC().Format(time.RFC3339)
		w.fakes["r1"].Unreachable(true)
		synctest.Wait()
		got := w.get(sb.ID)
		if got.Status != core.StatusRunning || got.Observation != core.ObservationUnknown || got.StatusReason != "RUNNER_UNREACHABLE since "+since {
			t.Errorf("%s %s %q", got.Status, got.Observation, got.StatusReason)
		}
		for name, err := range map[string]error{
			"stop": w.svc.Stop(w.ctx(), w.user, sb.ID, 0),
			"exec": execErr(w.svc.Exec(w.ctx(), w.user, sb.ID, execOf("true"))),
		} {
			if !fault.Is(err, fault.Unavailable) || !fault.HasReason(err, fault.ReasonRunnerUnavailable) || fault.From(err).RetryAfter <= 0 {
				t.Errorf("%s: %v", name, err)
			}
		}
		v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
		w.must(err)
		if v.Status.Connection != control.Disconnected || v.Status.Install != control.InstallReady || v.Status.Live != 1 {
			t.Errorf("%+v", v.Status)
		}
		time.Sleep(30 * time.Second)
		w.fakes["r1"].Unreachable(false)
		time.Sleep(10 * time.Second) // the line is opened again
		synctest.Wait()
		if got := w.get(sb.ID); got.Status != core.StatusRunning || got.Observation != core.ObservationCurrent || got.StatusReason != "" {
			t.Errorf("back: %s %s %q", got.Status, got.Observation, got.StatusReason)
		}
		// Beyond the bound it is lost, without an exit code, and stays so.
		w.fakes["r1"].Unreachable(true)
		time.Sleep(time.Minute + time.Second)
		lost := w.ended(sb.ID)
		if lost.Status != core.StatusFailed || !strings.HasPrefix(lost.StatusReason, core.EndLost+": ") || lost.ExitCode != nil {
			t.Errorf("%s %q %v", lost.Status, lost.StatusReason, lost.ExitCode)
		}
		if w.reserved("r1") != (core.Amounts{}) {
			t.Error("its reservation stayed")
		}
		w.fakes["r1"].Unreachable(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := w.get(sb.ID); got.Status != core.StatusFailed {
			t.Errorf("a final state changed to %s", got.Status)
		}
		if left := w.fakes["r1"].Sandboxes(); len(left) != 0 {
			t.Errorf("what was declared lost goes on: %v", left)
		}
	})
}

func execErr(_ any, err error) error { return err }

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.running(nil)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if got, err := w.svc.Wait(w.ctx(), w.user, sb.ID, control.Ended); err != nil || got.Status != core.StatusCompleted || len(got.Decision) == 0 {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		w.fakes["r1"].Exit(sb.ID, 0)
		group.Wait()
		// A deadline ends a wait with what was seen last.
		second := w.running(nil)
		ctx, cancel := context.WithTimeout(w.ctx(), time.Second)
		defer cancel()
		got, err := w.svc.Wait(ctx, w.user, second.ID, control.Ended)
		wantFault(t, err, fault.Deadline, "WAIT_TIMEOUT", "RUNNING")
		if got.ID != second.ID || got.Status != core.StatusRunning {
			t.Errorf("%+v", got)
		}
		_, err = w.svc.Wait(w.ctx(), w.user, "nobody", control.Ended)
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
	})
}

// TestWaitForAnotherGateway: a sandbox that another process is responsible for is followed through the change log.
func TestWaitForAnotherGateway(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	cfg := w.cfg
	cfg.Store = w.store
	other := control.New(w.ctx(), cfg)
	defer other.Close()
	done := make(chan *core.Sandbox, 1)
	go func() {
		got, err := other.Wait(w.ctx(), w.user, sb.ID, control.Ended)
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	w.fakes["r1"].Exit(sb.ID, 4)
	select {
	case got := <-done:
		if got == nil || got.ExitCode == nil || *got.ExitCode != 4 {
			t.Errorf("%+v", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("the other gateway was not told")
	}
}

func TestExecAndFiles(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	p, err := w.svc.Exec(w.ctx(), w.user, sb.ID, execOf("sh", "-c", "echo hi; exit 3"))
	w.must(err)
	if out, code := output(t, p); out != "hi\n" || code != 3 {
		t.Errorf("%q %d", out, code)
	}
	w.must(w.svc.WriteFile(w.ctx(), w.user, sb.ID, "/tmp/a", 0o644, strings.NewReader("content")))
	r, size, err := w.svc.ReadFile(w.ctx(), w.user, sb.ID, "/tmp/a", 100)
	w.must(err)
	r.Close()
	if size != 7 {
		t.Errorf("size %d", size)
	}
	for path, reason := range map[string]string{
		"/tmp/none": fault.ReasonFileNotFound, "/tmp": fault.ReasonFileIsDirectory, "relative": fault.ReasonInvalidRequest, "": fault.ReasonInvalidRequest,
		"/a\x00b": fault.ReasonInvalidRequest, "/" + strings.Repeat("a", control.MaxPath): fault.ReasonInvalidRequest,
	} {
		_, _, err := w.svc.ReadFile(w.ctx(), w.user, sb.ID, path, 100)
		if !fault.HasReason(err, reason) || fault.From(err).Meta["filepath"] != path[:min(len(path), control.MaxPath)] {
			t.Errorf("%.40q: %v %v", path, err, fault.From(err).Meta)
		}
		if path != "/tmp/none" {
			if err := w.svc.WriteFile(w.ctx(), w.user, sb.ID, path, 0o644, strings.NewReader("")); !fault.HasReason(err, reason) {
				t.Errorf("write %.40q: %v", path, err)
			}
		}
	}
	for name, argv := range map[string][]string{"none": nil, "empty": {""}, "NUL": {"echo", "a\x00b"}, "many": make([]string, control.MaxArgv+1), "long": {"echo", strings.Repeat("a", control.MaxArgvBytes)}} {
		if _, err := w.svc.Exec(w.ctx(), w.user, sb.ID, execOf(argv...)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	_, err = w.svc.Exec(w.ctx(), w.user, sb.ID, execOf("true"))
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
	_, _, err = w.svc.ReadFile(w.ctx(), w.user, sb.ID, "/tmp/a", 100)
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
}

func TestExecWaitsForTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{}, fake.Config{StartDelay: time.Minute})
		sb := w.launch(nil)
		p, err := w.svc.Exec(w.ctx(), w.user, sb.ID, execOf("echo", "hi"))
		w.must(err)
		if out, code := output(t, p); out != "hi\n" || code != 0 {
			t.Errorf("%q %d", out, code)
		}
		slow := w.launch(nil)
		ctx, cancel := context.WithTimeout(w.ctx(), time.Second)
		defer cancel()
		if _, err := w.svc.Exec(ctx, w.user, slow.ID, execOf("true")); !fault.Is(err, fault.Deadline) {
			t.Errorf("%v", err)
		}
	})
}

func TestUsageAndIsolationInGet(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	v, err := w.svc.Get(w.ctx(), w.user, sb.ID)
	w.must(err)
	if v.Usage == nil || v.Usage.CPUMillis != 7 || v.Isolation == "" {
		t.Errorf("%+v", v)
	}
	w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	if v, err = w.svc.Get(w.ctx(), w.user, sb.ID); err != nil || v.Usage != nil || v.Isolation == "" {
		t.Errorf("%+v, %v", v, err)
	}
}
