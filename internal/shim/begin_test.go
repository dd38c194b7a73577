package shim_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// prepare returns a sandbox that waits for its main process.
func startPrepared(t testing.TB, runtime string) *sandbox {
	t.Helper()
	s := newSandbox(t, runtime)
	s.cfg.Prepared = true
	s.spec["hostname"] = "neutral"
	s.mustStart()
	if st, err := shim.Inspect(s.cfg.Dir); err != nil || st.Status != shim.StatusPrepared || !st.Record.StartedAt.IsZero() {
		t.Fatalf("%+v %v", st, err)
	}
	return s
}

// begun is a main process that says what it was given, and ends with code 3 when asked to.
func begun(name string) shim.Begin {
	main := append([]string{}, trapping...)
	main[2] = `echo "$WHAT $(uname -n) $PWD"; ` + main[2]
	return shim.Begin{Hostname: name, Env: []string{"WHAT=given"}, WorkDir: "/workspace", Main: main}
}

func TestBegin(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := startPrepared(t, runtime)
		// Before it is somebody's, it serves nobody; the request waits.
		if err := s.client.Pause(s.ctx()); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
			t.Errorf("pause: %v", err)
		}
		own, _ := os.Hostname()
		if err := s.client.Begin(s.ctx(), begun("its-own-name")); err != nil {
			t.Fatalf("%v\n%s", err, s.logs())
		}
		s.awaitOutput("given its-own-name /workspace")
		if got := s.sh("echo $WHAT; uname -n; cat /proc/sys/kernel/hostname"); got != "given\nits-own-name\nits-own-name" {
			t.Errorf("a command: %q", got)
		}
		if now, _ := os.Hostname(); now != own {
			t.Errorf("the machine is called %s", now)
		}
		st, err := shim.Inspect(s.cfg.Dir)
		if err != nil || st.Status != shim.StatusRunning || st.Record.StartedAt.IsZero() {
			t.Errorf("%+v %v", st, err)
		}
		if err := s.client.Stop(s.ctx(), patience); err != nil {
			t.Fatal(err)
		}
		wantExit(t, s, s.wait(), shim.ReasonStopped, 3, 0)
	})
}

// TestBeginOnce: the main process is started once, whoever asks how often, and all are told the same.
func TestBeginOnce(t *testing.T) {
	s := startPrepared(t, "crun")
	b := shim.Begin{Main: []string{"/bin/sh", "-c", "echo once; sleep 1000"}}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := s.client.Begin(s.ctx(), b); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := s.client.Begin(s.ctx(), shim.Begin{Main: []string{"echo", "other"}}); err != nil {
		t.Error(err)
	}
	s.awaitOutput("once")
	s.stop()
	out, err := s.client.Output(s.ctx(), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if o, err := out.Recv(); err != nil || string(o.Data) != "once\n" {
		t.Errorf("%q %v", o.Data, err)
	}
	if o, err := out.Recv(); err == nil {
		t.Errorf("more output: %q", o.Data)
	}
}

func TestBeginIdle(t *testing.T) {
	s := startPrepared(t, "crun")
	if err := s.client.Begin(s.ctx(), shim.Begin{Env: []string{"A=b"}}); err != nil {
		t.Fatal(err)
	}
	if got := s.sh("echo $A; uname -n"); got != "b\nneutral" {
		t.Errorf("%q", got)
	}
	if err := s.client.Stop(s.ctx(), patience); err != nil {
		t.Fatal(err)
	}
	wantExit(t, s, s.wait(), shim.ReasonStopped, 0, 0)
}

// TestBeginFails: a main process that cannot start ends the sandbox as it does at an ordinary start.
func TestBeginFails(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := startPrepared(t, runtime)
		for range 2 {
			err := s.client.Begin(s.ctx(), shim.Begin{Main: []string{"no-such-command"}})
			if !fault.HasReason(err, fault.ReasonCommandNotFound) {
				t.Errorf("%v", err)
			}
			e := s.wait()
			if e.Reason != shim.ReasonStartFailed || e.ExitCode != nil || !e.StartedAt.IsZero() || !strings.Contains(e.Message, "no-such-command") {
				t.Errorf("%+v", e)
			}
		}
	})
}

func TestBeginRefuses(t *testing.T) {
	t.Run("a sandbox that has its main process", func(t *testing.T) {
		s := start(t, "crun", "sleep", "1000")
		if err := s.client.Begin(s.ctx(), shim.Begin{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v", err)
		}
	})
	t.Run("what makes no sense", func(t *testing.T) {
		s := startPrepared(t, "crun")
		for _, b := range []shim.Begin{
			{Hostname: strings.Repeat("x", shim.MaxHostname+1)}, {Env: []string{"novalue"}}, {Main: []string{""}}, {Main: []string{"a\x00b"}},
		} {
			if err := s.client.Begin(s.ctx(), b); !fault.Is(err, fault.Invalid) {
				t.Errorf("%+v: %v", b, err)
			}
		}
		if st, err := shim.Inspect(s.cfg.Dir); err != nil || st.Status != shim.StatusPrepared {
			t.Errorf("%+v %v", st, err)
		}
	})
	t.Run("one that was stopped", func(t *testing.T) {
		s := startPrepared(t, "crun")
		if e := s.stop(); e.Reason != shim.ReasonStopped || !e.StartedAt.IsZero() || e.ExitCode != nil {
			t.Errorf("%+v", e)
		}
		if err := s.client.Begin(s.ctx(), begun("x")); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
			t.Errorf("%v", err)
		}
	})
}

