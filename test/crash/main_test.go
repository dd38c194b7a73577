//go:build crash

package crash

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// envInside says that this process has a mount namespace of its own.
const envInside = "BERM_CRASH_INSIDE"

// TestMain gives the tests, and with them the servers and the shims, a mount namespace of their own that nothing is propagated
// into: what is mounted there, and was not at the beginning, was mounted by them, whatever else runs on the machine.
func TestMain(m *testing.M) {
	if os.Getenv(envInside) != "" {
		os.Exit(m.Run())
	}
	unshare, err := exec.LookPath("unshare")
	if err == nil {
		args := append([]string{unshare, "--mount", "--propagation", "private"}, os.Args...)
		err = syscall.Exec(unshare, args, append(os.Environ(), envInside+"=1"))
	}
	fmt.Fprintln(os.Stderr, "a mount namespace for the tests:", err)
	os.Exit(1)
}
