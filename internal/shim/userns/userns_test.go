package userns_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/userns"
)

const (
	first = 0x70000000
	size  = 1 << 16
)

func mapping(id int) syscall.SysProcIDMap { return syscall.SysProcIDMap{HostID: id, Size: size} }

// TestNew: the namespace is the owner's, has the ids, and this process is what it was before, in every thread.
func TestNew(t *testing.T) {
	before := status(t)
	for _, owner := range []int{first, os.Geteuid()} {
		ns, err := userns.New(owner, mapping(first))
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if got, err := userns.Owner(ns); err != nil || got != owner {
			t.Errorf("it belongs to %d (%v), not %d", got, err, owner)
		}
		if got := mapped(t, ns); got != "0 1879048192 65536 0 1879048192 65536" {
			t.Errorf("its ids are %q", got)
		}
	}
	for id, after := range status(t) {
		if was, ok := before[id]; ok && was != after {
			t.Errorf("thread %s was\n%s and is\n%s", id, was, after)
		}
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 1 {
		t.Errorf("dumpable: %d %v", dumpable, err)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WALL|unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a process is left: %d %v", pid, err)
	}
}

// TestNewTogether: side by side they do not take each other's owner.
func TestNewTogether(t *testing.T) {
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			id := first + i*size
			ns, err := userns.New(id, mapping(id))
			if err != nil {
				t.Error(err)
				return
			}
			defer ns.Close()
			if got, err := userns.Owner(ns); err != nil || got != id {
				t.Errorf("it belongs to %d (%v), not %d", got, err, id)
			}
		})
	}
	all.Wait()
}

// TestNewRefused: what the kernel does not take is an error, and leaves nothing.
func TestNewRefused(t *testing.T) {
	ns, err := userns.New(first, syscall.SysProcIDMap{HostID: first, Size: -1})
	if err == nil {
		ns.Close()
		t.Fatal("a range of -1 ids was taken")
	}
	if !strings.Contains(err.Error(), "uid_map") {
		t.Errorf("%v", err)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WALL|unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a process is left: %d %v", pid, err)
	}
}

// mapped returns the ids of a namespace, as a process in it sees them.
func mapped(t *testing.T, ns *os.File) string {
	t.Helper()
	cmd := exec.Command("nsenter", "--preserve-credentials", "--user=/proc/self/fd/3", "cat", "/proc/self/uid_map", "/proc/self/gid_map")
	cmd.ExtraFiles = []*os.File{ns}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

// status returns what the kernel says of the ids and capabilities of each thread.
func status(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // It has ended.
		}
		var kept strings.Builder
		for line := range strings.Lines(string(data)) {
			for _, name := range []string{"Uid:", "Gid:", "Cap", "NoNewPrivs:"} {
				if strings.HasPrefix(line, name) {
					kept.WriteString(line)
				}
			}
		}
		all[filepath.Base(filepath.Dir(f))] = kept.String()
	}
	return all
}

// BenchmarkNew tells the CPU time of both processes, too.
func BenchmarkNew(b *testing.B) {
	before := cpuTime(b)
	for b.Loop() {
		ns, err := userns.New(first, mapping(first))
		if err != nil {
			b.Fatal(err)
		}
		ns.Close()
	}
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func cpuTime(b *testing.B) (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}
