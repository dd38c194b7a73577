package shim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/shim/oci"
)

// TestSealedRuntime: a runtime is run from its sealed copy, which process 1 gets no hold of; and without the server that had the copy
// what is left is removed all the same.
func TestSealedRuntime(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := newSandbox(t, runtime)
		program, err := oci.Seal(s.cfg.Runtime)
		if err != nil {
			t.Fatal(err)
		}
		s.cfg.Program = program
		s.mustStart()
		if err := program.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := s.client.Info(s.ctx())
		if err != nil {
			t.Fatal(err)
		}
		shims := descriptors(t, r.ShimPID)
		if !strings.Contains(shims, "memfd:runtime") {
			t.Errorf("the shim has no copy: %s", shims)
		}
		if inits := descriptors(t, r.PID); strings.Contains(inits, "memfd:runtime") {
			t.Errorf("process 1 has the copy: %s", inits)
		}
		s.stop()
	})
}

func descriptors(t *testing.T, pid int) string {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil {
			all = append(all, target)
		}
	}
	return strings.Join(all, " ")
}
