package oci

import (
	"syscall"
	"testing"
)

// TestDirectKill: a process that was spawned can be ended with its group; one whose status was taken is signalled no more, because its id
// may be another's.
func TestDirectKill(t *testing.T) {
	var d Direct
	pid, done, err := d.Spawn("/bin/sh", []string{"sh", "-c", "sleep 1000 & wait"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		t.Fatal(err)
	}
	if !d.Kill(pid, true, syscall.SIGKILL) {
		t.Error("a process that runs was not signalled")
	}
	if ws := <-done; !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", ws)
	}
	if d.Kill(pid, false, 0) || d.Kill(pid, true, syscall.SIGKILL) {
		t.Error("the id of a process that is gone was used")
	}
}
