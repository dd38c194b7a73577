package initd

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	lastSignal = 64
	// signalSetSize is the size of the kernel's set of signals, in bytes.
	signalSetSize = lastSignal / 8
)

// catch begins to handle every signal there is: one that process 1 does not handle would end a Go process, and with it the
// sandbox, when sent from inside. (SIGKILL and SIGSTOP from inside the kernel itself ignores, SIGURG is the Go runtime's.) It is done
// before anything is run in the sandbox.
func catch() (<-chan os.Signal, error) {
	c := make(chan os.Signal, lastSignal)
	for s := syscall.Signal(1); s <= lastSignal; s++ {
		if s != syscall.SIGURG {
			signal.Notify(c, s)
		}
	}
	return c, catchInternal()
}

// action is a sigaction as the kernel has it: a handler, and what belongs to it.
type action struct {
	handler uintptr
	rest    [3]uint64
}

// ignore is the handler that makes the kernel drop a signal.
const ignore = 1

// catchInternal ignores the signals that package signal leaves alone, because C libraries use them for themselves: 32 and 34. Their default
// is to end the process. The kernel drops such signals when they are sent to the first process of a namespace from inside, but not while
// that one's first thread has them blocked, as it has whenever it makes another: then they end it after all. Commands inherit that they
// are ignored, which changes nothing for them: a library handles them before it uses them.
func catchInternal() error {
	for s := syscall.Signal(1); s <= lastSignal; s++ {
		var now action
		if s == syscall.SIGKILL || s == syscall.SIGSTOP {
			continue
		}
		if err := sigaction(s, nil, &now); err != nil {
			return err
		}
		if now.handler != 0 {
			continue
		}
		if err := sigaction(s, &action{handler: ignore}, nil); err != nil {
			return err
		}
	}
	return nil
}

func sigaction(s syscall.Signal, set, get *action) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), signalSetSize, 0, 0)
	if errno != 0 {
		return fmt.Errorf("handle signal %d: %w", s, errno)
	}
	return nil
}
