package oci

import (
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spawner starts processes and ends them. A shim, which waits for all its children at once, has a reap.Reaper for it; see Direct.
type Spawner interface {
	// Spawn starts a process and returns a channel with its wait status.
	Spawn(path string, argv []string, attr *syscall.ProcAttr) (pid int, done <-chan syscall.WaitStatus, err error)
	// Kill sends a signal to a process that was spawned, or with group to its process group, unless its status was taken: its id may be
	// another's by then. It reports whether it was sent.
	Kill(pid int, group bool, signal syscall.Signal) bool
}

// Direct is the Spawner of a process that leaves its other children alone. The zero value is ready.
type Direct struct {
	// mu is held while a status is taken, so that an id that Kill uses is still that of the process.
	mu      sync.Mutex
	running map[int]bool
}

// Spawn implements Spawner.
func (d *Direct) Spawn(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	if d.running == nil {
		d.running = map[int]bool{}
	}
	d.running[pid] = true
	done := make(chan syscall.WaitStatus, 1)
	go func() { done <- d.wait(pid) }()
	return pid, done, nil
}

func (d *Direct) wait(pid int) (ws syscall.WaitStatus) {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.running, pid)
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); !errors.Is(err, syscall.EINTR) {
			return ws
		}
	}
}

// Kill implements Spawner.
func (d *Direct) Kill(pid int, group bool, signal syscall.Signal) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running[pid] {
		return false
	}
	if group {
		pid = -pid
	}
	return syscall.Kill(pid, signal) == nil
}
