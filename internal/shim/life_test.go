package shim_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
)

// wantExit checks what was recorded and what Inspect makes of it.
func wantExit(t *testing.T, s *sandbox, got shim.Exit, reason shim.Reason, code int32, signal int) {
	t.Helper()
	if got.Reason != reason || got.ExitCode == nil || *got.ExitCode != code || got.Signal != signal {
		t.Errorf("exit %+v, code %v, want %s %d signal %d", got, deref(got.ExitCode), reason, code, signal)
	}
	st, err := shim.Inspect(s.cfg.Dir)
	if err != nil || st.Status != shim.StatusExited || st.Exit.Reason != got.Reason || deref(st.Exit.ExitCode) != deref(got.ExitCode) {
		t.Errorf("inspect: %+v, %v", st, err)
	}
}

func deref(code *int32) int32 {
	if code == nil {
		return -1
	}
	return *code
}

func TestExitCodes(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		for _, tt := range []struct {
			name, script string
			code         int32
		}{
			{"zero", "exit 0", 0},
			{"seven", "exit 7", 7},
			{"SIGTERM", "kill -TERM $$", 143},
			{"SIGKILL", "kill -KILL $$", 137},
			{"says 137", "exit 137", 137},
			{"255", "exit 255", 255},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := start(t, runtime, "/bin/sh", "-c", tt.script)
				wantExit(t, s, s.wait(), shim.ReasonExited, tt.code, 0)
			})
		}
	})
}

func TestOutput(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime, "/bin/sh", "-c", "echo out; echo err >&2; echo more > /dev/stdout; read x; echo late")
		// The main process reads empty input, so the sandbox is over soon; its output is there all the same.
		s.wait()
		out, err := s.client.Output(s.ctx(), 0, true)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		text := map[wire.Stream]string{}
		var end int64
		for {
			o, err := out.Recv()
			if err != nil {
				break
			}
			text[o.Stream] += string(o.Data)
			if o.Offset != end || time.Since(o.Time) > patience {
				t.Errorf("piece at %d of %v after %d", o.Offset, o.Time, end)
			}
			end += int64(len(o.Data))
		}
		if text[wire.Stdout] != "out\nmore\nlate\n" || text[wire.Stderr] != "err\n" {
			t.Errorf("output %q", text)
		}
	})
}

// The first output must be seen while the main process runs.
func TestFollowOutput(t *testing.T) {
	s := start(t, "crun", "/bin/sh", "-c", "echo first; sleep 1000")
	out, err := s.client.Output(s.ctx(), 0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if o, err := out.Recv(); err != nil || string(o.Data) != "first\n" {
		t.Fatalf("got %q, %v", o.Data, err)
	}
	s.stop()
	if _, err := out.Recv(); err == nil || err.Error() != "EOF" {
		t.Errorf("after the end: %v", err)
	}
	if _, err := s.client.Output(s.ctx(), 7, false); !fault.Is(err, fault.Invalid) {
		t.Errorf("an offset that was never reached: %v", err)
	}
}

// A sandbox without a main process idles and ends when told to.
func TestIdle(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		if got := s.sh("echo alive"); got != "alive" {
			t.Errorf("exec: %q", got)
		}
		if err := s.client.Stop(s.ctx(), patience); err != nil {
			t.Fatal(err)
		}
		wantExit(t, s, s.wait(), shim.ReasonStopped, 0, 0)
	})
}

