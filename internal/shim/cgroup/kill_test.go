package cgroup

import (
	"os/exec"
	"syscall"
	"testing"
)

// sleeper starts a process and returns its id, and what tells how it ended.
func sleeper(t *testing.T) (pid int, ended func() syscall.WaitStatus) {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd.Process.Pid, func() syscall.WaitStatus {
		_ = cmd.Wait()
		return cmd.ProcessState.Sys().(syscall.WaitStatus)
	}
}

// TestKillSparesOthers: an id that was on the list when it was read, and is somebody else's when it is used, is not signalled. What is
// on it both times is, and what has ended is no error.
func TestKillSparesOthers(t *testing.T) {
	victim, victimEnded := sleeper(t)
	stranger, strangerEnded := sleeper(t)
	gone, goneEnded := sleeper(t)
	if err := syscall.Kill(gone, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	goneEnded()
	reads := 0
	err := kill(func() ([]int, error) {
		if reads++; reads == 1 {
			return []int{victim, stranger, gone}, nil
		}
		return []int{victim, gone}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if ws := victimEnded(); ws.Signal() != syscall.SIGKILL {
		t.Errorf("the process of the group ended with %v", ws)
	}
	// It is told apart from one that was killed by the signal that ends it.
	if err := syscall.Kill(stranger, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if ws := strangerEnded(); ws.Signal() != syscall.SIGTERM {
		t.Errorf("the process that was never in the group ended with %v", ws)
	}
}
