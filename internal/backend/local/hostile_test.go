package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/cgroup"
)

// forkStorm forks without end, within the limit of processes; those that are born fork too.
const forkStorm = `
import os
while True:
    try:
        if os.fork() == 0:
            if os.fork() == 0: pass
            else: os._exit(0)
    except OSError: pass
`

// cpuTime is what a sandbox has used so far, as the kernel says.
func (b *testBackend) cpuTime(id string) string {
	if b.machine.cgroup == cgroup.V2 {
		usage, _, _ := strings.Cut(b.cgroupFile(id, "", "", "cpu.stat"), "\n")
		return usage
	}
	return b.cgroupFile(id, "cpuacct", "cpuacct.usage", "")
}

// TestPauseOfAStorm: also what forks without end stands still, uses nothing, and can be resumed and ended, paused or not.
func TestPauseOfAStorm(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		w := work()
		w.Spec.ResourceDefaults.PidsLimit, w.Spec.ResourceDefaults.MemoryLimit = proto.Int32(200), proto.String("256Mi")
		id := b.launch(w)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := b.Exec(ctx, id, backend.Exec{Argv: []string{"python3", "-c", forkStorm}}); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := b.Pause(t.Context(), id); err != nil {
				t.Fatalf("pause: %v", err)
			}
			before := b.cpuTime(id)
			time.Sleep(20 * time.Millisecond) // A moment in which something could run, and must not.
			if after := b.cpuTime(id); after != before {
				t.Errorf("while it was paused its CPU time went from %s to %s", before, after)
			}
			if err := b.Resume(t.Context(), id); err != nil {
				t.Fatalf("resume: %v", err)
			}
		}
		if err := b.Pause(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		if o := b.ended(id); o.Failed || o.Reason != core.EndStopped {
			t.Errorf("%+v", o)
		}
	})
}

// TestPauseThatIsStopped: a stop during a pause ends the sandbox with the grace asked for, whichever is first.
func TestPauseThatIsStopped(t *testing.T) {
	b := open(t, withRuntime("crun"))
	for range 8 {
		id := b.launch(work("sh", "-c", `trap 'exit 3' TERM; touch /tmp/ready; while :; do sleep 0.01; done`))
		b.isRunning(id)
		b.shell(id, "while ! [ -e /tmp/ready ]; do :; done")
		paused := make(chan error, 1)
		go func() { paused <- b.Pause(context.WithoutCancel(t.Context()), id) }()
		if err := b.Stop(t.Context(), id, patience, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		if err := <-paused; err != nil && !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
			t.Errorf("pause: %v", err)
		}
		if o := b.ended(id); o.ExitCode == nil || *o.ExitCode != 3 || o.Reason != core.EndStopped {
			t.Errorf("%+v", o)
		}
	}
}

// TestPauseThatIsGivenUp: a caller who goes away in the middle leaves a sandbox whose state is told as it is.
func TestPauseThatIsGivenUp(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id := b.launch(work())
	b.isRunning(id)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Pause(ctx, id); err != nil && !errors.Is(err, context.Canceled) && !fault.Is(err, fault.Canceled) && !fault.Is(err, fault.Deadline) {
			t.Fatalf("pause: %v", err)
		}
		s, err := b.get(id)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.client.Info(t.Context())
		if err != nil || r.PausedAt.IsZero() != (s.phase() == backend.PhaseRunning) {
			t.Fatalf("the shim says %v, the backend %s; %v", r.PausedAt, s.phase(), err)
		}
		if err := b.Resume(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLostWhilePaused: without its shim a frozen sandbox is ended and removed like any other, and lost.
func TestLostWhilePaused(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		id := b.launch(work())
		b.isRunning(id)
		if err := b.Pause(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		s, err := b.get(id)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.client.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		shim, err := os.FindProcess(r.ShimPID)
		if err != nil {
			t.Fatal(err)
		}
		if err := shim.Kill(); err != nil {
			t.Fatal(err)
		}
		if o := b.ended(id); !o.Failed || o.Reason != core.EndLost || o.ExitCode != nil {
			t.Errorf("%+v", o)
		}
	})
}

// TestDescriptors: descriptors are bounded for each process, and by memory for all; a neighbour has its own.
func TestDescriptors(t *testing.T) {
	b := open(t, withRuntime("crun"))
	w := work()
	w.Spec.ResourceDefaults.MemoryLimit = proto.String("64Mi")
	id, other := b.launch(w), b.launch(work())
	b.isRunning(other)
	r := b.exec(id, "python3", "-c", `
import os
n = 0
try:
    while n < 10000000:
        os.dup(0)
        n += 1
except OSError as e: print(e.errno, n < 1 << 16)`)
	if r.out != "24 True\n" { // EMFILE
		t.Errorf("one process: %+v", r)
	}
	before := machineFiles(t)
	r = b.exec(id, "python3", "-c", `
import os
for i in range(100):
    if os.fork() == 0:
        try:
            while True: os.open('/dev/null', os.O_RDONLY)
        except OSError: pass
        os._exit(0)
for i in range(100): os.wait()
print('over')`)
	if r.code != 0 && r.code != 137 {
		t.Errorf("many processes: %+v", r)
	}
	// A file that is open takes some hundred bytes of the sandbox's memory.
	if more := machineFiles(t) - before; more > 1<<19 {
		t.Errorf("the machine has %d more open files", more)
	}
	if r := b.shell(other, "echo x > /tmp/f; cat /tmp/f"); r.out != "x\n" {
		t.Errorf("the neighbour: %+v", r)
	}
	if r := b.shell(id, "echo alive"); r.out != "alive\n" {
		t.Errorf("%+v", r)
	}
}

// machineFiles counts the open files of the machine.
func machineFiles(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc/sys/fs", "file-nr"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(data))[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
