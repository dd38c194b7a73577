package shim_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/host"
	"github.com/bermhq/berm/internal/shim/wire"
)

// attack runs one of the attacker's attacks, from a command and from the main process; want is what it may print.
func attack(t *testing.T, runtime, name, want string) {
	t.Helper()
	s := start(t, runtime, "/bin/sh", "-c", "/.berm/attacker "+name+"; echo over; sleep 1000")
	s.awaitOutput("over")
	if got := s.mainOutput(); got != want+"over\n" {
		t.Errorf("main process: %q", got)
	}
	r, err := s.exec("/.berm/attacker", name)
	if err != nil || r.code != 0 || r.stdout != want || r.stderr != "" {
		t.Errorf("command: %+v, %v", r, err)
	}
	if got := s.sh("echo alive"); got != "alive" {
		t.Errorf("afterwards: %q", got)
	}
}

// mainOutput returns what the main process has printed so far.
func (s *sandbox) mainOutput() string {
	s.t.Helper()
	r, err := shim.OpenOutput(s.cfg.Dir, -1)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	var all []byte
	for {
		o, err := r.Next()
		if errors.Is(err, io.EOF) {
			return string(all)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, o.Data...)
	}
}

// Process 1 has the same user as everybody in the sandbox, and yet nobody gets into it, to its socket or to its limits.
func TestAttackTrace(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) { attack(t, runtime, "trace", "") })
}

// The same user may set the limits of process 1, which no kernel switch forbids (a seccomp filter can): it can so make its own
// sandbox useless. It can still be stopped, and the end is told as it was.
func TestAttackLimits(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime, "sleep", "1000")
		if r, err := s.exec("/.berm/attacker", "limits"); err != nil || r.code != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		if r, err := s.exec("true"); err == nil && r.code != 0 {
			t.Errorf("afterwards: %+v", r)
		}
		if err := s.client.Stop(s.ctx(), patience); err != nil {
			t.Fatal(err)
		}
		// Without threads even the init may fail; that is not taken for an end of the main process.
		if e := s.wait(); e.Reason == shim.ReasonKilled && e.ExitCode != nil || e.Reason != shim.ReasonKilled && deref(e.ExitCode) != 143 {
			t.Errorf("exit %+v, code %d", e, deref(e.ExitCode))
		}
	})
}

// No process is born with the socket, the pipes of another or the lock.
func TestAttackDescriptors(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) { attack(t, runtime, "descriptors", "") })
}

// Nothing inside listens, and nothing of the host can be reached.
func TestAttackSockets(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) { attack(t, runtime, "sockets", "") })
}

// No signal from inside ends or stops process 1. The main process gets those that ask it to end, as it would from anybody.
func TestAttackSignals(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		for range 3 {
			if r, err := s.exec("/.berm/attacker", "signals"); err != nil || r.code != 0 || r.stdout != "sent\n" {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if got := s.sh("echo alive"); got != "alive" {
			t.Errorf("afterwards: %q", got)
		}
		guarded := start(t, runtime, "/bin/bash", "-c", "trap '' TERM INT HUP QUIT USR1 USR2; /.berm/attacker signals; exit 11")
		wantExit(t, guarded, guarded.wait(), shim.ReasonExited, 11, 0)
	})
}

// The end is what the host saw. What a process prints, or writes into files of any name, changes nothing about it.
func TestAttackForgedEnd(t *testing.T) {
	exit := wire.Append(nil, wire.TypeExit, []byte(`{"code":0}`))
	script := fmt.Sprintf(`
		for d in / /tmp /root /workspace /dev/shm /.berm; do
			echo '{"version":1,"reason":"EXITED","exit_code":0}' > $d/exit.json
			ln -sf /etc/shadow $d/shim.sock; ln -sf /etc/passwd $d/state.json
		done 2>/dev/null
		printf '%s'; echo '{"exit_code":0}'; exit 9`, octal(exit))
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime, "/bin/sh", "-c", script)
		wantExit(t, s, s.wait(), shim.ReasonExited, 9, 0)
		if got := s.mainOutput(); got != string(exit)+"{\"exit_code\":0}\n" {
			t.Errorf("output %q", got)
		}
		idle := start(t, runtime)
		r, err := idle.exec("/bin/sh", "-c", script)
		if err != nil || r.code != 9 || r.stdout != string(exit)+"{\"exit_code\":0}\n" {
			t.Errorf("command: %+v, %v", r, err)
		}
	})
}

