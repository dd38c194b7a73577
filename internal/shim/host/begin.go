package host

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
)

// beginning is what a prepared sandbox becomes: done is closed when that is decided, and err then says how.
type beginning struct {
	done chan struct{}
	err  *wire.Error
}

// answerBegin answers a request to give a prepared sandbox its main process. The first one does it, and does it to the end even
// when the server that asked is gone; all get the same answer.
func (s *sandbox) answerBegin(c *client, secrets []string) {
	if !s.cfg.Prepared {
		c.fail(wire.Errorf(wire.CodeInvalid, "the sandbox was started with its main process"))
		return
	}
	if !s.await(c, s.prepared) {
		return
	}
	s.beginOnce.Do(func() { go s.begin(secrets) })
	if !s.await(c, s.beginning.done) {
		return
	}
	if werr := s.beginning.err; werr != nil {
		c.fail(werr)
		return
	}
	c.ok(nil)
}

// begin starts the main process. After a failure the sandbox has ended, and its record says why, before anybody is told.
func (s *sandbox) begin(secrets []string) {
	defer close(s.beginning.done)
	werr := s.beginPrepared(secrets)
	s.beginning.err = werr
	if werr == nil {
		return
	}
	s.logf("begin: %v", werr)
	s.mu.Lock()
	s.unstarted = werr
	s.mu.Unlock()
	s.kill()
	<-s.ended
}

func (s *sandbox) beginPrepared(secrets []string) *wire.Error {
	b, err := shim.LoadBegin(s.cfg.Dir)
	if err != nil {
		return wire.Errorf(wire.CodeInternal, "%v", err)
	}
	b.Env = append(b.Env, secrets...)
	if werr := s.leavePrepared(b); werr != nil {
		return werr
	}
	failpoint.Hit(failAfterBeginRecord)
	if err := s.rename(b.Hostname); err != nil {
		s.stayPrepared()
		return wire.Errorf(wire.CodeInternal, "host name: %v", err)
	}
	if err := s.bind(b.Binds); err != nil {
		s.stayPrepared()
		return wire.Errorf(wire.CodeInternal, "mounted files: %v", err)
	}
	failpoint.Hit(failAfterBinds)
	s.receiveOutput(s.inside(), b.Main)
	cfg := *s.cfg
	cfg.Env, cfg.WorkDir, cfg.Main, cfg.Files = b.Env, b.WorkDir, b.Main, b.Files
	answer := make(chan *wire.Error, 1)
	go func() { answer <- s.inside().begin(&cfg) }()
	if werr := s.awaitBegin(answer); werr != nil {
		return werr
	}
	if err := s.markRunning(); err != nil {
		return wire.Errorf(wire.CodeInternal, "record that the sandbox runs: %v", err)
	}
	return nil
}

// leavePrepared writes down that a main process may be started from now on.
func (s *sandbox) leavePrepared(b *shim.Begin) *wire.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || s.over {
		return errStopping()
	}
	failpoint.Hit(failBeforeBeginRecord)
	next := s.record
	next.Phase = shim.PhaseCreated
	if err := shim.WriteRecord(s.cfg.Dir, next); err != nil {
		return wire.Errorf(wire.CodeInternal, "record that the sandbox begins: %v", err)
	}
	s.record, s.main, s.env, s.dir = next, b.Main, b.Env, b.WorkDir
	return nil
}

// stayPrepared takes that back, for nothing was started. What cannot be written says the less of the two.
func (s *sandbox) stayPrepared() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.Phase, s.main = shim.PhasePrepared, nil
	if err := shim.WriteRecord(s.cfg.Dir, s.record); err != nil {
		s.logf("record that the sandbox did not begin: %v", err)
	}
}

// markPrepared writes down that the sandbox waits for its main process.
func (s *sandbox) markPrepared() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.Phase = shim.PhasePrepared
	failpoint.Hit(failBeforePrepared)
	if err := shim.WriteRecord(s.cfg.Dir, s.record); err != nil {
		return err
	}
	failpoint.Hit(failAfterPrepared)
	close(s.prepared)
	return nil
}

// rename gives the sandbox its host name. The init may not do that: it has no right over the sandbox's own namespace, and shall
// have none. A thread of this process enters that namespace instead, and ends there; where the name is kept by a kernel of the
// sandbox's own, the runtime has to help.
func (s *sandbox) rename(name string) error {
	if name == "" {
		return nil
	}
	if s.cfg.RuntimeKind.Dials() {
		return s.cfg.Container(s.reaper).SetHostname(name)
	}
	return s.fromWithin(func(pid int, start uint64) error { return renameIn(pid, start, name) })
}

// fromWithin calls f on a thread that may enter namespaces of the sandbox's process 1, and ends with it.
func (s *sandbox) fromWithin(f func(pid int, start uint64) error) error {
	s.mu.Lock()
	pid, start := s.record.PID, s.record.PIDStart
	s.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread is in another namespace from here on.
		done <- f(pid, start)
	}()
	return <-done
}

func renameIn(pid int, start uint64, name string) error {
	ns, err := namespaceOf(pid, start, "uts")
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWUTS); err != nil {
		return os.NewSyscallError("setns", err)
	}
	return os.NewSyscallError("sethostname", unix.Sethostname([]byte(name)))
}
