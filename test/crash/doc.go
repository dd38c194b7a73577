// Package crash kills the server, or a shim, at every failpoint with operations in flight, starts it again and checks that
// nothing was lost, doubled, invented or left behind. It needs root and an OCI runtime; run.sh runs it.
//
// # One case
//
// A failpoint is tried up to three times on one data directory: at the first start, at a start that takes living sandboxes
// over, and in the middle of launches, commands, files, stops, deletions and edits of configuration. A gate (package
// failpoint) says when hits count. Each of the three starts again after the death, and what an earlier one left is part of
// what the next has to cope with. Only failpoints that a running server never passes are excused from the third.
//
// The failpoints of the shim kill shims: the server must go on, without a restart.
//
// # What must hold
//
// Every sandbox whose launch was answered exists, and every launch made at most one; each reaches a state that lasts. What
// was told before stays true: an end with its code, a file that was written, a configuration. A sandbox is only lost where its
// shim was killed, and an exit code is one that its main process can have had. What is reserved is what lives. Nothing is left
// on the machine once all has ended: process, mount, control group, runtime state, network namespace, link, firewall rule, record.
//
// Only what belongs to the servers under test is looked at, by names that hold their directories, and by a mount namespace that
// the tests have to themselves: what else runs on the machine does not disturb them.
package crash
