package shim_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/shim/wire"
)

func TestExec(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := newSandbox(t, runtime)
		s.cfg.Env = []string{"BASE=base", "BOTH=base", "PATH=/usr/bin"}
		s.cfg.WorkDir = "/tmp"
		s.mustStart()
		for _, tt := range []struct {
			name string
			req  shim.ExecRequest
			want result
		}{
			{"both outputs", shim.ExecRequest{Argv: []string{"sh", "-c", "echo out; echo err >&2"}}, result{"out\n", "err\n", 0, 0}},
			{"nothing", shim.ExecRequest{Argv: []string{"true"}}, result{}},
			{"code", shim.ExecRequest{Argv: []string{"sh", "-c", "exit 42"}}, result{code: 42}},
			{"signal", shim.ExecRequest{Argv: []string{"sh", "-c", "kill -INT $$"}}, result{code: 130, signal: 2}},
			{"default directory", shim.ExecRequest{Argv: []string{"pwd"}}, result{stdout: "/tmp\n"}},
			{"directory", shim.ExecRequest{Argv: []string{"pwd"}, Dir: "/usr/lib"}, result{stdout: "/usr/lib\n"}},
			{"environment", shim.ExecRequest{
				Argv: []string{"sh", "-c", "echo $BASE $BOTH $OWN $HOME $PATH"}, Env: []string{"OWN=own", "BOTH=own"},
			}, result{stdout: "base own own /root /usr/bin\n"}},
			{"no input is /dev/null", shim.ExecRequest{Argv: []string{"readlink", "/proc/self/fd/0"}}, result{stdout: "/dev/null\n"}},
			{"empty input", shim.ExecRequest{Argv: []string{"cat"}}, result{}},
			{"argument zero", shim.ExecRequest{Argv: []string{"sh", "-c", "echo $0 $1", "zero", "a b"}}, result{stdout: "zero a b\n"}},
			{"directory relative to the default", shim.ExecRequest{Argv: []string{"pwd"}, Dir: "../usr"}, result{stdout: "/usr\n"}},
			{"umask", shim.ExecRequest{Argv: []string{"sh", "-c", "umask"}}, result{stdout: "0022\n"}},
			{"open files", shim.ExecRequest{Argv: []string{"sh", "-c", "ls /proc/self/fd | wc -l"}}, result{stdout: "4\n"}},
			{"relative to the directory", shim.ExecRequest{Argv: []string{"./env", "echo", "x"}, Dir: "/usr/bin"}, result{stdout: "x\n"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				p, err := s.client.Exec(s.ctx(), tt.req)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if got, err := collect(p); err != nil || got != tt.want {
					t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
				}
			})
		}
	})
}

func TestExecRefused(t *testing.T) {
	s := start(t, "crun")
	s.sh("printf '#!/no/such/interpreter\n' > /tmp/script; chmod 755 /tmp/script; printf 'no program' > /tmp/text; chmod 755 /tmp/text; touch /tmp/plain")
	for _, tt := range []struct {
		name   string
		req    shim.ExecRequest
		reason string
		text   string
	}{
		{"not in PATH", shim.ExecRequest{Argv: []string{"nonsense"}}, fault.ReasonCommandNotFound, `"nonsense" not found in PATH (/usr/local/sbin`},
		{"no such file", shim.ExecRequest{Argv: []string{"/no/such"}}, fault.ReasonCommandNotFound, "/no/such"},
		{"below a file", shim.ExecRequest{Argv: []string{"/etc/passwd/x"}}, fault.ReasonCommandNotFound, "/etc/passwd/x"},
		{"not executable", shim.ExecRequest{Argv: []string{"/tmp/plain"}}, fault.ReasonExecFailed, "not executable"},
		{"a directory", shim.ExecRequest{Argv: []string{"/tmp"}}, fault.ReasonExecFailed, "directory"},
		{"missing interpreter", shim.ExecRequest{Argv: []string{"/tmp/script"}}, fault.ReasonExecFailed, "interpreter"},
		{"no program", shim.ExecRequest{Argv: []string{"/tmp/text"}}, fault.ReasonExecFailed, "neither a program"},
		{"missing directory", shim.ExecRequest{Argv: []string{"true"}, Dir: "/no/dir"}, fault.ReasonExecFailed, "working directory /no/dir"},
		{"directory is a file", shim.ExecRequest{Argv: []string{"true"}, Dir: "/etc/passwd"}, fault.ReasonExecFailed, "not a directory"},
		{"nothing", shim.ExecRequest{}, fault.ReasonInvalidRequest, "no command"},
		{"empty name", shim.ExecRequest{Argv: []string{""}}, fault.ReasonInvalidRequest, "no command"},
		{"no variable", shim.ExecRequest{Argv: []string{"true"}, Env: []string{"NAME"}}, fault.ReasonInvalidRequest, `"NAME": want NAME=value`},
		{"nameless variable", shim.ExecRequest{Argv: []string{"true"}, Env: []string{"=x"}}, fault.ReasonInvalidRequest, "NAME=value"},
		{"zero byte", shim.ExecRequest{Argv: []string{"echo", "a\x00b"}}, fault.ReasonInvalidRequest, "zero byte"},
		{"not UTF-8", shim.ExecRequest{Argv: []string{"echo", "\xff"}}, fault.ReasonInvalidRequest, "UTF-8"},
		{"too long for the protocol", shim.ExecRequest{Argv: []string{"echo", strings.Repeat("x", wire.MaxRequest)}}, fault.ReasonInvalidRequest, "exceed"},
		{"too long for the kernel", shim.ExecRequest{Argv: []string{"echo", strings.Repeat("x", 200<<10)}}, fault.ReasonExecFailed, "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := s.client.Exec(s.ctx(), tt.req)
			if err == nil {
				p.Close()
				t.Fatal("it runs")
			}
			if !fault.HasReason(err, tt.reason) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v (%s), want %s with %q", err, fault.From(err).Reason, tt.reason, tt.text)
			}
		})
	}
	s.stop()
	if _, err := s.exec("true"); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		t.Errorf("exec in an ended sandbox: %v", err)
	}
}

