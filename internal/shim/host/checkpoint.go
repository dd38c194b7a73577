package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
	"github.com/bermhq/berm/internal/sparse"
)

const (
	// letGoTimeout bounds how long the init may take to let go: more than it takes itself, for it may have little CPU time.
	letGoTimeout = 15 * time.Second
	// checkpointTimeout bounds the saving of one sandbox; all of its memory is written.
	checkpointTimeout = 2 * time.Minute
	// leftTimeout is how long process 1 may take to end once it was saved.
	leftTimeout = 10 * time.Second
)

// checkpoint saves the sandbox in a directory, with a copy of its disk if one is given, and brings it back at once. It runs under the
// same shim all the while; what a caller of a running command is told, the init has said before.
func (s *sandbox) checkpoint(dir string, disk *wire.Disk) *wire.Error {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	c, werr := s.save(dir, disk)
	if werr != nil {
		return werr
	}
	return s.goOn(dir, c.Token)
}

// suspend saves the sandbox in its state directory, and leaves it there.
func (s *sandbox) suspend() *wire.Error {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if s.onDisk() {
		return nil
	}
	dir := shim.ImageDir(s.cfg.Dir)
	if err := os.RemoveAll(dir); err != nil {
		return wire.Errorf(wire.CodeInternal, "%v", err)
	}
	c, werr := s.save(dir, nil)
	if werr != nil {
		return werr
	}
	s.clear()
	s.mu.Lock()
	s.record.OnDisk, s.record.PID, s.record.PIDStart, s.pid = true, 0, 0, 0
	s.mu.Unlock()
	if werr := s.recordPause(time.Now().UTC()); werr != nil { // A stop came, or the disk is full: it goes on, to end or to run.
		if back := s.goOn(dir, c.Token); back != nil {
			return back
		}
		return werr
	}
	failpoint.Hit(failAfterSuspend)
	return nil
}

// recall brings a suspended sandbox back. The caller holds pausing.
func (s *sandbox) recall() *wire.Error {
	dir := shim.ImageDir(s.cfg.Dir)
	c, err := shim.ReadCheckpoint(dir)
	if err != nil || c == nil {
		return wire.Errorf(wire.CodeInternal, "what was saved of the sandbox cannot be read: %v", err)
	}
	if werr := s.goOn(dir, c.Token); werr != nil {
		return werr
	}
	return s.recordPause(time.Time{})
}

func (s *sandbox) onDisk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.OnDisk
}

// save lets the init let go and saves the sandbox, which ends process 1. When that fails the sandbox runs as before, if it lives.
func (s *sandbox) save(dir string, disk *wire.Disk) (*shim.Checkpoint, *wire.Error) {
	if !s.cfg.RuntimeKind.Checkpoints() {
		return nil, wire.Errorf(wire.CodeInvalid, "runtime %s cannot save sandboxes", s.cfg.Runtime)
	}
	if s.paused() {
		return nil, errPaused()
	}
	if isClosed(s.stop) {
		return nil, errStopping()
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, wire.Errorf(wire.CodeInternal, "%v", err)
	}
	c := &shim.Checkpoint{ID: s.cfg.ID, Token: rand.Text(), At: time.Now().UTC()}
	failpoint.Hit(failBeforeCheckpoint)
	werr := s.part(c.Token)
	if werr == nil {
		werr = s.write(dir, c, disk)
	}
	if werr == nil {
		failpoint.Hit(failAfterCheckpoint)
		return c, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		s.logf("remove what could not be saved: %v", err)
	}
	return nil, werr
}

// part makes the init let go, and hangs up when all that it had to say has arrived.
func (s *sandbox) part(token string) *wire.Error {
	g := s.inside()
	if werr := g.tell(wire.Request{Op: wire.OpLetGo, Token: token}, letGoTimeout); werr != nil {
		if werr.Code == codeNoAnswer {
			return wire.Errorf(wire.CodeNotRunning, "%s", werr.Message)
		}
		return werr
	}
	if !within(&s.copies, letGoTimeout) {
		s.logf("output is still on its way from an init that lets go")
	}
	g.parted.Store(true)
	_ = g.session.Close()
	return nil
}

