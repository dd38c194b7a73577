package local

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// sight waits until something that a shim does can be seen on disk.
func sight(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !seen(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not seen: " + what)
		}
	}
}

// TestSuspendAfterRestart: a server that takes over a sandbox which can be saved leaves its runtime what that knows of it.
func TestSuspendAfterRestart(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id := counting(t, b)
	b.reopen()
	b.isRunning(id)
	if err := b.Suspend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := b.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if r := b.exec(id, "echo", "alive"); r.out != "alive\n" {
		t.Errorf("%+v", r)
	}
}

// stubborn does not end when it is asked to.
func stubborn(t *testing.T, b *testBackend) (id string, client *shim.Client) {
	t.Helper()
	w := work("python3", "-c", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen('/tmp/up', 'w').write('x')\ntime.sleep(3600)")
	w.Spec.RuntimeClass = proto.String("runsc")
	id = b.launch(w)
	b.isRunning(id)
	b.shell(id, "while ! test -s /tmp/up; do sleep 0.01; done")
	s, err := b.get(id)
	if err != nil {
		t.Fatal(err)
	}
	return id, s.client
}

// commanded reports whether a process runs with these words in its command line.
func commanded(words ...string) bool {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	return slices.ContainsFunc(lines, func(l string) bool {
		data, _ := os.ReadFile(l)
		argv := strings.Split(string(data), "\x00")
		return !slices.ContainsFunc(words, func(w string) bool { return !slices.Contains(argv, w) })
	})
}

// TestKillWhileRestored: a sandbox whose grace is over while it is just being brought back is killed once it is there.
func TestKillWhileRestored(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id, client := stubborn(t, b)
	if err := b.Suspend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	resumed := make(chan error, 1)
	go func() { resumed <- client.Resume(t.Context()) }()
	sight(t, "the runtime is restoring it", func() bool { return commanded("restore", id) })
	if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	if o := b.ended(id); o.Reason != core.EndStopped {
		t.Errorf("%+v", o)
	}
	t.Log("resume:", <-resumed)
}

// TestResumeAfterStop: what is on disk and being stopped ends there, whoever asks for it at the same moment.
func TestResumeAfterStop(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id, client := stubborn(t, b)
	if err := b.Suspend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := client.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := client.Resume(t.Context()); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		t.Errorf("resume: %v", err)
	}
	if o := b.ended(id); o.ExitCode != nil || o.Reason != core.EndStopped || !strings.Contains(o.Message, "on disk") {
		t.Errorf("%+v", o)
	}
}

// TestSuspendWithoutRecord: a sandbox that was saved, and whose record cannot be written then, goes on; nobody else knew of it.
func TestSuspendWithoutRecord(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id := counting(t, b)
	s, err := b.get(id)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Suspend(t.Context(), id) }()
	image := shim.ImageDir(s.client.Dir())
	sight(t, "the record's name is taken", func() bool { return os.Mkdir(image+"/checkpoint.json", 0o700) == nil })
	if err := <-done; !fault.HasReason(err, fault.ReasonCheckpointFailed) {
		t.Errorf("suspend: %v", err)
	}
	if r := b.exec(id, "echo", "alive"); r.out != "alive\n" {
		t.Errorf("%+v", r)
	}
	if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	b.ended(id)
}

// TestSuspendHeldUp: a file that is just being written keeps a sandbox from being saved. It goes on as it was, with its output, and
// can be saved once the file is there.
func TestSuspendHeldUp(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id := counting(t, b)
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() { written <- b.WriteFile(t.Context(), id, "/tmp/slow", 0, r) }()
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := b.Suspend(t.Context(), id); !fault.Is(err, fault.Exhausted) {
		t.Fatalf("suspend while a file is written: %v", err)
	}
	const say = "printf x > /tmp/say.new; mv /tmp/say.new /tmp/say; while test -e /tmp/say; do sleep 0.01; done; "
	b.shell(id, say)
	sight(t, "what it printed afterwards", func() bool { return b.output(id) == "begun\nsaid x\n" })
	if err := errors.Join(w.Close(), <-written); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Suspend(t.Context(), id), b.Resume(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	b.shell(id, say+"printf 7 > /tmp/end.new; mv /tmp/end.new /tmp/end")
	if o := b.ended(id); o.ExitCode == nil || *o.ExitCode != 7 {
		t.Errorf("%+v", o)
	}
	if got := b.output(id); got != "begun\nsaid x\nsaid x\nending\n" {
		t.Errorf("output: %q", got)
	}
}

// TestSuspendDeafCallers: commands whose callers do not read what they print keep a sandbox from nothing, however many there are; nor
// do commands that begin at the same moment. Those are told what happened, and never that the sandbox has ended.
func TestSuspendDeafCallers(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id := counting(t, b)
	for range 10 {
		p, err := b.Exec(t.Context(), id, backend.Exec{Argv: []string{"cat", "/dev/zero"}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				_, err := b.tryExec(ctx, id, backend.Exec{Argv: []string{"true"}})
				if err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "ended before") {
					t.Errorf("a command: %v", err)
				}
			}
		})
	}
	defer all.Wait()
	defer cancel()
	for range 3 {
		if err := b.Suspend(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := b.Resume(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if r := b.exec(id, "echo", "alive"); r.out != "alive\n" {
		t.Errorf("%+v", r)
	}
}

// TestRestartWhileForked: a server that ends while a sandbox is saved for a fork leaves it whole, and the next one takes the fork up;
// also when that is to be stopped and deleted.
func TestRestartWhileForked(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id := counting(t, b)
	r, err := shim.ReadRecord(b.place.shimState(id))
	if err != nil {
		t.Fatal(err)
	}
	for _, stopped := range []bool{false, true} {
		w := work("python3", "-c", counter)
		w.Spec.RuntimeClass, w.Launch.ForkOf = proto.String("runsc"), id
		fork := b.launch(w)
		dir := filepath.Join(b.place.sandbox(fork), forkName)
		sight(t, "it is being saved", func() bool { return exists(dir) })
		if err := syscall.Kill(r.ShimPID, syscall.SIGSTOP); err != nil { // It takes its time.
			t.Fatal(err)
		}
		if stopped {
			if err := b.Stop(t.Context(), fork, 0, core.EndDeleted); err != nil {
				t.Fatal(err)
			}
		}
		b.reopen()
		time.AfterFunc(200*time.Millisecond, func() { _ = syscall.Kill(r.ShimPID, syscall.SIGCONT) })
		if stopped {
			b.ended(fork)
			if err := b.Delete(t.Context(), fork); err != nil {
				t.Error(err)
			}
		} else {
			b.isRunning(fork)
		}
		if r := b.exec(id, "echo", "alive"); r.out != "alive\n" {
			t.Errorf("stopped %v: %+v", stopped, r)
		}
	}
}