func TestStop(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		t.Run("obeys", func(t *testing.T) {
			s := start(t, runtime, "/bin/sh", "-c", `trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done`)
			s.awaitOutput("ready")
			if err := s.client.Stop(s.ctx(), patience); err != nil {
				t.Fatal(err)
			}
			wantExit(t, s, s.wait(), shim.ReasonStopped, 3, 0)
		})
		t.Run("default action", func(t *testing.T) {
			s := start(t, runtime, "sleep", "1000")
			if err := s.client.Stop(s.ctx(), patience); err != nil {
				t.Fatal(err)
			}
			wantExit(t, s, s.wait(), shim.ReasonStopped, 143, 0)
		})
		t.Run("ignores", func(t *testing.T) {
			s := start(t, runtime, "/bin/sh", "-c", `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
			s.awaitOutput("ready")
			if err := s.client.Stop(s.ctx(), 50*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			wantExit(t, s, s.wait(), shim.ReasonStopped, 137, 9)
		})
		t.Run("second stop shortens", func(t *testing.T) {
			s := start(t, runtime, "/bin/sh", "-c", `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
			s.awaitOutput("ready")
			for _, grace := range []time.Duration{time.Hour, 2 * time.Hour, 0} {
				if err := s.client.Stop(s.ctx(), grace); err != nil {
					t.Fatal(err)
				}
				if grace > 0 {
					if st, err := shim.Inspect(s.cfg.Dir); err != nil || st.Status != shim.StatusStopping {
						t.Errorf("inspect: %+v, %v", st, err)
					}
				}
			}
			wantExit(t, s, s.wait(), shim.ReasonStopped, 137, 9)
			if err := s.client.Stop(s.ctx(), 0); err != nil {
				t.Errorf("stop of an ended sandbox: %v", err)
			}
		})
	})
}

// awaitOutput waits until the main process has printed the text.
func (s *sandbox) awaitOutput(text string) {
	s.t.Helper()
	out, err := s.client.Output(s.ctx(), 0, true)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	var all string
	for !strings.Contains(all, text) {
		o, err := out.Recv()
		if err != nil {
			s.t.Fatalf("output %q: %v", all, err)
		}
		all += string(o.Data)
	}
}

// What the main process leaves behind is asked to end, and then killed; its end is not held up by it.
func TestRestIsEnded(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime, "/bin/sh", "-c", `
			(trap 'echo asked; exit' TERM; echo ready; while :; do sleep 0.01; done) & (trap '' TERM; sleep 1000) &
			sleep 0.1; exit 5`)
		wantExit(t, s, s.wait(), shim.ReasonExited, 5, 0)
		s.awaitOutput("asked")
	})
}

func TestStartFails(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		for _, tt := range []struct {
			name   string
			main   []string
			change func(*sandbox)
			reason string
			text   string
		}{
			{"no such command", []string{"no-such-command"}, nil, fault.ReasonCommandNotFound, `"no-such-command" not found in PATH`},
			{"no such path", []string{"/no/such"}, nil, fault.ReasonCommandNotFound, "/no/such"},
			{"not executable", []string{"/etc/passwd"}, nil, fault.ReasonExecFailed, "not executable"},
			{"directory", []string{"/usr"}, nil, fault.ReasonExecFailed, "is a directory"},
			{"no such working directory", []string{"true"}, func(s *sandbox) { s.cfg.WorkDir = "/nowhere" }, fault.ReasonExecFailed, "/nowhere"},
			{"mount source missing", []string{"true"}, func(s *sandbox) {
				s.spec["mounts"] = append(s.spec["mounts"].([]object), object{"destination": "/tmp/x", "source": "/no/such/source", "type": "bind", "options": []string{"bind"}})
			}, "START_FAILED", "/no/such/source"},
			{"no init", []string{"true"}, func(s *sandbox) {
				s.spec["process"].(object)["args"] = shim.InitArgs("/.berm/none", 0)
			}, "START_FAILED", "/.berm/none"},
			{"another program as init", []string{"true"}, func(s *sandbox) {
				s.spec["process"].(object)["args"] = []string{"/bin/sh", "-c", "echo something else >&2"}
			}, "START_FAILED", "something else"},
			{"init that says nothing", []string{"true"}, func(s *sandbox) {
				s.spec["process"].(object)["args"] = []string{"/bin/sleep", "1000"}
				s.cfg.StartTimeout = time.Second / 2
			}, "START_FAILED", "did not start the main process within"},
			{"broken bundle", []string{"true"}, func(s *sandbox) { s.spec["ociVersion"] = "99.0.0"; s.spec["root"] = object{} }, "START_FAILED", ""},
			{"file that cannot be placed", []string{"true"}, func(s *sandbox) {
				s.cfg.Files = []shim.File{{Path: "/usr/no", Source: "/etc/hostname"}}
			}, fault.ReasonFilePermissionDenied, "/usr/no"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := newSandbox(t, runtime, tt.main...)
				if tt.change != nil {
					tt.change(s)
				}
				err := s.tryStart()
				if err == nil {
					t.Fatal("it started")
				}
				if !fault.HasReason(err, tt.reason) || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("error %v (%s), want %s with %q", err, fault.From(err).Reason, tt.reason, tt.text)
				}
				st, err := shim.Inspect(s.cfg.Dir)
				if err != nil || st.Status != shim.StatusExited || st.Exit.Reason != shim.ReasonStartFailed || st.Exit.ExitCode != nil {
					t.Errorf("inspect: %+v, %v", st, err)
				}
				if pids, _ := s.cfg.Cgroup.Procs(); len(pids) > 0 {
					t.Errorf("after the failure there are still processes %v", pids)
				}
			})
		}
	})
}

func TestStartRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*sandbox)
		text   string
	}{
		{"id with a slash", func(s *sandbox) { s.cfg.ID = "a/b" }, "id"},
		{"no id", func(s *sandbox) { s.cfg.ID = "" }, "id"},
		{"relative runtime", func(s *sandbox) { s.cfg.Runtime = "crun" }, "absolute"},
		{"cgroup outside its base", func(s *sandbox) { s.cfg.Cgroup.Base = "/elsewhere" }, "base"},
		{"cgroup with dots", func(s *sandbox) { s.cfg.Cgroup.Path = "/a/../../b" }, "no . or .."},
		{"no variable", func(s *sandbox) { s.cfg.Env = []string{"NAME"} }, "NAME=value"},
		{"zero byte", func(s *sandbox) { s.cfg.Main = []string{"a\x00b"} }, "zero byte"},
		{"open directory", func(s *sandbox) { os.Chmod(s.cfg.Dir, 0o755) }, "0700"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSandbox(t, "crun", "true")
			good := s.cfg
			tt.change(s)
			err := s.tryStart()
			s.cfg = good
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
			if st, err := shim.Inspect(s.cfg.Dir); err != nil || st.Status != shim.StatusNone {
				t.Errorf("inspect: %+v, %v", st, err)
			}
		})
	}
	t.Run("used directory", func(t *testing.T) {
		s := start(t, "crun", "true")
		s.wait()
		if err := s.tryStart(); err == nil {
			t.Error("a directory was used twice")
		}
	})
}

func TestFilesAtStart(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := newSandbox(t, runtime, "/bin/sh", "-c", "cat /tmp/deep/er/a /workspace/b; stat -c %a /workspace/b; wc -c < /tmp/big")
		for name, content := range map[string]string{"a": "from a\n", "b": "from b\n", "big": strings.Repeat("x", 3<<20)} {
			if err := os.WriteFile(filepath.Join(s.cfg.Dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.cfg.Files = []shim.File{
			{Path: "/tmp/deep/er/a", Source: "a"}, {Path: "/workspace/b", Source: filepath.Join(s.cfg.Dir, "b"), Mode: 0o755}, {Path: "/tmp/big", Source: "big"},
		}
		s.mustStart()
		wantExit(t, s, s.wait(), shim.ReasonExited, 0, 0)
		s.awaitOutput("from a\nfrom b\n755\n3145728\n")
	})
}

func TestOutOfMemory(t *testing.T) {
	const eat = `tail /dev/zero`
	runtimes(t, func(t *testing.T, runtime string) {
		t.Run("main process", func(t *testing.T) {
			s := newSandbox(t, runtime, "/bin/sh", "-c", "exec tail /dev/zero")
			s.limitMemory(tightMemory)
			s.mustStart()
			e := s.wait()
			wantExit(t, s, e, shim.ReasonOutOfMemory, 137, 0)
			if !e.OOM || e.OOMKills < 1 || !strings.Contains(e.Message, "memory") {
				t.Errorf("exit %+v", e)
			}
		})
		t.Run("a command, and the main process lives on", func(t *testing.T) {
			s := newSandbox(t, runtime, "sleep", "1000")
			s.limitMemory(tightMemory)
			s.mustStart()
			if r, err := s.exec("/bin/sh", "-c", "exec tail /dev/zero"); err != nil || r.code != 137 || r.signal != int(syscall.SIGKILL) {
				t.Errorf("command: %+v, %v", r, err)
			}
			if st, err := s.client.Stats(s.ctx()); err != nil || st.OOMKills < 1 || st.MemoryLimit != tightMemory || st.MemoryPeak < tightMemory/2 || st.PIDs < 1 {
				t.Errorf("stats %+v, %v", st, err)
			}
			if err := s.client.Stop(s.ctx(), patience); err != nil {
				t.Fatal(err)
			}
			e := s.wait()
			wantExit(t, s, e, shim.ReasonStopped, 143, 0)
			if !e.OOM {
				t.Errorf("the kill was not told: %+v", e)
			}
		})
		t.Run("says 137 and was not killed", func(t *testing.T) {
			s := newSandbox(t, runtime, "/bin/sh", "-c", "("+eat+") >/dev/null 2>&1; exit 137")
			s.limitMemory(tightMemory)
			s.mustStart()
			wantExit(t, s, s.wait(), shim.ReasonExited, 137, 0)
		})
	})
}

func TestStats(t *testing.T) {
	s := start(t, "crun", "/bin/sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; sleep 1000")
	s.awaitOutput("done")
	st, err := s.client.Stats(s.ctx())
	if err != nil || st.CPU <= 0 || st.MemoryBytes <= 0 || st.MemoryPeak < st.MemoryBytes/2 || st.PIDs < 2 || st.MemoryLimit != 512<<20 {
		t.Errorf("stats %+v, %v", st, err)
	}
	s.stop()
	if _, err := s.client.Stats(s.ctx()); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		t.Errorf("stats of an ended sandbox: %v", err)
	}
}

