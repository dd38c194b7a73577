package oci

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// holderFailed is the code of a holder that could not start its program.
const holderFailed = 125

// HoldArgs returns the arguments of a berm-shim that starts a program and keeps descriptor fd open meanwhile, without passing
// it on. gVisor leaves what it inherits open in the container's process, and so would a lock be held for ever that says
// whether a start is under way.
func HoldArgs(fd int, program string, argv []string) []string {
	return append([]string{"berm-shim", "hold", strconv.Itoa(fd), program}, argv[1:]...)
}

// Hold is that berm-shim. It returns the program's exit code.
func Hold(fd int, program string, args []string) int {
	unix.CloseOnExec(fd)
	pid, err := syscall.ForkExec(program, append([]string{program}, args...), &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		return holderFailed
	}
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
