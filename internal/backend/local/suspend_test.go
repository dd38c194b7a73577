package local

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// counter is a main process that counts in memory and tells on request: the file asks, the answer is a file.
const counter = `
import os, sys, time
n = 0
print("begun", flush=True)
while not os.path.exists("/tmp/end"):
    n += 1
    with open("/tmp/n.tmp", "w") as f: f.write("%d %d" % (n, os.getpid()))
    os.rename("/tmp/n.tmp", "/tmp/n")
    if os.path.exists("/tmp/say"):
        print("said", open("/tmp/say").read(), flush=True); os.unlink("/tmp/say")
    time.sleep(0.01)
print("ending", flush=True)
sys.exit(int(open("/tmp/end").read()))`

func counting(t *testing.T, b *testBackend) string {
	t.Helper()
	w := work("python3", "-c", counter)
	w.Spec.RuntimeClass = proto.String("runsc")
	id := b.launch(w)
	b.isRunning(id)
	b.shell(id, "while ! test -s /tmp/n; do sleep 0.01; done")
	return id
}

// output returns what the main process printed so far.
func (b *testBackend) output(id string) string {
	b.t.Helper()
	r, err := shim.OpenOutput(b.place.shimState(id), 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var out strings.Builder
	for {
		o, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			b.t.Fatal(err)
		}
		out.Write(o.Data)
	}
}

func (b *testBackend) isPaused(id string) *backend.Observation {
	b.t.Helper()
	return b.await(id, "it was paused", func(o *backend.Observation) bool { return o.Phase == backend.PhasePaused })
}