// TestPreparedDies: the end of a sandbox that waits is told as it was seen, and it never becomes anybody's.
func TestPreparedDies(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := startPrepared(t, runtime)
		r, err := s.client.Info(s.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if e := s.wait(); e.Reason != shim.ReasonKilled || !e.StartedAt.IsZero() {
			t.Errorf("%+v", e)
		}
		if err := s.client.Begin(s.ctx(), begun("x")); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
			t.Errorf("%v", err)
		}
	})
}

// TestPreparedLosesItsShim: without its shim it is lost, and its record says that nothing of anybody ran in it.
func TestPreparedLosesItsShim(t *testing.T) {
	s := startPrepared(t, "crun")
	if err := syscall.Kill(s.shimPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Wait(s.ctx()); err == nil {
		t.Error("an end was told")
	}
	if st, err := shim.Inspect(s.cfg.Dir); err != nil || st.Status != shim.StatusLost || st.Record.Phase != shim.PhasePrepared {
		t.Errorf("%+v %v", st, err)
	}
}

// BenchmarkBegin measures what is left to do when a sandbox was prepared: from the request to the running main process.
func BenchmarkBegin(b *testing.B) {
	bench(b, func(b *testing.B, runtime string) {
		var took []time.Duration
		for b.Loop() {
			b.StopTimer()
			s := startPrepared(b, runtime)
			b.StartTimer()
			at := time.Now()
			if err := s.client.Begin(s.ctx(), shim.Begin{Hostname: "bench", Main: []string{"sleep", "1000"}}); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(at))
			b.StopTimer()
			s.stop()
			b.StartTimer()
		}
		percentiles(b, took)
	})
}

// TestBeginBinds: files are mounted as a runtime would: read-only, in directories that belong to the sandbox's root.
func TestBeginBinds(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := startPrepared(t, runtime)
		source := filepath.Join(s.cfg.Dir, "given")
		if err := os.WriteFile(source, []byte("of the host\n"), 0o444); err != nil {
			t.Fatal(err)
		}
		b := begun("named")
		for _, target := range []string{"/tmp/a/b/file", "/root/own", "/workspace/x"} {
			b.Binds = append(b.Binds, shim.Bind{Source: source, Target: target, Owner: hostBase})
		}
		if err := s.client.Begin(s.ctx(), b); err != nil {
			t.Fatalf("%v\n%s", err, s.logs())
		}
		if got := s.sh("cat /tmp/a/b/file /root/own /workspace/x"); got != "of the host\nof the host\nof the host" {
			t.Errorf("%q", got)
		}
		if got := s.sh("stat -c %u /tmp/a /tmp/a/b; (echo x > /root/own) 2>&1; rm -f /root/own 2>&1; grep -c ' /root/own ro,nosuid,nodev' /proc/self/mountinfo"); !strings.HasPrefix(got, "0\n0\n") ||
			!strings.Contains(got, "ead-only") || !strings.HasSuffix(got, "\n1") {
			t.Errorf("%q", got)
		}
		if data, err := os.ReadFile(source); err != nil || string(data) != "of the host\n" {
			t.Errorf("%q %v", data, err)
		}
		// The machine's own mounts are as they were.
		for _, m := range mounts(t) {
			if strings.Contains(m, "/tmp/a/b/file") {
				t.Errorf("mounted on the machine: %s", m)
			}
		}
	})
}

// TestBeginBindsNot: what cannot be mounted fails the start, with the reason, and nothing ran.
func TestBeginBindsNot(t *testing.T) {
	s := startPrepared(t, "crun")
	for _, wrong := range []shim.Bind{{Source: "x", Target: "/tmp/x", Owner: 1}, {Source: "/etc/hostname", Target: "/", Owner: 1}, {Source: "/etc/hostname", Target: "/tmp/x"}} {
		if err := s.client.Begin(s.ctx(), shim.Begin{Binds: []shim.Bind{wrong}}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	err := s.client.Begin(s.ctx(), shim.Begin{Main: trapping, Binds: []shim.Bind{{Source: "/etc/hostname", Target: "/usr/no/place", Owner: hostBase}}})
	if err == nil || !strings.Contains(err.Error(), "/usr/no/place") {
		t.Errorf("%v", err)
	}
	if e := s.wait(); e.Reason != shim.ReasonStartFailed || e.ExitCode != nil {
		t.Errorf("%+v", e)
	}
}
