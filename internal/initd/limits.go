package initd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Limits are those of every process of a sandbox. The init sets its own, and all others inherit them: to raise one again takes a
// capability over the machine. A runtime would need that capability too, to set them from outside in a user namespace that is not root's.
//
// An init that dials has a kernel of its own, where the runtime has set them.
type Limits struct {
	// OpenFiles is how many descriptors a process may have; 0 is what the init was born with.
	OpenFiles uint64
}

func (l Limits) set() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("no core files: %w", err)
	}
	if l.OpenFiles == 0 {
		return nil
	}
	// Through the package: what Go has raised for this process it would lower again for those that are started.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: l.OpenFiles, Max: l.OpenFiles}); err != nil {
		return fmt.Errorf("%d open files: %w", l.OpenFiles, err)
	}
	return nil
}