func octal(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\%03o`, c)
	}
	return s.String()
}

// The sandbox sees nothing of the state directory, not even its name.
func TestAttackStateDirectory(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		info := s.sh("cat /proc/self/mountinfo /proc/self/mounts /proc/1/cmdline /proc/self/cgroup")
		if strings.Contains(info, s.cfg.Dir) || strings.Contains(info, filepath.Base(filepath.Dir(s.cfg.Dir))) {
			t.Errorf("the state directory is named: %s", info)
		}
		for _, attempt := range []string{"echo x > /.berm/init", "rm /.berm/init", "mv /.berm/init /.berm/old", "chmod 777 /.berm/init", "mount -o remount,rw /.berm/init", "umount /.berm/init", "echo x > " + s.cfg.Dir + "/exit.json"} {
			if r, err := s.exec("/bin/sh", "-c", attempt); err != nil || r.code == 0 {
				t.Errorf("%s: %+v, %v", attempt, r, err)
			}
		}
	})
}

// A main process that prints without end fills nothing, and neither harms the shim nor hides the end.
func TestAttackOutputFlood(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := newSandbox(t, runtime, "/bin/sh", "-c", "head -c 30000000 /dev/zero; head -c 5000000 /dev/zero >&2; echo the end; exit 2")
		s.cfg.OutputLimit = 1 << 20
		s.mustStart()
		e := s.wait()
		wantExit(t, s, e, shim.ReasonExited, 2, 0)
		if e.OutputBytes != 35000008 {
			t.Errorf("printed %d", e.OutputBytes)
		}
		var kept int64
		files, _ := filepath.Glob(filepath.Join(s.cfg.Dir, "output", "*"))
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			kept += info.Size()
		}
		if kept > 1<<20 || kept < 1<<19 {
			t.Errorf("%d bytes kept in %d files", kept, len(files))
		}
		if got := s.mainOutput(); !strings.Contains(got, "the end\n") {
			t.Errorf("%d bytes without the end", len(got))
		}
		if _, err := s.client.Output(s.ctx(), 0, false); !fault.HasReason(err, string(wire.CodeGap)) {
			t.Errorf("output from the start: %v", err)
		}
	})
}

// A process that speaks in the init's place can lie about its own sandbox's commands, and that is all: it cannot make the
// shim or the server take more than a frame, hang a stop, or invent an end.
func TestAttackFakeInit(t *testing.T) {
	fake := func(t *testing.T, how string) *sandbox {
		s := newSandbox(t, "crun", "true")
		s.spec["process"].(object)["args"] = []string{"/.berm/attacker", how}
		s.cfg.StartTimeout = 2 * time.Second
		return s
	}
	t.Run("garbage", func(t *testing.T) {
		s := fake(t, "garbage")
		if err := s.tryStart(); !fault.HasReason(err, "START_FAILED") {
			t.Errorf("start: %v", err)
		}
	})
	t.Run("liar", func(t *testing.T) {
		s := fake(t, "liar")
		s.mustStart()
		if st, err := shim.Inspect(s.cfg.Dir); err != nil || st.Status != shim.StatusRunning {
			t.Errorf("the end was taken on the init's word: %+v, %v", st, err)
		}
		wantExit(t, s, s.stop(), shim.ReasonStopped, 137, 9)
	})
	t.Run("quits", func(t *testing.T) { // Its code is not the main process's.
		s := fake(t, "quits")
		s.mustStart()
		if e := s.wait(); e.Reason != shim.ReasonKilled || e.ExitCode != nil {
			t.Errorf("exit %+v", e)
		}
	})
	for how, want := range map[string]string{
		"huge": "broke off", "huge later": "", "wrong type": "broke off", "unknown type": "broke off", "credit": "", "no exit": "", "bad json": "",
	} {
		t.Run(how, func(t *testing.T) {
			s := fake(t, how)
			s.mustStart()
			r, err := s.exec("true")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("exec: %+v, %v", r, err)
			}
			if err := s.client.WriteFile(s.ctx(), "/tmp/x", shim.WriteOptions{}, strings.NewReader("x")); err == nil {
				t.Error("a file was written")
			}
			s.stop()
		})
	}
	t.Run("two exits", func(t *testing.T) {
		s := fake(t, "two exits")
		s.mustStart()
		if r, err := s.exec("true"); err != nil || r.code != 5 {
			t.Errorf("exec: %+v, %v", r, err)
		}
	})
	t.Run("deaf", func(t *testing.T) { // It neither answers nor ends; the stop must not wait for it.
		s := fake(t, "deaf")
		s.mustStart()
		if err := s.client.Stop(s.ctx(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		wantExit(t, s, s.wait(), shim.ReasonStopped, 137, 9)
	})
	// What nobody asked for would be the shim's work, which no limit of the sandbox holds: the sandbox ends.
	for how, what := range map[string]string{
		"opens": "a stream that it opens", "pings": "a ping", "updates": "frames without content", "empties": "frames without content",
		"farewells": "frames without content", "strays": "content for streams that there are not",
	} {
		t.Run(how, func(t *testing.T) {
			s := fake(t, how)
			if err := s.tryStart(); err != nil { // One of its own streams may come before it has said that it started.
				if how != "opens" || !strings.Contains(err.Error(), what) {
					t.Errorf("start: %v", err)
				}
				return
			}
			if _, err := s.exec("true"); err == nil {
				t.Error("a command ran")
			}
			e := s.wait()
			if e.Reason != shim.ReasonKilled || e.ExitCode != nil || !strings.Contains(e.Message, what) {
				t.Errorf("%+v", e)
			}
			if err := smallProcess(s.shimPID()); err != nil {
				t.Errorf("the shim takes what it did not ask for: %v", err)
			}
		})
	}
	t.Run("flood", func(t *testing.T) {
		s := fake(t, "flood")
		s.mustStart()
		p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"true"}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range 100 {
			if f, err := p.Recv(); err != nil {
				break // A Data frame has no place in an exec.
			} else if len(f.Data) > wire.MaxData {
				t.Fatalf("frame of %d bytes", len(f.Data))
			}
		}
		s.stop()
		eventually(t, "the shim stayed small", func() error { return smallProcess(s.shimPID()) })
	})
}

// maxShimKiB is far beyond what a shim takes, and far below what it would if it kept what it is sent.
const maxShimKiB = 64 << 10

// smallProcess checks that a process, if it still exists, uses little memory.
func smallProcess(pid int) error {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil // It is gone.
	}
	for line := range bytes.Lines(data) {
		var kb int
		if n, _ := fmt.Sscanf(string(line), "VmHWM: %d kB", &kb); n == 1 && kb > maxShimKiB {
			return fmt.Errorf("at most %d KiB", kb)
		}
	}
	return nil
}

// Requests beyond the limit are refused, and the others are not harmed.
func TestTooManyRequests(t *testing.T) {
	s := start(t, "crun")
	var held []*net.UnixConn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	hold := func() {
		c, err := dialShim(s.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		if err := wire.WriteJSON(c, wire.TypeRequest, wire.Request{Version: wire.Version, Op: wire.OpWait}); err != nil {
			t.Fatal(err)
		}
	}
	for range host.MaxConns {
		hold()
	}
	eventually(t, "it is refused", func() error {
		_, err := s.exec("true")
		if fault.Is(err, fault.Exhausted) {
			return nil
		}
		hold() // The command may have been before a request that waits, which was refused in its place.
		return errors.Join(errors.New("it is not refused"), err)
	})
	// Whoever fills it so does not keep it from being looked at, and stopped.
	if _, err := s.client.Info(t.Context()); err != nil {
		t.Error(err)
	}
	for _, c := range held[1:] {
		c.Close()
	}
	eventually(t, "it works again", func() error { _, err := s.exec("true"); return err })
}

// TestStopOfTheBusy: a sandbox that serves as many requests as it can is stopped like any other.
func TestStopOfTheBusy(t *testing.T) {
	s := start(t, "crun")
	for range host.MaxConns {
		c, err := dialShim(s.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := wire.WriteJSON(c, wire.TypeRequest, wire.Request{Version: wire.Version, Op: wire.OpOutput, Follow: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := wire.NewReader(c).Read(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.exec("true"); !fault.Is(err, fault.Exhausted) {
		t.Errorf("a command: %v", err)
	}
	if err := s.client.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if e, err := s.client.Wait(t.Context()); err != nil || e.Reason != shim.ReasonStopped {
		t.Errorf("%+v, %v", e, err)
	}
}

// What reaches the socket of the shim without being a request is refused, and the shim goes on.
func TestAttackShimSocket(t *testing.T) {
	s := start(t, "crun")
	for _, garbage := range []string{
		"", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\x00", 100), "\xff\xff\xff\xff\x01\x00\x00\x00", "\x00\x00\x00\x02\x01\x00\x00\x00{}",
		"\x00\x00\x00\x02\x01\x00\x00\x01{}", "\x00\x00\x00\x01\x01\x00\x00\x00x", "\x00\x00\x00\x00\x05\x00\x00\x00",
	} {
		c, err := dialShim(s.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, garbage); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		answer, _ := io.ReadAll(c)
		if bytes.Contains(answer, []byte{byte(wire.TypeOK)}) && len(answer) > 4 && answer[4] == byte(wire.TypeOK) {
			t.Errorf("%q was answered with %q", garbage, answer)
		}
		c.Close()
	}
	// Operations between shim and init are not for the server.
	for _, op := range []wire.Op{wire.OpSetup, wire.OpMain, "nonsense", ""} {
		c, err := dialShim(s.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		_ = wire.WriteJSON(c, wire.TypeRequest, wire.Request{Version: wire.Version, Op: op, Argv: []string{"true"}})
		if f, err := wire.NewReader(c).Read(); err != nil || f.Type != wire.TypeError {
			t.Errorf("%q: %v, %v", op, f.Type, err)
		}
		c.Close()
	}
	if got := s.sh("echo alive"); got != "alive" {
		t.Errorf("afterwards: %q", got)
	}
}
