package local

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim"
)

// TestStartPastASilentShim: a shim that does not answer keeps its own sandbox waiting, and no server from starting.
func TestStartPastASilentShim(t *testing.T) {
	b := open(t, withRuntime("crun"))
	silent, other := b.launch(work("sleep", "infinity")), b.launch(work("sleep", "infinity"))
	b.isRunning(silent)
	b.isRunning(other)
	r, err := shim.ReadRecord(b.place.shimState(silent))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.ShimPID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.Backend = b.start()
	b.isRunning(other)
	s, err := b.get(silent)
	if err != nil {
		t.Fatal(err)
	}
	if p := s.phase(); p != backend.PhaseCreating {
		t.Errorf("a sandbox whose shim says nothing is %s", p)
	}
	if err := syscall.Kill(r.ShimPID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if r := b.exec(silent, "echo", "here"); r.out != "here\n" {
		t.Errorf("%+v", r)
	}
}

// TestUnreadableRecordIsNoStart: a sandbox whose shim is gone and whose record cannot be read may have run. It is lost, not begun again.
func TestUnreadableRecordIsNoStart(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id := b.launch(work("sleep", "infinity"))
	b.isRunning(id)
	r, err := shim.ReadRecord(b.place.shimState(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.ShimPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// As after a power cut: the name is there, and what was in the file is not.
	if err := os.Truncate(filepath.Join(b.place.shimState(id), "state.json"), 0); err != nil {
		t.Fatal(err)
	}
	b.Backend = b.start()
	if o := b.ended(id); !o.Failed || o.Reason != core.EndLost || o.ExitCode != nil {
		t.Errorf("%+v", o)
	}
}

// TestStopBeforeBegin: a stop that comes before the start can be cancelled cancels it all the same.
func TestStopBeforeBegin(t *testing.T) {
	b := open(t, withRuntime("crun"))
	ids, err := b.ids.take()
	if err != nil {
		t.Fatal(err)
	}
	w := work("true")
	writeWork(t, b, w, ids)
	s := newSandbox(w, ids)
	b.add(s)
	b.publish(s, backend.Observation{Phase: backend.PhaseCreating})
	if err := b.Stop(t.Context(), s.id, time.Minute, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	b.beginWith(s, func(ctx context.Context) error { return ctx.Err() })
	if o := b.ended(s.id); o.Failed || o.Reason != core.EndStopped || o.ExitCode != nil {
		t.Errorf("%+v", o)
	}
}

// TestEventsAreBounded: what is remembered of a sandbox does not grow with what somebody makes happen to it.
func TestEventsAreBounded(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id := b.launch(work("sleep", "infinity"))
	b.isRunning(id)
	for range 20 {
		for _, call := range []func(context.Context, string) error{b.Pause, b.Resume} {
			if err := call(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, _ := b.get(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.told); n > 10 {
		t.Errorf("%d events are remembered: %+v", n, s.told)
	}
}

func TestCPUMillis(t *testing.T) {
	const days = 24 * time.Hour
	for _, c := range []struct {
		used, over time.Duration
		want       int64
	}{
		{0, 0, 0}, {-1, time.Second, 0}, {time.Second, time.Second, 1000}, {250 * time.Millisecond, time.Second, 250}, {640 * days, 10 * days, 64_000},
	} {
		if got := cpuMillis(c.used, c.over); got != c.want {
			t.Errorf("%v in %v: %d, want %d", c.used, c.over, got, c.want)
		}
	}
}
