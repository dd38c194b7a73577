package reap_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/reap"
)

// The test process is the subreaper: it must start children through the reaper alone.
func TestMain(m *testing.M) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// shared runs for the whole test process: two reapers would take each other's statuses.
var shared = sync.OnceValue(func() *reap.Reaper {
	r := reap.New(syscall.ForkExec)
	go r.Run()
	return r
})

func sh(t *testing.T, script string, files ...uintptr) (int, <-chan syscall.WaitStatus) {
	t.Helper()
	if files == nil {
		files = []uintptr{0, 1, 2}
	}
	pid, done, err := shared().Spawn("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{Files: files, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	return pid, done
}

func TestStatuses(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			_, done := sh(t, fmt.Sprintf("(sleep 0.001 &); exit %d", i%256))
			if ws := <-done; ws.ExitStatus() != i%256 {
				t.Errorf("status %v, want %d", ws, i%256)
			}
		})
	}
	wg.Wait()
	<-shared().Idle() // The orphans too.
}

func TestSpawnFails(t *testing.T) {
	if _, _, err := shared().Spawn("/no/such", []string{"x"}, &syscall.ProcAttr{}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
	<-shared().Idle()
}

func TestIdle(t *testing.T) {
	<-shared().Idle()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, done := sh(t, "read x", r.Fd(), 1, 2)
	idle := shared().Idle()
	select {
	case <-idle:
		t.Fatal("idle with a child")
	default:
	}
	w.Close()
	<-done
	<-idle
}

func TestAdopt(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		hold, release, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		shared().KeepStrangers()
		// The shell leaves an orphan behind, and tells its id.
		_, done := sh(t, "(read x <&4; exit 33) & echo $! >&3", 0, 1, 2, w.Fd(), hold.Fd())
		w.Close()
		hold.Close()
		var orphan int
		if _, err := fmt.Fscan(r, &orphan); err != nil {
			t.Fatal(err)
		}
		<-done
		if late {
			release.Close()
			<-shared().Idle()
		}
		adopted := shared().Adopt(orphan)
		if !late {
			release.Close()
		}
		if ws := <-adopted; ws.ExitStatus() != 33 {
			t.Errorf("late %v: %v", late, ws)
		}
	}
}

func TestKill(t *testing.T) {
	pid, done := sh(t, "exec sleep 1000")
	if !shared().Kill(pid, false, syscall.SIGTERM) {
		t.Error("not sent")
	}
	if ws := <-done; ws.Signal() != syscall.SIGTERM {
		t.Errorf("%v", ws)
	}
	if shared().Kill(pid, false, 0) || shared().Kill(pid, true, 0) || shared().Kill(os.Getpid(), false, 0) {
		t.Error("a signal was sent to a process that is not ours")
	}
}
