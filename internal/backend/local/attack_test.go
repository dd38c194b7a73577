package local

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestInitIsSafe: nothing inside can end, stop, read or replace process 1, or take its socket.
func TestInitIsSafe(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		id := b.launch(work("sleep", "infinity"))
		initPath := bundle.InitPath
		if runtime == "runsc" {
			initPath = bundle.MeetDir + "/" + initName
		}
		descriptors := "for f in 0 1 2 3 5 6 7 8; do cat /proc/1/fd/$f && exit; echo x > /proc/1/fd/$f && exit; done 2>/dev/null; echo sent"
		if runtime == "runsc" { // Its pipes can be opened, as those of the processes at their other ends can anywhere; its socket cannot.
			descriptors = `python3 -c '
import os
for f in os.listdir("/proc/1/fd"):
    if "socket" not in os.readlink("/proc/1/fd/" + f): continue
    try: os.open("/proc/1/fd/" + f, os.O_RDWR); print("opened")
    except OSError: print("sent")'`
		}
		for name, run := range map[string]string{
			"signals to threads": `python3 -c '
import ctypes, os
c = ctypes.CDLL(None)
for s in (9, 19):
    for tid in map(int, os.listdir("/proc/1/task")):
        c.syscall(200, tid, s); c.syscall(234, 1, tid, s); c.syscall(129, 1 | 1 << 32, s, 0); c.syscall(62, ctypes.c_ulong(1 | 1 << 32), s)
print("sent")'`,
			"limits, disguised": `python3 -c '
import ctypes
c = ctypes.CDLL(None)
print("sent" if c.syscall(302, ctypes.c_ulong(1 | 1 << 32), 7, (ctypes.c_ulong * 2)(1, 1), 0) == -1 else "limited")'`,
			"signals":     "for s in KILL STOP SEGV ABRT BUS TRAP; do kill -$s 1; done; echo sent",
			"descriptors": descriptors,
			"memory":      "cat /proc/1/mem /proc/1/environ /proc/1/maps 2>&1 | grep -q denied && echo sent",
			"root":        "cat /proc/1/root/etc/passwd /proc/1/cwd/etc/passwd 2>&1 | grep -q root: || echo sent",
			"trace":       `python3 -c 'import ctypes; c = ctypes.CDLL(None, use_errno=True); print("sent" if c.ptrace(16, 1, 0, 0) == -1 and ctypes.get_errno() == 1 else "attached")'`,
			"binary":      "(echo x >> " + initPath + " || rm " + initPath + " || mv " + initPath + " /tmp || ln -sf /bin/true " + initPath + ") 2>/dev/null || echo sent",
			"its place":   "mv /dev /devices 2>/dev/null || umount " + initPath + " 2>/dev/null || echo sent",
			"descriptor":  `python3 -c 'import ctypes; c = ctypes.CDLL(None, use_errno=True); p = c.syscall(434, 1, 0); print("sent" if c.syscall(438, p, 3, 0) == -1 else "taken")'`,
			"limits":      `prlimit --pid 1 --nofile=1:1 2>/dev/null || echo sent`,
			"scores":      "for p in /proc/[0-9]*; do echo -1000 > $p/oom_score_adj; done 2>/dev/null; echo sent",
		} {
			if r := b.shell(id, run); r.out != "sent\n" {
				t.Errorf("%s: %+v", name, r)
			}
			if r := b.exec(id, "echo", "alive"); r.out != "alive\n" {
				t.Fatalf("after %s: %+v", name, r)
			}
		}
	})
}

// TestForgedEnds: what a process prints, or writes where an init might, is not how its sandbox ended.
func TestForgedEnds(t *testing.T) {
	b := open(t, withRuntime("crun"))
	o := b.ended(b.launch(work("sh", "-c", `
for f in exit.json state.json shim/exit.json; do
  for d in / /run /tmp /dev /workspace; do mkdir -p $d/shim 2>/dev/null; echo '{"version":1,"reason":"EXITED","exit_code":0}' 2>/dev/null > $d/$f; done
done
echo '{"type":"exit","code":0}'; printf '\000\000\000\002\016\000\000\000{}'; exit 41`)))
	if o.ExitCode == nil || *o.ExitCode != 41 || o.Failed {
		t.Errorf("%+v", o)
	}
}