// Ten megabytes go in and come back, through every buffer and window on the way.
func TestStdin(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		data := make([]byte, 10<<20)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"cat"}, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		sent := make(chan error, 1)
		go func() { sent <- errors.Join(p.Send(data), p.CloseSend()) }()
		got, err := collect(p)
		if err != nil || got.code != 0 || sha256.Sum256([]byte(got.stdout)) != sha256.Sum256(data) {
			t.Errorf("%d bytes came back, code %d, %v", len(got.stdout), got.code, err)
		}
		if err := <-sent; err != nil {
			t.Errorf("send: %v", err)
		}
	})
}

// A process that does not read holds its sender up, and neither a resize nor a kill waits behind the unread input.
func TestStdinBackPressure(t *testing.T) {
	s := start(t, "crun")
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{
		Argv: []string{"sh", "-c", `trap 'echo signalled; exit 9' USR1; echo ready; while :; do sleep 0.01; done`}, Stdin: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if f, err := p.Recv(); err != nil || string(f.Data) != "ready\n" {
		t.Fatalf("%q, %v", f.Data, err)
	}
	sent := make(chan error, 1)
	go func() { sent <- p.Send(make([]byte, 10<<20)) }()
	select {
	case err := <-sent:
		t.Fatalf("ten megabytes were taken by a process that reads none: %v", err)
	case <-time.After(200 * time.Millisecond): // Long enough for what is on the way to have arrived.
	}
	if err := p.Signal(int(syscall.SIGUSR1)); err != nil {
		t.Fatal(err)
	}
	if r, err := collect(p); err != nil || r.code != 9 || r.stdout != "signalled\n" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := <-sent; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("send: %v", err)
	}
}

// A process that closes its input does not hold its sender up.
func TestStdinClosedByProcess(t *testing.T) {
	s := start(t, "crun")
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"sh", "-c", "exec 0<&-; echo closed; read x < /dev/zero; sleep 1000"}, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if f, err := p.Recv(); err != nil || string(f.Data) != "closed\n" {
		t.Fatalf("%q, %v", f.Data, err)
	}
	sent := make(chan error, 1)
	go func() {
		sent <- p.Send(make([]byte, 4<<20))
		_ = p.Signal(int(syscall.SIGKILL))
	}()
	if r, err := collect(p); err != nil || r.signal != 9 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := <-sent; err != nil {
		t.Errorf("send: %v", err)
	}
}

// A reader that is slow loses nothing: everything the process printed comes before its exit.
func TestSlowReader(t *testing.T) {
	s := start(t, "crun")
	const size = 5 << 20
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"head", "-c", strconv.Itoa(size), "/dev/zero"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	total, rest := 0, 300*time.Millisecond
	for {
		f, err := p.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == shim.FrameExit {
			break
		}
		if total += len(f.Data); total > size/2 && rest > 0 {
			time.Sleep(rest) // Longer than the init waits for output after the end of the process.
			rest = 0
		}
	}
	if total != size {
		t.Errorf("%d bytes, want %d", total, size)
	}
}

