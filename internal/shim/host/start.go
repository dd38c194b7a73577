package host

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/oci"
	"github.com/bermhq/berm/internal/shim/wire"
)

// lastWords is how long an answer of the init may still be on its way when process 1 is gone already.
const lastWords = time.Second

// start runs the container and its main process, or restores both. How process 1 ends comes over s.finales.
func (s *sandbox) start(prior error) *wire.Error {
	if prior != nil {
		return wire.Errorf(wire.CodeInternal, "%v", prior)
	}
	if s.cfg.Restore != "" {
		return s.startRestored()
	}
	users, err := s.makeUsers()
	if err != nil {
		return wire.Errorf(wire.CodeInternal, "%v", err)
	}
	stdio, m, err := s.plumb()
	if err != nil {
		return wire.Errorf(wire.CodeInternal, "%v", errors.Join(err, users.leave()))
	}
	defer m.end()
	// The init answers before the runtime is done: both are awaited, side by side.
	answer := make(chan *wire.Error, 1)
	go func() { answer <- s.converse(m) }()
	failpoint.Hit(failBeforeRun)
	container := s.cfg.Container(s.reaper)
	container.Network = s.cfg.Network
	err = container.Run(s.cfg.PIDFile(), stdio.Stdio, s.cfg.StartTimeout)
	stdio.close()
	if leaveErr := users.leave(); leaveErr != nil { // Nobody can use it: it is in a directory of root's, and goes with it.
		s.logf("the user namespace that the runtime was shown: %v", leaveErr)
	}
	failpoint.Hit(failAfterRun)
	if err != nil {
		return wire.Errorf(wire.CodeStartFailed, "%v%s", err, s.lastWords())
	}
	if err := s.adopt(m); err != nil {
		return wire.Errorf(wire.CodeStartFailed, "%v", err)
	}
	if werr := s.awaitBegin(answer); werr != nil {
		return werr
	}
	if s.cfg.Prepared {
		if err := s.markPrepared(); err != nil {
			return wire.Errorf(wire.CodeInternal, "record that the sandbox is prepared: %v", err)
		}
		return nil
	}
	if err := s.markRunning(); err != nil {
		return wire.Errorf(wire.CodeInternal, "record that the sandbox runs: %v", err)
	}
	return nil
}

// startRestored begins as another sandbox was when it was saved.
func (s *sandbox) startRestored() *wire.Error {
	c, err := shim.ReadCheckpoint(s.cfg.Restore)
	if err != nil || c == nil {
		return wire.Errorf(wire.CodeStartFailed, "there is no saved sandbox in %s: %v", s.cfg.Restore, err)
	}
	failpoint.Hit(failBeforeRestore)
	if werr := s.restore(s.cfg.Restore, c.Token); werr != nil {
		return wire.Errorf(wire.CodeStartFailed, "%s", werr.Message)
	}
	failpoint.Hit(failAfterRestore)
	if err := s.markRunning(); err != nil {
		return wire.Errorf(wire.CodeInternal, "record that the sandbox runs: %v", err)
	}
	return nil
}

// converse meets the init, tells it all it needs to know and starts the main process.
func (s *sandbox) converse(m *meeting) *wire.Error {
	conn, err := m.await(s.cfg.StartTimeout + askTimeout)
	if err != nil {
		return wire.Errorf(codeNoAnswer, "the init did not come: %v", err)
	}
	g, err := s.receive(conn)
	if err != nil {
		return wire.Errorf(wire.CodeInternal, "%v", err)
	}
	s.receiveOutput(g, s.cfg.Main)
	return g.begin(s.cfg)
}

// receiveOutput begins to take the output of a main process that is about to start, from an init that inherited no pipes for it.
func (s *sandbox) receiveOutput(g *guest, main []string) {
	if !s.cfg.RuntimeKind.Dials() || len(main) == 0 {
		return
	}
	for _, stream := range []wire.Stream{wire.Stdout, wire.Stderr} {
		s.copies.Go(func() { s.receiveMain(g, stream) })
	}
}

// receive makes the init at the other end of a connection the sandbox's. One that floods it ends the sandbox.
func (s *sandbox) receive(conn net.Conn) (*guest, error) {
	g, err := newGuest(conn)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.guest = g
	s.mu.Unlock()
	go func() {
		<-g.gone()
		if why := g.flood(); why != "" {
			s.logf("%s: ending the sandbox", why)
			s.killNow(why)
		}
	}()
	return g, nil
}

// inside returns the init, nil until shim and init have met, which they have in a sandbox that runs.
func (s *sandbox) inside() *guest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.guest
}

// plumbing is what the container is born with; close gives up our copies.
type plumbing struct {
	oci.Stdio
}

