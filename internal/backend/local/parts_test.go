package local

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

func TestIDPool(t *testing.T) {
	p := newIDPool("berm-a")
	first, err := p.take()
	if err != nil {
		t.Fatal(err)
	}
	if p.reserve(first) || p.reserve(-1) || p.reserve(MaxSandboxes) || !p.reserve(0) && first != 0 {
		t.Error("a range was reserved twice, or one that does not exist was")
	}
	p.release(first)
	if again, _ := p.take(); again != first {
		t.Errorf("got %d, want the range that was free first, %d", again, first)
	}
	seen := map[int]bool{first: true, 0: true}
	for {
		n, err := p.take()
		if err != nil {
			if !fault.Is(err, fault.Exhausted) {
				t.Errorf("%v", err)
			}
			break
		}
		if seen[n] {
			t.Fatalf("%d was handed out twice", n)
		}
		seen[n] = true
		if id := base(n); id < firstID || id >= lastID || id%(1<<16) != 0 {
			t.Fatalf("range %d begins at %#x", n, id)
		}
	}
	if len(seen) != MaxSandboxes {
		t.Errorf("%d ranges, want %d", len(seen), MaxSandboxes)
	}
	if p.start != newIDPool("berm-a").start || p.start == newIDPool("berm-b").start {
		t.Error("where the search begins does not depend on the name alone")
	}
}

func TestHostname(t *testing.T) {
	for id, want := range map[string]string{"sbx-1": "sbx-1", "a_b.c": "a-b-c", strings.Repeat("x", 100): strings.Repeat("x", MaxHostname)} {
		if got := hostname(id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"PATH=/a", "HOME=/root"}, []string{"X=1", "nonsense", "=empty", "PATH=/image"}, []string{"X=2", "Y=a=b"})
	if want := []string{"PATH=/image", "HOME=/root", "X=2", "Y=a=b"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a\040b`: "/a b", `/a\134b`: `/a\b`, `/plain`: "/plain", `/a\9`: `/a\9`, `\04`: `\04`} {
		if got := unescape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestMachineNumbers(t *testing.T) {
	p := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(p, []byte("Other: 1 kB\nMemTotal:       1024 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := memTotal(p); n != 1<<20 {
		t.Errorf("%d", n)
	}
	m := machine{memoryBytes: 64 << 30}
	for limit, want := range map[int64]int64{0: MaxTmpfsBytes, 1 << 30: 1 << 29, 16 << 30: MaxTmpfsBytes, 1: 1 << 20} {
		if got := m.tmpfsBytes(limit); got != want {
			t.Errorf("limit %d: %d, want %d", limit, got, want)
		}
	}
	if got := overlay(core.Amounts{CPUMillis: 1, MemoryBytes: 2, Sandboxes: 3}, core.Amounts{MemoryBytes: 5, GPUs: 9}); got != (core.Amounts{CPUMillis: 1, MemoryBytes: 5, Sandboxes: 3}) {
		t.Errorf("%+v", got)
	}
	if n := cpuMillis(500*time.Millisecond, time.Second); n != 500 {
		t.Errorf("%d", n)
	}
}

// TestExitObservation: what a shim recorded, in the port's words. A code is told if and only if it was seen.
func TestExitObservation(t *testing.T) {
	code := int32(3)
	stop := &stopRecord{Why: core.EndLifetimeExceeded}
	for _, c := range []struct {
		exit   shim.Exit
		stop   *stopRecord
		failed bool
		reason string
		code   bool
	}{
		{shim.Exit{Reason: shim.ReasonExited, ExitCode: &code}, nil, false, core.EndExited, true},
		{shim.Exit{Reason: shim.ReasonExited, ExitCode: &code}, stop, false, core.EndLifetimeExceeded, true},
		{shim.Exit{Reason: shim.ReasonStopped, ExitCode: &code}, stop, false, core.EndLifetimeExceeded, true},
		{shim.Exit{Reason: shim.ReasonStopped}, nil, false, core.EndStopped, false},
		{shim.Exit{Reason: shim.ReasonOutOfMemory, ExitCode: &code}, stop, true, core.EndOutOfMemory, true},
		{shim.Exit{Reason: shim.ReasonStartFailed}, nil, true, core.EndStartFailed, false},
		{shim.Exit{Reason: shim.ReasonKilled, ExitCode: &code}, nil, true, core.EndKilled, true},
		{shim.Exit{Reason: shim.ReasonLost, ExitCode: &code}, nil, true, core.EndLost, false},
		{shim.Exit{Reason: "OF THE FUTURE", ExitCode: &code}, nil, true, core.EndLost, false},
	} {
		o := exitObservation(c.exit, c.stop)
		if o.Failed != c.failed || o.Reason != c.reason || (o.ExitCode != nil) != c.code {
			t.Errorf("%+v: %+v", c.exit, o)
		}
	}
}

// TestInstallShim: one file per content, with the permissions that keep process 1 closed.
func TestInstallShim(t *testing.T) {
	dir := t.TempDir()
	one, err := installShim(dir, plainShim([]byte("one")), shim.BinaryMode)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := installShim(dir, plainShim([]byte("one")), shim.BinaryMode)
	two, _ := installShim(dir, plainShim([]byte("two")), shim.BinaryMode)
	if one != again || one == two {
		t.Errorf("%s %s %s", one, again, two)
	}
	info, err := os.Stat(one)
	if err != nil || info.Mode().Perm() != shim.BinaryMode {
		t.Errorf("%v %v", info, err)
	}
	if err := os.WriteFile(one, []byte("half"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := installShim(dir, plainShim([]byte("one")), shim.BinaryMode); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(one); string(data) != "one" {
		t.Errorf("a file that was not whole stayed: %q", data)
	}
	if _, err := shimBinary(filepath.Join(dir, "none")); err == nil {
		t.Error("a shim that is not there")
	}
}

// TestInstallPackedShim: the file is what was packed, and what cannot be unpacked is not installed.
func TestInstallPackedShim(t *testing.T) {
	dir := t.TempDir()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := packedShim(packed.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	path, err := installShim(dir, whole, shim.BinaryMode)
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(path); string(data) != "one" || whole.size != 3 {
		t.Errorf("%q of %d bytes", data, whole.size)
	}
	broken, err := packedShim(packed.Bytes()[:packed.Len()-5])
	if err != nil {
		t.Fatal(err)
	}
	if path, err := installShim(dir, broken, shim.BinaryMode); err == nil {
		t.Errorf("installed %s", path)
	}
	if _, err := packedShim(nil); err == nil {
		t.Error("nothing was taken for a program")
	}
}