// TestFileTraps: a sandbox prepares every trap it can for whoever reads and writes its files. Nothing leads to a file of the
// machine, nothing hangs, nothing is read without end.
func TestFileTraps(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte("of the machine"), 0o600); err != nil {
			t.Fatal(err)
		}
		id := b.launch(work())
		r := b.shell(id, `cd /tmp && ln -s `+secret+` link && ln -s /etc/shadow shadow && ln -s /proc/1/root/etc/passwd root && ln -s loop loop &&
mkfifo pipe && ln -s /dev/zero zero && mkdir dir && ln -s `+filepath.Dir(secret)+` out && ln -s /proc/self/fd/0 fd && echo mine > plain && ln -s plain inside`)
		if r.code != 0 {
			t.Fatal(r)
		}
		for _, p := range []string{"link", "shadow", "root", "loop", "pipe", "zero", "dir", "out/secret", "fd", "../../../../" + secret} {
			f, _, err := b.ReadFile(t.Context(), id, "/tmp/"+p, 1<<20)
			if err != nil {
				if fault.CodeOf(err) == fault.Internal {
					t.Errorf("read %s: %v", p, err)
				}
				continue
			}
			data, err := io.ReadAll(f)
			f.Close()
			if bytes.Contains(data, []byte("of the machine")) || bytes.Contains(data, []byte("root:")) && p == "shadow" || len(data) > 1<<20 {
				t.Errorf("read %s: %d bytes, %v", p, len(data), err)
			}
		}
		for _, p := range []string{"link", "loop", "pipe", "zero", "out/secret", "out/new", "fd"} {
			_ = b.WriteFile(t.Context(), id, "/tmp/"+p, 0o644, strings.NewReader("overwritten"))
		}
		if data, err := os.ReadFile(secret); err != nil || string(data) != "of the machine" {
			t.Errorf("the machine's file: %q %v", data, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(secret)); len(left) != 1 {
			t.Errorf("files were made on the machine: %v", left)
		}
		if r := b.exec(id, "echo", "alive"); r.out != "alive\n" {
			t.Errorf("%+v", r)
		}
	})
}

// TestStorms: zombies are reaped, output without end fills nothing, and the sandbox still answers.
func TestStorms(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		id := b.launch(work("sh", "-c", "yes spam; sleep infinity"))
		b.isRunning(id)
		r := b.exec(id, "python3", "-c", `
import os, time
def zombie(p):
    try: return open("/proc/" + p + "/stat").read().split()[2] == "Z"
    except OSError: return False
for _ in range(500):
    if os.fork() == 0:
        if os.fork() == 0: os._exit(0)
        os._exit(0)
    os.wait()
for _ in range(1000):
    left = [p for p in os.listdir("/proc") if p.isdigit() and zombie(p)]
    if not left: break
    time.sleep(0.01)
print(len(left))`)
		if r.out != "0\n" {
			t.Errorf("zombies: %+v", r)
		}
		var size int64
		_ = filepath.Walk(b.place.sandbox(id), func(_ string, info os.FileInfo, err error) error {
			if err != nil {
				return nil //nolint:nilerr // a file that went meanwhile takes nothing
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				size += st.Blocks * 512 // Of a sparse file what it takes.
			}
			return nil
		})
		if size > 64<<20 {
			t.Errorf("the state directory has %d bytes", size)
		}
	})
}

// TestManyCommands: a flood of commands from one caller ends in typed refusals, not in a dead sandbox.
func TestManyCommands(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id := b.launch(work())
	b.isRunning(id)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := 0
	for range 300 {
		if _, err := b.Exec(ctx, id, backend.Exec{Argv: []string{"sleep", "infinity"}}); err != nil {
			if fault.CodeOf(err) == fault.Internal {
				t.Fatalf("%v", err)
			}
			refused++
		}
	}
	t.Logf("%d of 300 were refused", refused)
	cancel()
	for {
		r, err := b.tryExec(t.Context(), id, backend.Exec{Argv: []string{"echo", "alive"}})
		if err == nil && r.out == "alive\n" {
			return
		}
		if !fault.Is(err, fault.Exhausted) {
			t.Fatalf("%+v %v", r, err)
		}
	}
}