// Somebody on the host kills process 1: the end was seen, and it was not ours.
func TestKilledFromOutside(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime, "sleep", "1000")
		r, err := s.client.Info(s.ctx())
		if err != nil || r.Phase != shim.PhaseRunning || r.PID <= 1 {
			t.Fatalf("info %+v, %v", r, err)
		}
		if start, err := shim.StartTime(r.PID); err != nil || start != r.PIDStart || start == 0 {
			t.Errorf("start time %d, %v, recorded %d", start, err, r.PIDStart)
		}
		if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wantExit(t, s, s.wait(), shim.ReasonKilled, 137, 9)
	})
}

// A server that was restarted finds the sandbox as it left it.
func TestReconnect(t *testing.T) {
	s := start(t, "crun", "/bin/sh", "-c", "echo hello; sleep 1000")
	if st, err := shim.Inspect(s.cfg.Dir); err != nil || st.Status != shim.StatusRunning || !st.Attended {
		t.Fatalf("inspect: %+v, %v", st, err)
	}
	c, err := shim.Connect(s.ctx(), s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	s.client = c
	s.awaitOutput("hello")
	if got := s.sh("echo again"); got != "again" {
		t.Errorf("exec: %q", got)
	}
	if err := c.Forget(s.ctx()); !fault.Is(err, fault.Invalid) {
		t.Errorf("forgot a running sandbox: %v", err)
	}
	wantExit(t, s, s.stop(), shim.ReasonStopped, 137, 9)
	// The end stays told as long as the shim stays, and on disk after that.
	wantExit(t, s, s.wait(), shim.ReasonStopped, 137, 9)
	if err := c.Forget(s.ctx()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shim is gone", func() error { return syscallGone(s.shimPID()) })
	wantExit(t, s, s.wait(), shim.ReasonStopped, 137, 9)
	if _, err := shim.Connect(s.ctx(), s.cfg.Dir); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		t.Errorf("connect: %v", err)
	}
}

func syscallGone(pid int) error {
	if syscall.Kill(pid, 0) == nil {
		return errors.New("process still there")
	}
	return nil
}

// A shim that is killed never makes an exit code: the sandbox is lost, and cleaned up.
func TestShimKilled(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime, "/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.01; done")
		r, err := s.client.Info(s.ctx())
		if err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() {
			e, err := s.client.Wait(s.ctx())
			if e.Reason != shim.ReasonLost || e.ExitCode != nil {
				t.Errorf("wait: %+v", e)
			}
			waited <- err
		}()
		if err := syscall.Kill(r.ShimPID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; !errors.Is(err, shim.ErrLost) {
			t.Errorf("wait: %v", err)
		}
		st, err := shim.Inspect(s.cfg.Dir)
		if err != nil || st.Status != shim.StatusLost || st.Exit != nil || st.Record.PID != r.PID {
			t.Fatalf("inspect: %+v, %v", st, err)
		}
		for range 2 { // The second time there is nothing left, and the answer is the same.
			e, err := shim.Cleanup(s.ctx(), s.cfg.Dir)
			if err != nil || e.Reason != shim.ReasonLost || e.ExitCode != nil {
				t.Errorf("cleanup: %+v, %v", e, err)
			}
			eventually(t, "process 1 is gone", func() error { return syscallGone(r.PID) })
		}
	})
}