// write saves the sandbox, of which process 1 has let go.
func (s *sandbox) write(dir string, c *shim.Checkpoint, disk *wire.Disk) *wire.Error {
	s.leave(true)
	err := s.cfg.Container(s.reaper).Checkpoint(dir, checkpointTimeout)
	if err == nil {
		err = s.seeLeft()
	}
	if err == nil {
		return s.seal(dir, c, disk)
	}
	s.logf("checkpoint: %v%s", err, s.cfg.RuntimeLog())
	werr := wire.Errorf(wire.CodeNotSaved, "the sandbox could not be saved: %s", firstLine(err.Error()))
	if s.leave(false) { // It is gone.
		return werr
	}
	m, err := invite(s.cfg.Meet)
	if err == nil {
		defer m.end()
		if back := s.reconvene(m, c.Token); back == nil {
			return werr
		}
	}
	s.logf("a sandbox that could not be saved does not answer any more: it is ended")
	s.killNow("it could not be saved, and did not answer any more afterwards")
	return werr
}

// seal copies the disk of a sandbox that is saved and has ended, if one is given, and writes the record that all is there. Where there is
// no room for it, the sandbox goes on from what was saved at once: nobody else would bring it back.
func (s *sandbox) seal(dir string, c *shim.Checkpoint, disk *wire.Disk) *wire.Error {
	s.mu.Lock()
	s.pid = 0
	s.mu.Unlock()
	c.At = time.Now().UTC()
	var werr *wire.Error
	if disk != nil {
		s.clear() // Nothing of it is left that could write.
		werr = copyDisk(disk, shim.DiskFile(dir))
		failpoint.Hit(failAfterDiskCopied)
	}
	if werr == nil {
		err := shim.WriteCheckpoint(dir, *c)
		if err == nil {
			return nil
		}
		werr = notSaved(err)
	}
	s.logf("checkpoint: %s", werr.Message)
	if back := s.goOn(dir, c.Token); back != nil {
		return back
	}
	return werr
}

// notSaved says why a sandbox could not be saved.
func notSaved(err error) *wire.Error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return wire.Errorf(wire.CodeNotSaved, "the sandbox could not be saved: the disk of its runner is full")
	}
	return wire.Errorf(wire.CodeNotSaved, "the sandbox could not be saved: %s", firstLine(err.Error()))
}

// copyDisk copies a file system that is mounted, and that nobody writes to. What is still in memory of it is written first; that is all
// that freezing would do, and a frozen one would stay so if this shim were killed.
func copyDisk(disk *wire.Disk, to string) *wire.Error {
	mounted, err := os.Open(disk.Mount)
	if err != nil {
		return notSaved(err)
	}
	err = unix.Syncfs(int(mounted.Fd()))
	if err = errors.Join(err, mounted.Close()); err != nil {
		return notSaved(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkpointTimeout)
	defer cancel()
	err = sparse.Copy(ctx, to, disk.File, disk.Limit)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sparse.ErrTooLarge):
		return wire.Errorf(wire.CodeNotSaved, "the sandbox could not be saved: there are more than %d bytes on its disk", disk.Limit)
	case errors.Is(err, context.DeadlineExceeded):
		return wire.Errorf(wire.CodeNotSaved, "the sandbox could not be saved: its disk was not copied within %v", checkpointTimeout)
	}
	return notSaved(err)
}

// leave sets whether process 1 is expected to end. Taken back, it reports whether it has ended all the same: then the sandbox has.
func (s *sandbox) leave(leaving bool) (gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = leaving
	select {
	case ws := <-s.left:
		if !leaving {
			s.finales <- finale{status: ws}
			return true
		}
	default:
	}
	return false
}

// seeLeft waits for process 1 to have ended after it was saved.
func (s *sandbox) seeLeft() error {
	t := time.NewTimer(leftTimeout)
	defer t.Stop()
	select {
	case ws := <-s.left:
		s.mu.Lock()
		killed := s.killed
		s.mu.Unlock()
		if ws.Signaled() || killed {
			s.left <- ws
			return fmt.Errorf("process 1 was ended by signal %d meanwhile", ws.Signal())
		}
		s.leave(false)
		return nil
	case <-t.C:
		return errors.New("its process did not end")
	}
}

// clear removes what the runtime and the kernel keep of the container that was saved.
func (s *sandbox) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	if err := shim.Remove(ctx, s.cfg, s.reaper); err != nil {
		s.logf("remove what was saved: %v", err)
	}
}