// The output of one echo is one frame, as soon as it was printed.
func TestOutputAsProduced(t *testing.T) {
	s := start(t, "crun")
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"sh", "-c", "for i in 1 2 3; do echo line $i; read x; done"}, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := range 3 { // Each line must be here before the process is told to print the next.
		f, err := p.Recv()
		if err != nil || string(f.Data) != fmt.Sprintf("line %d\n", i+1) {
			t.Fatalf("%q, %v", f.Data, err)
		}
		if err := p.Send([]byte("go on\n")); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := collect(p); err != nil || r.code != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestTTY(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		p, err := s.client.Exec(s.ctx(), shim.ExecRequest{
			Argv: []string{"/bin/bash", "-c", `stty -echo; stty size; trap 'stty size' WINCH; test -t 0 -a -t 1 -a -t 2 && echo term $TERM; tty; ps -o tty= -p $$; while read x; do echo "got $x"; done; echo end`},
			TTY:  true, Width: 123, Height: 45, Stdin: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		term := &terminal{t: t, p: p}
		term.expect("45 123")
		term.expect("term xterm")
		term.expect("/dev/pts/0")
		if err := p.Resize(80, 24); err != nil {
			t.Fatal(err)
		}
		if err := p.Send([]byte("hello\n")); err != nil {
			t.Fatal(err)
		}
		term.expect("24 80")
		term.expect("got hello")
		if err := p.CloseSend(); err != nil { // Becomes the end-of-file character.
			t.Fatal(err)
		}
		term.expect("end")
		if r, err := collect(p); err != nil || r.code != 0 || r.stderr != "" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// terminal reads what a terminal shows.
type terminal struct {
	t    *testing.T
	p    *shim.Process
	text string
}

// expect reads until the text was shown.
func (x *terminal) expect(text string) {
	x.t.Helper()
	for !strings.Contains(x.text, text) {
		f, err := x.p.Recv()
		if err != nil || f.Kind != shim.FrameStdout {
			x.t.Fatalf("%q: waiting for %q: %+v, %v", x.text, text, f, err)
		}
		x.text += string(f.Data)
	}
	_, x.text, _ = strings.Cut(x.text, text)
}

// Job control, and the interrupt character, work as on any terminal.
func TestTTYJobControl(t *testing.T) {
	s := start(t, "crun")
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"/bin/bash", "--norc", "-i"}, Env: []string{"PS1=> "}, TTY: true, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	term := &terminal{t: t, p: p}
	term.expect("> ")
	for _, step := range []struct{ send, expect string }{
		{"stty size\n", "24 80"},
		{"sh -c 'echo run''ning; exec sleep 1000'\n", "running"},
		{"\x03", "^C"},
		{"echo back''again\n", "backagain"},
		{"exit 6\n", "exit"},
	} {
		if err := p.Send([]byte(step.send)); err != nil {
			t.Fatal(err)
		}
		term.expect(step.expect)
	}
	if r, err := collect(p); err != nil || r.code != 6 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestConcurrentExecs(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				r, err := s.exec("sh", "-c", fmt.Sprintf("echo out %d; echo err %d >&2; head -c 100000 /dev/zero | wc -c; exit %d", i, i, i))
				if err != nil || r.code != int32(i) || r.stdout != fmt.Sprintf("out %d\n100000\n", i) || r.stderr != fmt.Sprintf("err %d\n", i) {
					t.Errorf("%d: %+v, %v", i, r, err)
				}
			})
		}
		wg.Wait()
	})
}

// Process 1 inherits every orphan and must wait for all of them, while it waits for its own children.
func TestZombieStorm(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				r, err := s.exec("sh", "-c", "i=0; while [ $i -lt 100 ]; do (true & true &) ; (sleep 0.01 &) ; i=$((i+1)); done; exit 3")
				if err != nil || r.code != 3 {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
		wg.Wait()
		eventually(t, "no zombies", func() error {
			if left := s.sh("ps -eo stat=,comm= | grep -c '^Z' || true"); left != "0" {
				return fmt.Errorf("%s zombies", left)
			}
			return nil
		})
	})
}