// TestSuspend: a sandbox on disk has no processes and no memory, survives a restart of the server, and goes on where it was, with
// its memory, its files and its output; commands that ran ended in an error.
func TestSuspend(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id := counting(t, b)
	p, err := b.Exec(t.Context(), id, backend.Exec{Argv: []string{"sh", "-c", "echo hi; exec sleep 600"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if f, err := p.Recv(); err != nil || string(f.Data) != "hi\n" {
		t.Fatalf("%+v %v", f, err)
	}
	for range 2 {
		before := b.exec(id, "cat", "/tmp/n").out
		if err := b.Suspend(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		b.isPaused(id)
		s, _ := b.get(id)
		if pids, err := b.shimConfig(id, b.runtimes["runsc"], &bundle.Input{}).Cgroup.Procs(); err == nil && len(pids) > 0 {
			t.Errorf("processes are left: %v", pids)
		}
		if c, err := shim.ReadCheckpoint(shim.ImageDir(s.client.Dir())); err != nil || c == nil || c.Bytes == 0 {
			t.Errorf("%+v %v", c, err)
		}
		if _, err := b.tryExec(t.Context(), id, backend.Exec{Argv: []string{"true"}}); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
			t.Errorf("a command while it is on disk: %v", err)
		}
		if err := b.Pause(t.Context(), id); err != nil {
			t.Errorf("pause while it is on disk: %v", err)
		}
		b.reopen()
		b.isPaused(id)
		if err := b.Resume(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		b.isRunning(id)
		var n0, n1, pid0, pid1 int
		scan(t, before, &n0, &pid0)
		scan(t, b.exec(id, "cat", "/tmp/n").out, &n1, &pid1)
		if n1 < n0 || n1 > n0+2000 || pid0 != pid1 {
			t.Errorf("it did not go on where it was: %d of %d, then %d of %d", n0, pid0, n1, pid1)
		}
	}
	if f, err := p.Recv(); err == nil || fault.From(err).Code == fault.Internal {
		t.Errorf("a command that ran: %+v %v, want an error that says why", f, err)
	}
	b.shell(id, "printf x > /tmp/say.new; mv /tmp/say.new /tmp/say; while test -e /tmp/say; do sleep 0.01; done; printf 7 > /tmp/end.new; mv /tmp/end.new /tmp/end")
	o := b.ended(id)
	if o.ExitCode == nil || *o.ExitCode != 7 || o.Failed {
		t.Errorf("%+v", o)
	}
	if got := b.output(id); got != "begun\nsaid x\nending\n" {
		t.Errorf("output: %q", got)
	}
}

func scan(t *testing.T, text string, into ...*int) {
	t.Helper()
	fields := strings.Fields(text)
	if len(fields) != len(into) {
		t.Fatalf("%q", text)
	}
	for i, f := range fields {
		n := 0
		for _, c := range f {
			n = n*10 + int(c-'0')
		}
		*into[i] = n
	}
}

// TestStopOnDisk: a suspended sandbox can be stopped: nothing ran, so there is no code.
func TestStopOnDisk(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id := counting(t, b)
	if err := b.Suspend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(t.Context(), id, time.Minute, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	if o := b.ended(id); o.Failed || o.ExitCode != nil || o.Reason != core.EndStopped || !strings.Contains(o.Message, "on disk") {
		t.Errorf("%+v", o)
	}
}

// TestFork: two sandboxes with one past: each goes on from the same memory, for itself, with ids and limits of its own.
func TestFork(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id := counting(t, b)
	b.shell(id, "echo shared > /tmp/file; printf before > /tmp/say.new; mv /tmp/say.new /tmp/say; while test -e /tmp/say; do sleep 0.01; done")
	w := work("python3", "-c", counter)
	w.Spec.RuntimeClass, w.Launch.ForkOf = proto.String("runsc"), id
	w.Spec.ResourceDefaults.MemoryLimit = proto.String("256Mi")
	other := b.launch(w)
	o := b.isRunning(other)
	s1, _ := b.get(id)
	s2, _ := b.get(other)
	if s1.ids == s2.ids {
		t.Error("both have the same ids")
	}
	if told := s2.told; !hasEvent(told, "forked", id) {
		t.Errorf("the timeline does not say what it is a fork of: %+v", told)
	}
	if exists(b.place.sandbox(other) + "/" + forkName) {
		t.Error("what was saved is still there")
	}
	if got := b.cgroupFile(other, "memory", "memory.limit_in_bytes", "memory.max"); got != "268435456" {
		t.Errorf("the limit of today does not hold: %s, %+v", got, o)
	}
	for i, x := range []string{id, other} {
		if r := b.shell(x, "cat /tmp/file; echo mine > /tmp/file; printf "+x+" > /tmp/say.new; mv /tmp/say.new /tmp/say; while test -e /tmp/say; do sleep 0.01; done; cat /etc/hostname"); r.out != "shared\n"+hostname(x)+"\n" {
			t.Errorf("%s: %+v", x, r)
		}
		b.shell(x, "printf "+string(rune('3'+i))+" > /tmp/end.new; mv /tmp/end.new /tmp/end")
		if o := b.ended(x); o.ExitCode == nil || *o.ExitCode != int32(3+i) {
			t.Errorf("%s: %+v", x, o)
		}
	}
	if got := b.output(id); got != "begun\nsaid before\nsaid "+id+"\nending\n" {
		t.Errorf("the first printed %q", got)
	}
	if got := b.output(other); got != "said "+other+"\nending\n" {
		t.Errorf("the fork printed %q", got)
	}
}

func hasEvent(events []core.Event, name, part string) bool {
	for _, e := range events {
		if e.Name == name && strings.Contains(e.Message, part) {
			return true
		}
	}
	return false
}

// TestForkRefused: what cannot begin as another sandbox is refused with the reason, before anything is touched.
func TestForkRefused(t *testing.T) {
	b := open(t, func(c *Config) { c.Runtimes = []string{"runsc", "crun"} })
	running := counting(t, b)
	plain := work()
	plain.Spec.RuntimeClass = proto.String("crun")
	shared := b.launch(plain)
	b.isRunning(shared)
	for name, c := range map[string]struct {
		of     string
		change func(*specpb.ProfileSpec)
		words  string
	}{
		"of nothing":            {"sbx-none", func(*specpb.ProfileSpec) {}, "not on this runner"},
		"of a shared kernel":    {shared, func(s *specpb.ProfileSpec) { s.RuntimeClass = proto.String("crun") }, "cannot save"},
		"into a network":        {running, func(s *specpb.ProfileSpec) { s.Network = networked("internet") }, "without"},
		"under another runtime": {running, func(s *specpb.ProfileSpec) { s.RuntimeClass = proto.String("crun") }, "profile of today says crun"},
	} {
		w := work()
		w.Launch.ForkOf = c.of
		w.Spec.RuntimeClass = proto.String("runsc")
		c.change(w.Spec)
		err := b.Check(w)
		if !fault.HasReason(err, fault.ReasonBackendUnsupported) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Suspend(t.Context(), shared); !fault.HasReason(err, fault.ReasonBackendUnsupported) {
		t.Errorf("suspend under crun: %v", err)
	}
	if r := b.exec(running, "echo", "alive"); r.out != "alive\n" {
		t.Errorf("%+v", r)
	}
}

// TestReturnIsGuarded: while a sandbox is restored, its processes can dial the socket that its init comes back over. None of them
// is taken for the init, and none keeps it away.
func TestReturnIsGuarded(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	w := work("python3", "-c", `
import socket, time, threading, os
def flood():
    while True:
        for text in (b"", b"\x00\x00\x00\x10\x01{\"op\":\"return\"}", b"\x00\x00\x00\x2f\x01{\"version\":1,\"op\":\"return\",\"token\":\"guessed\"}xx"):
            s = socket.socket(socket.AF_UNIX)
            try: s.connect("/dev/berm/shim.sock"); open("/tmp/dialled", "a").write("x"); s.sendall(text); s.settimeout(0.1); s.recv(100)
            except OSError: pass
            s.close()
for _ in range(4): threading.Thread(target=flood, daemon=True).start()
open("/tmp/up", "w").write("x")
time.sleep(3600)`)
	id := b.launch(w)
	b.isRunning(id)
	b.shell(id, "while ! test -s /tmp/up; do sleep 0.01; done")
	for round := range 3 {
		// From the second time on a process may hold a socket of the host. Such a sandbox cannot be saved: it goes on, or its own
		// kernel gives up, which ends it. Then that is told, without a code.
		err := b.Suspend(t.Context(), id)
		if err != nil && round == 0 {
			t.Fatal(err)
		}
		if err := b.Resume(t.Context(), id); err == nil {
			if r, err := b.tryExec(t.Context(), id, backend.Exec{Argv: []string{"echo", "alive"}}); err == nil && r.out == "alive\n" {
				continue
			}
		}
		if round == 0 {
			t.Fatal("it did not come back")
		}
		if o := b.ended(id); !o.Failed || o.ExitCode != nil {
			t.Fatalf("%+v", o)
		}
		return
	}
	if _, err := os.Stat(b.place.box(id) + "/" + meetDir + "/" + meetName); err == nil {
		t.Error("the socket is still there")
	}
}
