package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// drainTimeout is how long output may still come after process 1, and with it everything else, is gone.
	// A disk that is slow just then is no reason to lose the last of it, without a word to who reads.
	drainTimeout = 10 * time.Second
	// removeTimeout bounds one try to remove what the sandbox leaves.
	removeTimeout = 30 * time.Second
	// recordRetry is the pause before an exit that could not be recorded is tried again.
	recordRetry = time.Second
)

// requestStop begins to stop the sandbox, or shortens the grace of a stop that is under way.
func (s *sandbox) requestStop(grace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isClosed(s.ended) {
		return
	}
	first := !s.stopping
	if first {
		s.stopping = true
		s.stopOnce.Do(func() { close(s.stop) })
		s.recordStopping()
	}
	deadline := time.Now().Add(grace)
	if !first && !deadline.Before(s.deadline) {
		return
	}
	s.deadline = deadline
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(grace, s.kill)
	if s.guest != nil {
		s.ask()
	}
}

// ask has the main process told that it is to end, once. The caller holds mu.
func (s *sandbox) ask() {
	if s.asked {
		return
	}
	s.asked = true
	go s.askToEnd(max(time.Until(s.deadline), 0))
}

// askToEnd lets the main process know. A sandbox that is frozen goes on for it. The timer is what counts.
func (s *sandbox) askToEnd(grace time.Duration) {
	s.pausing.Lock()
	if s.onDisk() {
		defer s.pausing.Unlock()
		select {
		case s.finales <- finale{onDisk: true}:
		default:
		}
		return
	}
	s.pausing.Unlock()
	if werr := s.resume(); werr != nil {
		s.logf("resume a sandbox that is stopped: %v", werr)
	}
	if grace > 0 { // Without, it would be chance whether the main process ends by being asked or by being killed.
		_ = s.inside().tell(wire.Request{Op: wire.OpStop, Grace: grace}, askTimeout)
	}
}

// recordStopping is best effort: a disk that is full must not keep a sandbox from being stopped.
func (s *sandbox) recordStopping() {
	if s.record.Phase != shim.PhaseRunning || isClosed(s.unattended) {
		return
	}
	s.record.Phase = shim.PhaseStopping
	failpoint.Hit(failBeforeStopRecord)
	if err := shim.WriteRecord(s.cfg.Dir, s.record); err != nil {
		s.logf("record that the sandbox is stopping: %v", err)
	}
	failpoint.Hit(failAfterStopRecord)
}

// kill ends process 1 and so, by the kernel's hand, every process of the sandbox. One that a runtime is still making ends when it is
// known.
func (s *sandbox) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.destroy()
}

// destroy is kill for a caller that holds mu.
func (s *sandbox) destroy() {
	if s.pid == 0 {
		s.doomed = true
		return
	}
	if !s.reaper.Kill(s.pid, false, syscall.SIGKILL) {
		return
	}
	s.killed = true
	if err := s.cfg.Cgroup.Thaw(); err != nil { // A frozen process does not die.
		s.logf("thaw a sandbox that is killed: %v", err)
	}
	if _, err := s.cfg.Cgroup.LiftCPU(); err != nil {
		s.logf("lift the CPU limit of a sandbox that is killed: %v", err)
	}
}

// finish records the end and removes what is left.
func (s *sandbox) finish(reserve *shim.ExitFile, f finale) {
	at := time.Now().UTC()
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.drain()
	if f.lived() && s.hasMain() {
		wait(s.inside().told, lastWords) // It was sent before process 1 ended, but by another way.
	}
	exit := s.describe(f)
	exit.EndedAt = at
	failpoint.Hit(failBeforeExitRecord)
	s.commit(reserve, exit)
	failpoint.Hit(failAfterExitRecord)
	s.remove()
	failpoint.Hit(failAfterRemove)
	close(s.removed)
}

// describe says how the sandbox ended, from what the shim saw.
func (s *sandbox) describe(f finale) shim.Exit {
	s.mu.Lock()
	defer s.mu.Unlock()
	ws := f.status
	if f.lived() && s.givenUp != "" && ws.Signaled() { // The code of that signal is not the main process's.
		f.lost = s.givenUp
	}
	if !f.lived() {
		return s.unobserved(f)
	}
	code, signal := int32(ws.ExitStatus()), 0
	if ws.Signaled() {
		signal = int(ws.Signal())
		code = 128 + int32(signal)
	}
	e := shim.Exit{ID: s.cfg.ID, Reason: shim.ReasonExited, ExitCode: &code, Signal: signal, StartedAt: s.record.StartedAt}
	e.OutputBytes, _ = s.spool.Offset()
	if s.unstarted != nil {
		return s.describeUnstarted()
	}
	kills, err := s.cfg.Cgroup.OOMKills()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.logf("out-of-memory counter: %v", err)
	}
	e.OOMKills, e.OOM = kills, kills > 0
	s.explain(&e)
	return e
}