// A process that was left in the background and holds the output does not hold up the exec, lives on, and is not killed by
// printing.
func TestBackgroundProcess(t *testing.T) {
	s := start(t, "crun")
	r, err := s.exec("sh", "-c", "(while [ ! -e /tmp/go ]; do sleep 0.01; done; echo ignored; echo ignored; touch /tmp/survived; sleep 1000) & echo begun; exit 4")
	if err != nil || r.code != 4 || r.stdout != "begun\n" {
		t.Fatalf("%+v, %v", r, err)
	}
	s.sh("touch /tmp/go; while [ ! -e /tmp/survived ]; do sleep 0.01; done")
	// As many as one likes: only the first are listened to.
	var wg sync.WaitGroup
	for range 70 {
		wg.Go(func() {
			if r, err := s.exec("sh", "-c", "sleep 1000 & exit 4"); err != nil || r.code != 4 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	wg.Wait()
}

func TestAbandonedExecIsKilled(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		for name, abandon := range map[string]func(*shim.Process, context.CancelFunc){
			"closed":   func(p *shim.Process, _ context.CancelFunc) { p.Close() },
			"canceled": func(_ *shim.Process, cancel context.CancelFunc) { cancel() },
		} {
			for _, script := range []string{
				"echo $$; trap '' TERM HUP INT PIPE; sleep 1000 & while :; do sleep 0.01; done",
				"echo $$; trap '' PIPE; while :; do echo spam spam spam spam spam spam; done", // Blocked in its output.
			} {
				ctx, cancel := context.WithCancel(s.ctx())
				p, err := s.client.Exec(ctx, shim.ExecRequest{Argv: []string{"sh", "-c", script}, Stdin: true})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Recv(); err != nil {
					t.Fatal(err)
				}
				group := p.PID
				abandon(p, cancel)
				eventually(t, name+": the process group is gone", func() error {
					if left := s.sh(fmt.Sprintf("ps -eo pgid=,stat= | awk '$1 == %d && $2 !~ /^Z/' | wc -l", group)); left != "0" {
						return fmt.Errorf("%s left of group %d", left, group)
					}
					return nil
				})
				cancel()
				p.Close()
				if _, err := p.Recv(); err == nil {
					// What was already on the way may still be read, but no exit that nobody saw.
					if r, err := collect(p); err == nil {
						t.Errorf("%s: an exit was reported: %+v", name, r)
					}
				}
			}
		}
		if got := s.sh("echo healthy"); got != "healthy" {
			t.Errorf("afterwards: %q", got)
		}
	})
}

// An exec that is cut off by the sandbox's end is an error, not an exit.
func TestExecWhenTheSandboxEnds(t *testing.T) {
	s := start(t, "crun")
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s.stop()
	if r, err := collect(p); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		t.Errorf("%+v, %v", r, err)
	}
}

// With a grace the command is told to end, and its end is reported.
func TestExecWhenTheSandboxStops(t *testing.T) {
	s := start(t, "crun", "sleep", "1000")
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"sh", "-c", "trap 'echo asked; exit 8' TERM; echo ready; while :; do sleep 0.01; done"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if f, err := p.Recv(); err != nil || string(f.Data) != "ready\n" {
		t.Fatalf("%q, %v", f.Data, err)
	}
	if err := s.client.Stop(s.ctx(), patience); err != nil {
		t.Fatal(err)
	}
	if r, err := collect(p); err != nil || r.code != 8 || r.stdout != "asked\n" {
		t.Errorf("%+v, %v", r, err)
	}
	wantExit(t, s, s.wait(), shim.ReasonStopped, 143, 0)
}

// When no more processes can be made, the command is refused with that reason, and the sandbox goes on.
func TestProcessLimit(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := newSandbox(t, runtime)
		s.spec["linux"].(object)["resources"].(object)["pids"] = object{"limit": 40}
		s.mustStart()
		bomb, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"bash", "-c", "while :; do sleep 1000 & done 2>/dev/null"}})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the limit is felt", func() error {
			if _, err := s.exec("true"); !fault.HasReason(err, fault.ReasonExecFailed) || !strings.Contains(err.Error(), "limit") {
				return fmt.Errorf("exec: %w", err)
			}
			return nil
		})
		bomb.Close()
		eventually(t, "it works again", func() error {
			r, err := s.exec("true")
			if err != nil || r.code != 0 {
				return fmt.Errorf("exec: %+v, %w", r, err)
			}
			return nil
		})
	})
}

