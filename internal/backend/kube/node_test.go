//go:build cluster

package kube_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// part returns the process of a part of the cluster.
func part(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(os.Getenv("BERM_CLUSTER_STATE"), name+".pid"))
	if err != nil {
		t.Fatalf("BERM_CLUSTER_STATE: %v", err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(text))[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// TestFaultNodeGone: a node that does not answer any more, whose connections nobody closes. What runs there is not said to have ended
// until the cluster gives its pod up; then nobody knows how it ended. No call waits for ever.
func TestFaultNodeGone(t *testing.T) {
	kubelet := part(t, "kubelet")
	b, _ := world(t, nil)
	if err := b.Create(t.Context(), job(t, "node-gone", "sleep", "infinity")); err != nil {
		t.Fatal(err)
	}
	wait := seen(t, b)
	wait("node-gone", "it runs", runs)
	p, err := b.Exec(t.Context(), "node-gone", backend.Exec{Argv: []string{"sh", "-c", "echo begun; exec sleep infinity"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if f, err := p.Recv(); err != nil || string(f.Data) != "begun\n" {
		t.Fatalf("%q, %v", f.Data, err)
	}
	signal(t, kubelet, syscall.SIGSTOP)
	defer signal(t, kubelet, syscall.SIGCONT)
	for {
		f, err := p.Recv()
		if fault.Is(err, fault.Unavailable) {
			break
		}
		if err != nil || f.Kind == backend.FrameExit {
			t.Fatalf("a command that runs there: %+v, %v", f, err)
		}
	}
	if _, err := b.Exec(t.Context(), "node-gone", backend.Exec{Argv: []string{"true"}}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("another command: %v", err)
	}
	if o := wait("node-gone", "its state is told", func(*backend.Observation) bool { return true }); o.Phase != backend.PhaseRunning {
		t.Errorf("what nobody saw end is %+v", o)
	}
	kubectl(t, "", "-n", "org-ns-org-fault", "delete", "pod", "sandbox-node-gone", "--force", "--grace-period=0")
	if o := wait("node-gone", "it is given up", over); !o.Failed || o.Reason != core.EndLost || o.ExitCode != nil {
		t.Errorf("%+v", o)
	}
	signal(t, kubelet, syscall.SIGCONT)
	if err := b.Delete(t.Context(), "node-gone"); err != nil {
		t.Error(err)
	}
	if err := b.Create(t.Context(), job(t, "node-back", "sleep", "infinity")); err != nil {
		t.Fatal(err)
	}
	wait("node-back", "it runs", runs)
	clear(t, b, "node-back")
	// The last taint goes a little later than the first pod comes; the tests behind this one find the node as it was.
	for end := time.Now().Add(time.Minute); b.Info().Capacity.Sandboxes == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the node is back, and gives nothing")
		}
	}
}
