//go:build crash

package crash

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// envInside says that this process has a mount and a network namespace of its own.
const envInside = "BERM_CRASH_INSIDE"

// TestMain gives the tests, and with them the servers and the shims, a mount namespace of their own that nothing is propagated
// into: what is mounted there, and was not at the beginning, was mounted by them, whatever else runs on the machine. The same holds for
// links and firewall rules in the network namespace; it has no way out, so that sandboxes with a network reach nothing.
func TestMain(m *testing.M) {
	if os.Getenv(envInside) != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "the loopback of the tests' network namespace:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	unshare, err := exec.LookPath("unshare")
	if err == nil {
		args := append([]string{unshare, "--net", "--mount", "--propagation", "private"}, os.Args...)
		err = syscall.Exec(unshare, args, append(os.Environ(), envInside+"=1"))
	}
	fmt.Fprintln(os.Stderr, "namespaces for the tests:", err)
	os.Exit(1)
}
