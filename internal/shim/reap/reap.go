// Package reap waits for all children of a process: those that it started, and those that it inherits because it is
// process 1 of a pid namespace or a child subreaper. One goroutine owns wait4, so that no status is lost or taken twice;
// package os/exec must not be used beside it.
package reap

import (
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxStrangers is how many statuses of children that nobody asked for are kept by a Reaper with KeepStrangers.
const maxStrangers = 256

// Reaper waits for children. Its methods are safe for concurrent use.
type Reaper struct {
	// mu is held while a child is made, so that it is known before its status can be taken, and while statuses are taken,
	// so that an id that Kill uses cannot have been given to another process.
	mu        sync.Mutex
	waiting   map[int]chan<- syscall.WaitStatus
	strangers map[int]syscall.WaitStatus
	fork      Fork
	// awake ends the rest that Run takes while there are no children. idle is closed meanwhile.
	awake   chan struct{}
	idle    chan struct{}
	resting bool
}

// Fork starts a process; syscall.ForkExec is one.
type Fork func(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error)

// New returns a Reaper whose Spawn starts processes with fork. Nothing is reaped before Run.
func New(fork Fork) *Reaper {
	return &Reaper{fork: fork, waiting: map[int]chan<- syscall.WaitStatus{}, awake: make(chan struct{}, 1), idle: make(chan struct{})}
}

// KeepStrangers makes the reaper remember statuses of children that were not spawned here, until Adopt asks for one and
// gets it: a container's process 1 may be gone before its id is known.
func (r *Reaper) KeepStrangers() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.strangers = map[int]syscall.WaitStatus{}
}

// Run reaps until the process ends.
func (r *Reaper) Run() {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
		switch {
		case err == nil:
			r.collect()
		case errors.Is(err, unix.ECHILD):
			r.rest()
		}
	}
}

// collect takes the statuses of all children that have ended.
func (r *Reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		r.deliver(pid, ws)
	}
}

func (r *Reaper) deliver(pid int, ws syscall.WaitStatus) {
	if done, ok := r.waiting[pid]; ok {
		delete(r.waiting, pid)
		done <- ws
		return
	}
	if r.strangers != nil && len(r.strangers) < maxStrangers {
		r.strangers[pid] = ws
	}
}

// rest waits until there may be children again.
func (r *Reaper) rest() {
	r.mu.Lock()
	if hasChildren() {
		r.mu.Unlock()
		return
	}
	if !r.resting {
		r.resting = true
		close(r.idle)
	}
	r.mu.Unlock()
	<-r.awake
}

func hasChildren() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	return !errors.Is(err, unix.ECHILD)
}

// Wake makes Run look for children again. Spawn does it; others do when a SIGCHLD arrives, since processes of another
// parent can be inherited at any time.
func (r *Reaper) Wake() {
	select {
	case r.awake <- struct{}{}:
	default:
	}
}

// Idle returns a channel that is closed when there are no children. A Spawn after that makes a new one.
func (r *Reaper) Idle() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.idle
}

// Spawn starts a process and returns its id and a channel that receives its status, once.
func (r *Reaper) Spawn(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := r.fork(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	done := make(chan syscall.WaitStatus, 1)
	r.waiting[pid] = done
	if r.resting {
		r.resting = false
		r.idle = make(chan struct{})
	}
	r.Wake()
	return pid, done, nil
}

// Adopt returns a channel that receives the status of a child that was inherited, or will be, also when it has ended
// already; and forgets all other strangers.
func (r *Reaper) Adopt(pid int) <-chan syscall.WaitStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	done := make(chan syscall.WaitStatus, 1)
	if ws, ok := r.strangers[pid]; ok {
		done <- ws
	} else {
		r.waiting[pid] = done
	}
	r.strangers = nil
	return done
}

// Kill sends a signal to a spawned or adopted process, or with group to its process group, unless its status was already
// taken: then the id may belong to somebody else, and nothing is sent. It reports whether it was sent.
func (r *Reaper) Kill(pid int, group bool, signal syscall.Signal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiting[pid]; !ok {
		return false
	}
	if group {
		return syscall.Kill(-pid, signal) == nil
	}
	return syscall.Kill(pid, signal) == nil
}
