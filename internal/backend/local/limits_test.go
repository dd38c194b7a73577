package local

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// TestCgroupFiles: the kernel holds what the spec says.
func TestCgroupFiles(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		w := work()
		w.Spec.ResourceDefaults = &specpb.ResourceDefaults{
			CpuRequest: proto.String("250m"), CpuLimit: proto.String("1500m"), MemoryRequest: proto.String("32Mi"), MemoryLimit: proto.String("96Mi"),
		}
		id := b.launch(w)
		b.isRunning(id)
		for _, c := range []struct{ controller, v1, v2, want1, want2 string }{
			{"cpu", "cpu.cfs_quota_us", "cpu.max", "150000", "150000 100000"},
			{"cpu", "cpu.cfs_period_us", "cpu.max", "100000", "150000 100000"},
			{"cpu", "cpu.shares", "cpu.weight", "256", "10"},
			{"memory", "memory.limit_in_bytes", "memory.max", "100663296", "100663296"},
			{"pids", "pids.max", "pids.max", "4096", "4096"},
		} {
			want := c.want1
			if b.machine.cgroup == "v2" {
				want = c.want2
			}
			if runtime == "runsc" && c.controller == "pids" {
				want = "8704" // threads of gVisor; processes are counted inside
			}
			if got := b.cgroupFile(id, c.controller, c.v1, c.v2); got != want {
				t.Errorf("%s: %s, want %s", c.v1, got, want)
			}
		}
		if b.machine.swap && b.machine.cgroup != "v2" {
			if got := b.cgroupFile(id, "memory", "memory.memsw.limit_in_bytes", ""); got != "100663296" {
				t.Errorf("memory and swap: %s", got)
			}
		}
	})
}

// TestNoLimits: a spec without limits sets none of its own; all sandboxes together are bounded.
func TestNoLimits(t *testing.T) {
	b := open(t, withRuntime("crun"), func(c *Config) { c.Capacity = core.Amounts{MemoryBytes: 1 << 30} })
	w := work()
	w.Spec.ResourceDefaults = nil
	id := b.launch(w)
	b.isRunning(id)
	if b.machine.cgroup != "v2" {
		if got := b.cgroupFile(id, "cpu", "cpu.cfs_quota_us", ""); got != "-1" {
			t.Errorf("CPU quota %s", got)
		}
		if got := b.cgroupFile("", "memory", "memory.limit_in_bytes", ""); got != "1073741824" {
			t.Errorf("all together may have %s bytes", got)
		}
	}
}

// TestOutOfMemory: the main process is killed at the limit, and the sandbox says so with the code that was seen.
func TestOutOfMemory(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		w := work("python3", "-c", "x = []\nwhile True: x.append(bytearray(1 << 20))")
		w.Spec.ResourceDefaults.MemoryLimit = proto.String("48Mi")
		o := b.ended(b.launch(w))
		if !o.Failed || o.Reason != core.EndOutOfMemory || o.ExitCode == nil || *o.ExitCode != 137 {
			t.Errorf("%+v", o)
		}
	})
}

// TestMemoryOfCommands: a command that takes too much is killed, the sandbox lives on; files on disk are no memory.
func TestMemoryOfCommands(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		w := work()
		w.Spec.ResourceDefaults.MemoryLimit = proto.String("64Mi")
		id := b.launch(w)
		if runtime == "runsc" { // All processes are one of the machine's: what ends one at the limit ends all.
			_, err := b.tryExec(t.Context(), id, backend.Exec{Argv: []string{"python3", "-c", "x = bytearray(1 << 30); print(len(x))"}})
			if o := b.ended(id); err == nil || !o.Failed || o.Reason != core.EndOutOfMemory {
				t.Errorf("%v %+v", err, o)
			}
			return
		}
		if r := b.exec(id, "python3", "-c", "x = bytearray(1 << 30); print(len(x))"); r.code != 137 {
			t.Errorf("%+v", r)
		}
		if r := b.shell(id, "head -c 200M /dev/zero > /tmp/f && rm /tmp/f; echo alive"); r.out != "alive\n" || r.err != "" {
			t.Errorf("%+v", r)
		}
	})
}

// TestForkBomb: processes are bounded, the machine and the sandbox survive.
func TestForkBomb(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		b.machine.pidsLimit = 64
		w := work()
		w.Spec.ResourceDefaults.MemoryLimit = proto.String("1Gi") // In gVisor a process costs more of it.
		id := b.launch(w)
		r := b.exec(id, "python3", "-c", `
import os, time
n = 0
try:
    while True:
        if os.fork() == 0: time.sleep(600); os._exit(0)
        n += 1
except OSError as e: print(n > 20, n < 64, e.errno)`)
		if r.out != "True True 11\n" {
			t.Errorf("%+v", r)
		}
		if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		b.ended(id)
	})
}

// TestUsage: the samples are the kernel's.
func TestUsage(t *testing.T) {
	b := open(t)
	id := b.launch(work())
	b.shell(id, "head -c 20M /dev/zero > /dev/shm/f; head -c 60M /dev/zero > /tmp/f; sync")
	u, err := b.Usage(t.Context(), id)
	if err != nil || u.MemoryBytes < 20<<20 || u.MemoryBytes > 60<<20 || u.CPUMillis < 0 || u.PIDs < 1 || u.PIDs > 100 || u.DiskBytes < 60<<20 || u.DiskBytes > 70<<20 {
		t.Errorf("%+v %v", u, err)
	}
}

// TestStopGrace: a process that refuses to go is killed when the grace is over; its reason is the stop's.
func TestStopGrace(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		polite := b.launch(work("sh", "-c", `trap 'exit 3' TERM; while :; do sleep 0.01; done`))
		stubborn := b.launch(work("sh", "-c", `trap '' TERM; while :; do sleep 0.01; done`))
		for _, id := range []string{polite, stubborn} {
			b.isRunning(id)
			// The trap must be set: the shell's first child is proof of that.
			b.shell(id, "while ! grep -qs sleep /proc/[0-9]*/comm; do :; done")
		}
		if err := b.Stop(t.Context(), polite, patience, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		if o := b.ended(polite); o.ExitCode == nil || *o.ExitCode != 3 || o.Reason != core.EndStopped || o.Failed {
			t.Errorf("polite: %+v", o)
		}
		if err := b.Stop(t.Context(), stubborn, 50_000_000, core.EndLifetimeExceeded); err != nil {
			t.Fatal(err)
		}
		if o := b.ended(stubborn); o.ExitCode == nil || *o.ExitCode != 137 || o.Reason != core.EndLifetimeExceeded || o.Failed {
			t.Errorf("stubborn: %+v", o)
		}
	})
}

// TestStartFailures say what is wrong, and leave nothing.
func TestStartFailures(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		for name, c := range map[string]struct {
			command []string
			words   string
		}{
			"not there":      {[]string{"no-such-program"}, "no-such-program"},
			"a directory":    {[]string{"/tmp"}, "/tmp"},
			"not executable": {[]string{"/etc/passwd"}, "/etc/passwd"},
		} {
			o := b.ended(b.launch(work(c.command...)))
			if !o.Failed || o.Reason != core.EndStartFailed || o.ExitCode != nil || !strings.Contains(o.Message, c.words) {
				t.Errorf("%s: %+v", name, o)
			}
			if o.Phase != backend.PhaseEnded || !o.StartedAt.IsZero() {
				t.Errorf("%s: %+v", name, o)
			}
		}
	})
}
