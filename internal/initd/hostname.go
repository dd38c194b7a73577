package initd

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Hostname names the sandbox that this process runs in. It is another process than the init, which has no right to; see
// oci.Container.SetHostname.
func Hostname(name string) int {
	if err := unix.Sethostname([]byte(name)); err != nil {
		fmt.Fprintf(os.Stderr, "berm hostname: %v\n", err)
		return 1
	}
	return 0
}