// Without its shim a sandbox ends by itself, also when nobody cleans up.
func TestOrphanEnds(t *testing.T) {
	s := start(t, "crun", "/bin/sh", "-c", "trap '' TERM HUP PIPE; while :; do sleep 0.01; done")
	if err := syscall.Kill(s.shimPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan has ended", func() error {
		if pids, err := s.cfg.Cgroup.Procs(); err != nil || len(pids) > 0 {
			return errors.New("processes are there")
		}
		return nil
	})
}

// A shim that a person ends takes its sandbox with it, in good order.
func TestShimTerminated(t *testing.T) {
	s := start(t, "crun", "sleep", "1000")
	if err := syscall.Kill(s.shimPID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wantExit(t, s, s.wait(), shim.ReasonStopped, 143, 0)
}

func TestCleanupOfALiveSandboxIsRefused(t *testing.T) {
	s := start(t, "crun", "sleep", "1000")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := shim.Cleanup(ctx, s.cfg.Dir); !fault.Is(err, fault.Precondition) {
		t.Errorf("cleanup: %v", err)
	}
	if got := s.sh("echo alive"); got != "alive" {
		t.Errorf("after the refusal: %q", got)
	}
}

func TestSignal(t *testing.T) {
	s := start(t, "crun", "/bin/sh", "-c", `trap 'echo one' USR1; echo ready; while :; do sleep 0.01; done`)
	s.awaitOutput("ready")
	if err := s.client.Signal(s.ctx(), int(syscall.SIGUSR1)); err != nil {
		t.Fatal(err)
	}
	s.awaitOutput("one")
	if err := s.client.Signal(s.ctx(), 99); !fault.Is(err, fault.Invalid) {
		t.Errorf("signal 99: %v", err)
	}
}

// State directories lie deep: a socket's address has room for 108 bytes only.
func TestLongStatePath(t *testing.T) {
	s := newSandbox(t, "crun", "sleep", "1000")
	deep := filepath.Join(s.cfg.Dir, strings.Repeat("d", 100), strings.Repeat("e", 100), "state")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	s.cfg.Dir = deep
	s.mustStart()
	if got := s.sh("echo alive"); got != "alive" {
		t.Errorf("exec: %q", got)
	}
	s.stop()
}

// A shim whose state directory was removed can tell nobody anything: it ends its sandbox, and itself.
func TestStateDirectoryRemoved(t *testing.T) {
	for name, remove := range map[string]func(string) error{
		"removed": os.RemoveAll,
		"moved":   func(dir string) error { return os.Rename(dir, dir+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, "crun", "sleep", "1000")
			r, err := s.client.Info(s.ctx())
			if err != nil {
				t.Fatal(err)
			}
			if err := remove(s.cfg.Dir); err != nil {
				t.Fatal(err)
			}
			for _, pid := range []int{r.PID, r.ShimPID} {
				eventually(t, "process "+strconv.Itoa(pid)+" is gone", func() error { return syscallGone(pid) })
			}
		})
	}
	t.Run("after the end", func(t *testing.T) { // It lingers, for nobody.
		s := newSandbox(t, "crun", "true")
		s.cfg.Linger = time.Hour
		s.mustStart()
		s.wait()
		pid := s.shimPID()
		if err := os.RemoveAll(s.cfg.Dir); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the shim is gone", func() error { return syscallGone(pid) })
	})
}

// What the server holds open by accident is not held by the shim.
func TestInheritedDescriptors(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const leaked = 251
	if err := unix.Dup3(int(w.Fd()), leaked, 0); err != nil { // Without close-on-exec.
		t.Fatal(err)
	}
	s := start(t, "crun")
	w.Close()
	if err := unix.Close(leaked); err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the pipe is still open: %v", err)
	}
	if got := s.sh("ls /proc/self/fd | wc -l"); got != "4" {
		t.Errorf("a command has %s descriptors", got)
	}
}