// goOn brings a saved sandbox back under this shim. When that fails it has ended: its memory is lost.
func (s *sandbox) goOn(dir, token string) *wire.Error {
	s.clear()
	failpoint.Hit(failBeforeRestore)
	werr := s.restore(dir, token)
	if dir == shim.ImageDir(s.cfg.Dir) {
		if err := os.RemoveAll(dir); err != nil {
			s.logf("remove what was saved: %v", err)
		}
	}
	if werr != nil {
		s.logf("restore: %v", werr)
		s.failed(werr)
		return werr
	}
	failpoint.Hit(failAfterRestore)
	return nil
}

// failed ends a sandbox that could not be brought back.
func (s *sandbox) failed(werr *wire.Error) {
	s.killNow(werr.Message)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 || s.record.OnDisk {
		select {
		case s.finales <- finale{lost: werr.Message}:
		default:
		}
	}
}

// killNow ends process 1, if there is one, for a reason of the shim's own.
func (s *sandbox) killNow(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != 0 && s.reaper.Kill(s.pid, false, syscall.SIGKILL) {
		s.givenUp = why
	}
}

// restore starts the container from a directory and meets its init.
func (s *sandbox) restore(dir, token string) *wire.Error {
	m, err := invite(s.cfg.Meet)
	if err != nil {
		return wire.Errorf(wire.CodeInternal, "%v", err)
	}
	defer m.end()
	_ = os.Remove(s.cfg.PIDFile())
	s.reaper.KeepStrangers()
	stdio, err := s.console(&words{ended: make(chan struct{})})
	if err != nil {
		return wire.Errorf(wire.CodeInternal, "%v", err)
	}
	err = s.cfg.Container(s.reaper).Restore(dir, s.cfg.PIDFile(), stdio.Stdio, s.cfg.StartTimeout)
	stdio.close()
	if err != nil {
		return wire.Errorf(wire.CodeStartFailed, "the sandbox could not be restored: %s", firstLine(err.Error()))
	}
	if err := s.adopt(m); err != nil {
		return wire.Errorf(wire.CodeStartFailed, "%v", err)
	}
	s.mu.Lock()
	s.record.OnDisk = false
	if s.stopping { // A kill that was due while there was no process 1 had nobody to kill.
		s.timer.Stop()
		s.timer = time.AfterFunc(time.Until(s.deadline), s.kill)
	}
	s.mu.Unlock()
	return s.reconvene(m, token)
}

// firstLine is as much of what a runtime says as people want to read: it may add where in its own code it was.
func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	if text, _, cut := strings.Cut(text, `\n`); cut {
		return text
	}
	return text
}

// reconvene meets an init that comes back, and takes up what went over the connection that it let go of.
func (s *sandbox) reconvene(m *meeting, token string) *wire.Error {
	conn, err := m.awaitToken(s.cfg.StartTimeout, token)
	if err != nil {
		return wire.Errorf(codeNoAnswer, "the init did not come back: %v", err)
	}
	g, err := s.receive(conn)
	if err != nil {
		return wire.Errorf(wire.CodeInternal, "%v", err)
	}
	s.mu.Lock()
	stopping := s.stopping // Whoever asks for a stop from here on tells this init.
	env, dir := s.env, s.dir
	s.mu.Unlock()
	if werr := g.tell(wire.Request{Op: wire.OpSetup, Env: env, Dir: dir}, s.cfg.StartTimeout); werr != nil {
		return werr
	}
	if s.hasMain() {
		for _, stream := range []wire.Stream{wire.Stdout, wire.Stderr} {
			s.copies.Go(func() { s.receiveMain(g, stream) })
		}
		if werr := g.awaitMain(); werr != nil {
			return werr
		}
	}
	if stopping {
		_ = g.tell(wire.Request{Op: wire.OpStop}, askTimeout) // The timer is what counts.
	}
	return nil
}

// awaitMain takes the init's word on how a main process ended that it started over an earlier connection.
func (g *guest) awaitMain() *wire.Error {
	st, err := g.ask(wire.Request{Op: wire.OpAwaitMain})
	if err != nil {
		return wire.Errorf(codeNoAnswer, "the init cannot be reached: %v", err)
	}
	go g.watchMain(st, wire.NewReader(st))
	return nil
}

func within(g *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	go func() { g.Wait(); close(done) }()
	wait(done, limit)
	return isClosed(done)
}