// Commands that keep the little CPU time of their sandbox busy, in great numbers, are ended with the exec that started them; and
// when they are not, a stop without grace ends the sandbox.
func TestForkBombUnderACPULimit(t *testing.T) {
	s := newSandbox(t, "crun") // the runtime is long gone then
	resources := s.spec["linux"].(object)["resources"].(object)
	resources["pids"], resources["cpu"] = object{"limit": 400}, object{"quota": 20_000, "period": 100_000}
	s.mustStart()
	const spin = "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1000 & wait"
	bomb, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"bash", "-c", spin}})
	if err != nil {
		t.Fatal(err)
	}
	full := func() error {
		if stats, err := s.client.Stats(s.ctx()); err != nil || stats.PIDs < 350 {
			return fmt.Errorf("%d processes, %w", stats.PIDs, err)
		}
		return nil
	}
	eventually(t, "the sandbox is full", full)
	bomb.Close()
	eventually(t, "it works again", func() error {
		r, err := s.exec("true")
		if err != nil || r.code != 0 {
			return fmt.Errorf("exec: %+v, %w", r, err)
		}
		return nil
	})
	if bomb, err = s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"bash", "-c", spin}}); err != nil {
		t.Fatal(err)
	}
	defer bomb.Close()
	eventually(t, "the sandbox is full again", full)
	if err := s.client.Stop(s.ctx(), 0); err != nil {
		t.Fatal(err)
	}
	wantExit(t, s, s.wait(), shim.ReasonStopped, 137, 9)
}

// An init that gets no CPU time to end a command which was given up gets it: the limit is lifted, and put back when it is done.
// Here the init is stopped instead, which looks the same from outside.
func TestHurriedInit(t *testing.T) {
	s := newSandbox(t, "crun")
	s.spec["linux"].(object)["resources"].(object)["cpu"] = object{"quota": 50_000, "period": 100_000}
	s.mustStart()
	record, err := shim.ReadRecord(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	signal := func(sig syscall.Signal) {
		if err := syscall.Kill(record.PID, sig); err != nil {
			t.Fatal(err)
		}
	}
	quota := func(want string) func() error {
		return func() error {
			if got := s.cpuQuota(); got != want {
				return fmt.Errorf("the quota is %s, want %s", got, want)
			}
			return nil
		}
	}
	signal(syscall.SIGSTOP)
	p.Close()
	eventually(t, "the limit is lifted", quota("-1"))
	signal(syscall.SIGCONT)
	eventually(t, "the limit is back", quota("50000"))
	eventually(t, "the command is gone", func() error {
		if r, err := s.exec("sh", "-c", "grep -l sleep /proc/[0-9]*/comm"); err != nil || r.code == 0 {
			return fmt.Errorf("%+v, %w", r, err)
		}
		return nil
	})
}

// cpuQuota is what the kernel has as the sandbox's CPU time in each period.
func (s *sandbox) cpuQuota() string {
	file := filepath.Join(cgroup.Root, "cpu", s.cfg.Cgroup.Path, "cpu.cfs_quota_us")
	if s.cfg.Cgroup.Mode == cgroup.V2 {
		file = filepath.Join(cgroup.Root, s.cfg.Cgroup.Path, "cpu.max")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	quota, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if quota == "max" {
		return "-1"
	}
	return quota
}

// The init goes before all others in its control group, and they are as any process.
func TestPriorities(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime, "/bin/sh", "-c", "cat /proc/self/stat > /tmp/main; exec sleep 1000")
		nice := func(file string) string { return "cut -d' ' -f19 " + file + "; " }
		threads := "for t in /proc/1/task/*/stat; do " + nice("$t") + "done | sort | uniq -c | sort -rn"
		eventually(t, "it runs", func() error {
			r, err := s.exec("sh", "-c", nice("/proc/self/stat")+nice("/tmp/main")+threads)
			if want := "0\n0\n"; err != nil || !strings.HasPrefix(r.stdout, want) {
				return fmt.Errorf("%+v, %w", r, err)
			}
			// All threads of the init but the one that starts processes, which may be the first.
			if rest := strings.Fields(r.stdout)[2:]; len(rest) != 4 || rest[1] != "-20" || rest[2] != "1" || rest[3] != "0" {
				return fmt.Errorf("threads by priority: %v", rest)
			}
			return nil
		})
	})
}

// Bytes pass unchanged, whatever they are.
func TestBinaryOutput(t *testing.T) {
	s := start(t, "crun")
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"cat"}, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := errors.Join(p.Send(all), p.CloseSend()); err != nil {
		t.Fatal(err)
	}
	if r, err := collect(p); err != nil || !bytes.Equal([]byte(r.stdout), all) {
		t.Errorf("%q, %v", r.stdout, err)
	}
}