func (p *plumbing) close() {
	for _, f := range []*os.File{p.Console, p.Socket, p.Stdout, p.Stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// plumb makes where shim and init meet and the pipes for output, and starts to read those.
func (s *sandbox) plumb() (p *plumbing, m *meeting, err error) {
	if p, err = s.console(s.startup); err != nil {
		return nil, nil, err
	}
	type output struct {
		end  **os.File
		read func(io.Reader)
	}
	var outputs []output
	if s.cfg.RuntimeKind.Dials() {
		m, err = invite(s.cfg.Meet)
	} else {
		m, p.Socket, err = pairUp()
		outputs = append(outputs,
			output{&p.Stdout, func(f io.Reader) { s.copyMain(wire.Stdout, f) }}, output{&p.Stderr, func(f io.Reader) { s.copyMain(wire.Stderr, f) }})
	}
	if err != nil {
		return nil, nil, err
	}
	for _, o := range outputs {
		r, w, err := s.pipe()
		if err != nil {
			return nil, nil, err
		}
		*o.end = w
		s.copies.Go(func() {
			defer r.Close()
			o.read(r)
		})
	}
	return p, m, nil
}

// console makes the pipe for what the runtime and process 1 say, and starts to read it.
func (s *sandbox) console(said *words) (*plumbing, error) {
	r, w, err := s.pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer r.Close()
		said.read(r)
	}()
	return &plumbing{oci.Stdio{Hold: s.lock, Console: w}}, nil
}

// pipe returns a pipe that process 1 can open: so that processes inside can open /dev/stdout, for one.
func (s *sandbox) pipe() (r, w *os.File, err error) {
	owner, err := s.owner()
	if err != nil {
		return nil, nil, err
	}
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	if err := w.Chown(owner.UID, owner.GID); err != nil {
		return nil, nil, errors.Join(err, r.Close(), w.Close())
	}
	return r, w, nil
}

// owner is who process 1 is on the host.
func (s *sandbox) owner() (oci.Identity, error) {
	if s.cfg.Owner != nil {
		return *s.cfg.Owner, nil
	}
	return oci.Owner(s.cfg.Bundle)
}

// adopt learns who process 1 is. Once it has ended, no init comes any more.
func (s *sandbox) adopt(m *meeting) error {
	b, err := os.ReadFile(s.cfg.PIDFile())
	if err != nil {
		return fmt.Errorf("the runtime left no pid: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("the runtime's pid file says %q", b)
	}
	start, err := shim.StartTime(pid)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	go func(done <-chan syscall.WaitStatus) {
		ws := <-done
		m.end()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.leaving {
			s.left <- ws
		} else {
			s.finales <- finale{status: ws}
		}
	}(s.reaper.Adopt(pid))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid, s.record.PID, s.record.PIDStart = pid, pid, start
	if s.doomed {
		s.destroy()
	}
	return nil
}

// awaitBegin waits for the init to have started the main process.
func (s *sandbox) awaitBegin(answer <-chan *wire.Error) *wire.Error {
	timer := time.NewTimer(s.cfg.StartTimeout)
	defer timer.Stop()
	select {
	case werr := <-answer:
		return s.startError(werr)
	case <-s.stop:
		return wire.Errorf(wire.CodeNotRunning, "the sandbox was stopped before it had started")
	case <-timer.C:
		return wire.Errorf(wire.CodeStartFailed, "the init did not start the main process within %v%s", s.cfg.StartTimeout, s.startup.tail())
	case <-s.hungUp():
	}
	// The init hung up. It may have done all it should have first, and ended with a short main process.
	select {
	case werr := <-answer:
		return s.startError(werr)
	case <-time.After(lastWords):
		if why := s.inside().flood(); why != "" {
			return wire.Errorf(wire.CodeStartFailed, "%s", why)
		}
		return wire.Errorf(wire.CodeStartFailed, "the init hung up%s", s.startup.tail())
	}
}

// hungUp returns a channel that is closed when the init hung up; one that never is while they have not met.
func (s *sandbox) hungUp() <-chan struct{} {
	if g := s.inside(); g != nil {
		return g.gone()
	}
	return nil
}

// startError says more about a conversation with the init that broke off.
func (s *sandbox) startError(werr *wire.Error) *wire.Error {
	if werr == nil || werr.Code != codeNoAnswer {
		return werr
	}
	if g := s.inside(); g != nil && g.flood() != "" {
		return wire.Errorf(wire.CodeStartFailed, "%s", g.flood())
	}
	return wire.Errorf(wire.CodeStartFailed, "the init ended before it could start the main process%s", s.lastWords())
}

// lastWords returns what the runtime and the init said before one of them failed, for the end of a message.
func (s *sandbox) lastWords() string {
	wait(s.startup.ended, lastWords) // They may still be on their way.
	var said []string
	for line := range strings.Lines(s.cfg.RuntimeLog() + "\n" + s.startup.tail()) {
		said = addLine(said, line)
	}
	if len(said) == 0 {
		return ""
	}
	return ": " + strings.Join(said, "; ")
}

// addLine adds a line without a logger's decoration, unless it was said already: runtimes log what they also print.
func addLine(said []string, line string) []string {
	line = strings.Trim(line, ": \n")
	if _, msg, ok := strings.Cut(line, ` msg=`); ok {
		line = msg
		if text, err := strconv.Unquote(msg); err == nil {
			line = text
		}
	}
	if line == "" || slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, line) }) {
		return said
	}
	return append(said, line)
}

func (s *sandbox) markRunning() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.Phase, s.record.StartedAt = shim.PhaseRunning, time.Now().UTC()
	if s.stopping {
		s.record.Phase = shim.PhaseStopping
	}
	failpoint.Hit(failBeforeRunning)
	if err := shim.WriteRecord(s.cfg.Dir, s.record); err != nil {
		return err
	}
	failpoint.Hit(failAfterRunning)
	close(s.running)
	if s.stopping {
		s.ask() // A stop that came while there was nobody to ask.
	}
	return nil
}
