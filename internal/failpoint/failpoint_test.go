package failpoint_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bermhq/berm/internal/failpoint"
)

const child = "FAILPOINT_TEST_CHILD"

// TestMain lets the test binary be the process that dies.
func TestMain(m *testing.M) {
	if names := os.Getenv(child); names != "" {
		for name := range strings.SplitSeq(names, ",") {
			failpoint.Hit(name)
			_, _ = os.Stdout.WriteString(name + "\n")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestHit(t *testing.T) {
	tests := []struct {
		name, spec, hits string
		passed, dead     string
	}{
		{"unset", "", "a.x,a.y", "a.x\na.y\n", ""},
		{"other", "a.z", "a.x,a.y", "a.x\na.y\n", ""},
		{"first", "a.x", "a.x,a.y", "", "a.x\n"},
		{"later", "a.y", "a.x,a.y", "a.x\n", "a.y\n"},
		{"third hit", "a.x=3", "a.x,a.x,a.x,a.x", "a.x\na.x\n", "a.x\n"},
		{"two armed", "a.y=2,a.z", "a.y,a.z", "a.y\n", "a.z\n"},
		{"nonsense count", "a.x=0", "a.x", "a.x\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			cmd := exec.Command(os.Args[0])
			cmd.Env = []string{child + "=" + tt.hits, failpoint.EnvSpec + "=" + tt.spec, failpoint.EnvLog + "=" + log}
			out, err := cmd.Output()
			if string(out) != tt.passed {
				t.Errorf("passed %q, want %q", out, tt.passed)
			}
			var exit *exec.ExitError
			if tt.dead == "" && err != nil {
				t.Errorf("died: %v", err)
			}
			if tt.dead != "" && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
				t.Errorf("ended with %v, want SIGKILL", err)
			}
			if logged, _ := os.ReadFile(log); string(logged) != tt.dead {
				t.Errorf("log %q, want %q", logged, tt.dead)
			}
		})
	}
}

// TestGate: hits count only while the gate is there.
func TestGate(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	run := func() string {
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{child + "=a.x,a.y", failpoint.EnvSpec + "=a.y", failpoint.EnvGate + "=" + gate}
		out, _ := cmd.Output()
		return string(out)
	}
	if out := run(); out != "a.x\na.y\n" {
		t.Errorf("without the gate %q passed", out)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(); out != "a.x\n" {
		t.Errorf("with the gate %q passed", out)
	}
}

func TestEnviron(t *testing.T) {
	t.Setenv(failpoint.EnvSpec, "a.x=2")
	t.Setenv(failpoint.EnvLog, "")
	t.Setenv(failpoint.EnvGate, "/gate")
	want := []string{failpoint.EnvSpec + "=a.x=2", failpoint.EnvGate + "=/gate"}
	if got := failpoint.Environ(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRegister(t *testing.T) {
	all, err := failpoint.Register([]string{"b.one"}, []string{"a.two", "a.one"})
	if err != nil || strings.Join(all, " ") != "a.one a.two b.one" {
		t.Fatalf("got %v, %v", all, err)
	}
	for _, bad := range [][]string{{"a.x", "a.x"}, {"plain"}, {".x"}, {"a."}, {"a.x,b"}, {"a.x=1"}} {
		if _, err := failpoint.Register(bad); err == nil {
			t.Errorf("%v accepted", bad)
		}
	}
}

func TestCheck(t *testing.T) {
	for spec, ok := range map[string]bool{"": true, "a.x": true, "a.x=2": true, "a.x,a.y": false, "a.x=none": false, "a.x=0": false} {
		t.Setenv(failpoint.EnvSpec, spec)
		if err := failpoint.Check([]string{"a.x"}); (err == nil) != ok {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

func BenchmarkHitUnset(b *testing.B) {
	for b.Loop() {
		failpoint.Hit("a.x")
	}
}
