package initd

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// childNice is the priority of commands: the usual one.
const childNice = 0

// forker starts processes on a thread of its own. The init has the highest priority there is within its control group, so
// that it can end commands which keep all processors busy; what it starts inherits the priority of the thread that forks.
type forker struct{ asked chan forkCall }

type forkCall struct {
	path     string
	argv     []string
	attr     *syscall.ProcAttr
	answered chan<- forkAnswer
}

type forkAnswer struct {
	pid int
	err error
}

func newForker() *forker {
	f := &forker{asked: make(chan forkCall)}
	go f.run()
	return f
}

// run keeps its thread for ever: a priority that was given up does not come back, and the Go runtime never makes threads from
// one that is kept.
func (f *forker) run() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, childNice) // of this thread; less is always allowed
	for c := range f.asked {
		pid, err := syscall.ForkExec(c.path, c.argv, c.attr)
		c.answered <- forkAnswer{pid, err}
	}
}

// fork implements reap.Fork.
func (f *forker) fork(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
	answered := make(chan forkAnswer, 1)
	f.asked <- forkCall{path, argv, attr, answered}
	a := <-answered
	return a.pid, a.err
}