// describeUnstarted says that no main process ran: that of a prepared sandbox could not be started.
func (s *sandbox) describeUnstarted() shim.Exit {
	e := shim.Exit{ID: s.cfg.ID, Reason: shim.ReasonStartFailed, Code: string(s.unstarted.Code), Message: s.unstarted.Message}
	if s.stopping {
		e.Reason = shim.ReasonStopped
	}
	return e
}

// hasMain reports whether there is, or was, a main process.
func (s *sandbox) hasMain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.main) > 0
}

// lived reports whether there was a process 1 whose end was seen.
func (f finale) lived() bool { return !f.onDisk && f.lost == "" }

// unobserved says how a sandbox ended of which no process lived.
func (s *sandbox) unobserved(f finale) shim.Exit {
	e := shim.Exit{ID: s.cfg.ID, Reason: shim.ReasonStopped, Message: "it was on disk when it was stopped, and nothing of it ran any more", StartedAt: s.record.StartedAt}
	if f.lost != "" {
		e.Reason, e.Message = shim.ReasonKilled, f.lost
	}
	e.OutputBytes, _ = s.spool.Offset()
	return e
}

// explain sets reason and message, and takes back a code that is not the main process's.
func (s *sandbox) explain(e *shim.Exit) {
	byKill := e.Signal == int(syscall.SIGKILL)
	// Process 1 passes on the main process's end as a code; only the init knows whether that was a signal.
	main := s.guest.mainExit.Load()
	mainKilled := e.Signal == 0 && main != nil && main.Signal == int(syscall.SIGKILL)
	switch {
	case s.killed:
		e.Reason, e.Message = shim.ReasonStopped, "it did not end within the grace and was killed"
	case s.guest.flood() != "": // It ended before it was killed for it; its code is of whatever took the place of the init.
		e.Reason, e.Message, e.ExitCode = shim.ReasonKilled, s.guest.flood(), nil
	case e.Signal == 0 && !s.confirmed(*e.ExitCode, main):
		e.Reason = shim.ReasonKilled
		e.Message = fmt.Sprintf("process 1 ended with code %d although it was not its time: something made it fail", *e.ExitCode)
		e.ExitCode = nil
	case e.OOM && (byKill || mainKilled):
		e.Reason = shim.ReasonOutOfMemory
		e.Message = fmt.Sprintf("killed for want of memory; the kernel killed %d of its processes", e.OOMKills)
	case e.Signal != 0:
		e.Reason = shim.ReasonKilled
		e.Message = fmt.Sprintf("process 1 was ended by signal %d, which Berm did not send", e.Signal)
	case s.stopping:
		e.Reason = shim.ReasonStopped
	}
	if s.cfg.Prepared && s.record.StartedAt.IsZero() { // The code is that of a main process, and there was none.
		e.ExitCode = nil
		if e.Reason == shim.ReasonStopped {
			e.Message = "stopped before it ran"
		}
	}
	if e.OOM && e.Message == "" {
		e.Message = fmt.Sprintf("the kernel killed %d of its processes for want of memory", e.OOMKills)
	}
}

// confirmed reports whether the code of process 1 is that of the main process, or of an idle sandbox that was stopped. A
// process that makes the init crash (by its resource limits, say) must not pass for the main process having ended.
func (s *sandbox) confirmed(code int32, main *wire.Exit) bool {
	if len(s.main) == 0 {
		return s.stopping && code == 0
	}
	return main != nil && main.Code == code
}

// commit makes the end durable and then lets everybody know. A disk that refuses is asked again for as long as it takes:
// an end that could be forgotten again is not told.
func (s *sandbox) commit(reserve *shim.ExitFile, e shim.Exit) {
	for {
		err := reserve.Commit(e)
		if err == nil {
			break
		}
		s.logf("record the end: %v", err)
		if isClosed(s.unattended) { // There is no place for it any more, and nobody to tell.
			break
		}
		wait(s.unattended, recordRetry)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exit = e
	if s.timer != nil {
		s.timer.Stop()
	}
	close(s.ended)
}

// drain waits for the output's end.
func (s *sandbox) drain() {
	done := make(chan struct{})
	go func() { s.copies.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(drainTimeout):
		s.logf("output is still open after the end")
	}
	_ = s.spool.Close()
}

// remove deletes the container. What fails is left to Cleanup.
func (s *sandbox) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	if err := shim.Remove(ctx, s.cfg, s.reaper); err != nil {
		s.logf("remove: %v", err)
	}
}

// startFailed ends whatever came to life, and records that nothing ran.
func (s *sandbox) startFailed(reserve *shim.ExitFile, werr *wire.Error) {
	s.kill()
	s.remove()
	s.mu.Lock()
	stopped := s.stopping
	s.mu.Unlock()
	e := shim.Exit{
		ID: s.cfg.ID, Reason: shim.ReasonStartFailed, Code: string(werr.Code), Message: werr.Message, EndedAt: time.Now().UTC(),
	}
	if stopped {
		e.Reason = shim.ReasonStopped
	}
	s.logf("start: %v", werr)
	failpoint.Hit(failBeforeStartFailed)
	if reserve != nil {
		s.commit(reserve, e)
	}
	close(s.removed)
}

func wait(c <-chan struct{}, limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
