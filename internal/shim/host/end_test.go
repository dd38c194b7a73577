package host

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/shim/reap"
)

// TestStopWhileMade: the grace of a stop is over before the runtime has told which process is the sandbox's first. It ends all the same, and
// no other stop is needed.
func TestStopWhileMade(t *testing.T) {
	s := &sandbox{
		cfg:    &shim.Config{Dir: t.TempDir(), Bundle: t.TempDir(), Cgroup: cgroup.Group{Mode: cgroup.V2, Path: "berm-test-none"}},
		reaper: reap.New(syscall.ForkExec), stop: make(chan struct{}), ended: make(chan struct{}), finales: make(chan finale, 1),
	}
	s.requestStop(0)
	for !s.isDoomed() {
		s.requestStop(0) // What a second caller asks changes nothing.
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := syscall.ForkExec(sleep, []string{"sleep", "3600"}, &syscall.ProcAttr{Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	go s.reaper.Run()
	if err := os.WriteFile(s.cfg.PIDFile(), []byte(strconv.Itoa(pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.adopt(&meeting{}); err != nil {
		t.Fatal(err)
	}
	if f := <-s.finales; !f.status.Signaled() || f.status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", f.status)
	}
}

func (s *sandbox) isDoomed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doomed
}
