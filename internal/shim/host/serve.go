package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/spool"
	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// MaxConns is how many requests that last a shim serves at once: commands, files, output, waiting.
	MaxConns = 1024
	// spareConns is how many others may be there beside them, which are short: whoever has commands running must not keep the sandbox
	// from being stopped.
	spareConns = 64
	// requestTimeout is how long a client may take to say what it wants.
	requestTimeout = 10 * time.Second
	// readBuffer is the read buffer of a connection, in bytes.
	readBuffer = 4 << 10
)

// listen makes the socket. A path in a socket address has 108 bytes, so the directory is named by a descriptor.
func listen(dir string) (*net.UnixListener, error) {
	return listenAt(dir, filepath.Base(shim.SocketFile(dir)), 0o600)
}

func listenAt(dir, name string, mode os.FileMode) (*net.UnixListener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // The name above ends with this function.
	return l, os.Chmod(path, mode)
}

func (s *sandbox) serve(l *net.UnixListener) {
	slots := make(chan struct{}, MaxConns+spareConns)
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			s.logf("accept: %v", err)
			time.Sleep(requestTimeout / 100) // Out of descriptors, most likely.
			continue
		}
		select {
		case slots <- struct{}{}:
			go func() {
				s.answer(&client{UnixConn: c})
				<-slots
			}()
		default:
			(&client{UnixConn: c}).fail(errBusy())
			_ = c.Close()
		}
	}
}

// client is one connection of the server.
type client struct {
	*net.UnixConn
	frames *wire.Reader
}

func (c *client) fail(e *wire.Error) { _ = wire.WriteJSON(c, wire.TypeError, e) }

func (c *client) hangUp() { _ = c.Close() }

func (c *client) ok(v any) { _ = wire.WriteJSON(c, wire.TypeOK, v) }

// gone returns a channel that is closed when the client hangs up. Nothing else may read from it then.
func (c *client) gone() <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, c.UnixConn)
		close(gone)
	}()
	return gone
}

// answer serves one connection.
func (s *sandbox) answer(c *client) {
	defer c.hangUp()
	if err := samePeer(c.UnixConn); err != nil {
		s.logf("%v", err)
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(requestTimeout))
	c.frames = wire.NewReader(bufio.NewReaderSize(c.UnixConn, readBuffer))
	f, err := c.frames.Read()
	if err != nil {
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	var req wire.Request
	if err := f.Decode(&req); err != nil || f.Type != wire.TypeRequest {
		c.fail(wire.Errorf(wire.CodeInvalid, "the first frame is no request"))
		return
	}
	if req.Version != wire.Version {
		c.fail(wire.Errorf(wire.CodeInvalid, "protocol version %d, this shim knows %d", req.Version, wire.Version))
		return
	}
	s.dispatch(c, req)
}

// samePeer refuses other users, should the directory's permission ever be wrong.
func samePeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return errors.Join(err, credErr)
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("connection of user %d refused", cred.Uid)
	}
	return nil
}

// lasts reports whether a request may go on for as long as who made it likes.
func lasts(op wire.Op) bool {
	switch op {
	case wire.OpInfo, wire.OpStop, wire.OpSignal, wire.OpStats, wire.OpForget, wire.OpBegin, wire.OpPause, wire.OpResume, wire.OpSuspend, wire.OpCheckpoint:
		return false
	default:
		return true
	}
}

func errBusy() *wire.Error {
	return wire.Errorf(wire.CodeExhausted, "the sandbox serves %d requests already", MaxConns)
}

func (s *sandbox) dispatch(c *client, req wire.Request) {
	if lasts(req.Op) {
		select {
		case s.lasting <- struct{}{}:
			defer func() { <-s.lasting }()
		default:
			c.fail(errBusy())
			return
		}
	}
	switch req.Op {
	case wire.OpExec, wire.OpReadFile, wire.OpWriteFile, wire.OpReadArchive, wire.OpWriteArchive, wire.OpReadFrom, wire.OpWriteFrom, wire.OpFileState, wire.OpDial,
		wire.OpExecCreate, wire.OpExecList, wire.OpExecAttach, wire.OpExecSignal, wire.OpExecResize, wire.OpExecDelete:
		s.relay(c, req)
	case wire.OpCheckpoint:
		s.answerPause(c, func() *wire.Error { return s.checkpoint(req.Path, req.Disk) })
	case wire.OpSuspend:
		s.answerPause(c, s.suspend)
	case wire.OpInfo:
		s.pausing.Lock() // Whoever asks must not miss a pause that is under way.
		s.mu.Lock()
		r := s.record
		s.mu.Unlock()
		s.pausing.Unlock()
		c.ok(r)
	case wire.OpWait:
		if s.await(c, s.ended) {
			c.ok(s.exit)
		}
	case wire.OpStop:
		s.requestStop(req.Grace)
		c.ok(nil)
	case wire.OpSignal:
		s.signalMain(c, req)
	case wire.OpStats:
		s.stats(c)
	case wire.OpOutput:
		s.sendOutput(c, req)
	case wire.OpForget:
		s.forget(c)
	case wire.OpBegin:
		s.answerBegin(c, req.Env)
	case wire.OpPause:
		s.answerPause(c, s.pause)
	case wire.OpResume:
		s.answerPause(c, s.resume)
	default:
		c.fail(wire.UnknownOperation(req.Op))
	}
}

// await waits for an event, or for the client to lose interest.
func (s *sandbox) await(c *client, event <-chan struct{}) bool {
	if isClosed(event) {
		return true
	}
	select {
	case <-event:
		return true
	case <-c.gone():
		return false
	}
}

func (s *sandbox) signalMain(c *client, req wire.Request) {
	switch {
	case req.Signal < 1 || req.Signal > 64:
		c.fail(wire.Errorf(wire.CodeInvalid, "signal %d: there are 1 to 64", req.Signal))
	case !isClosed(s.running) || isClosed(s.ended):
		c.fail(wire.Errorf(wire.CodeNotRunning, "the sandbox is not running"))
	case s.paused():
		c.fail(errPaused())
	default:
		if werr := s.inside().tell(req, askTimeout); werr != nil {
			c.fail(wire.Errorf(wire.CodeInternal, "%s", werr.Message))
			return
		}
		c.ok(nil)
	}
}

func (s *sandbox) stats(c *client) {
	if isClosed(s.ended) {
		c.fail(wire.Errorf(wire.CodeNotRunning, "the sandbox has ended"))
		return
	}
	if s.onDisk() { // It has no control group either.
		c.fail(errPaused())
		return
	}
	st, err := s.cfg.Cgroup.Stats()
	if err != nil {
		c.fail(wire.Errorf(wire.CodeInternal, "control group: %v", err))
		return
	}
	printed, _ := s.spool.Offset()
	c.ok(shim.Stats{Stats: st, OutputBytes: printed})
}

func (s *sandbox) forget(c *client) {
	if !isClosed(s.ended) {
		c.fail(wire.Errorf(wire.CodeInvalid, "the sandbox has not ended"))
		return
	}
	if !s.await(c, s.removed) {
		return
	}
	s.closeSocket()
	c.ok(nil)
	s.forgetOnce.Do(func() { close(s.forgotten) })
}

// sendOutput sends what the main process printed.
func (s *sandbox) sendOutput(c *client, req wire.Request) {
	total, _ := s.spool.Offset()
	if req.Offset > total {
		c.fail(wire.Errorf(wire.CodeInvalid, "offset %d: %d bytes were printed so far", req.Offset, total))
		return
	}
	r, err := spool.Open(shim.OutputDir(s.cfg.Dir), req.Offset)
	if err != nil {
		c.fail(outputError(err))
		return
	}
	defer func() { _ = r.Close() }()
	s.mu.Lock()
	session := s.record.Session
	s.mu.Unlock()
	c.ok(wire.OutputInfo{Session: session, End: total})
	if werr := s.follow(c, r, req.Follow); werr != nil {
		c.fail(werr)
		return
	}
	_ = wire.Write(c, wire.TypeEnd, nil)
}

func (s *sandbox) follow(c *client, r *spool.Reader, follow bool) *wire.Error {
	gone := c.gone()
	var buf []byte
	for {
		changed, closed := s.spool.Changed(), s.spool.Closed() // Before the read, or the last piece could be missed.
		total, _ := s.spool.Offset()
		o, err := r.Next()
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF):
			return outputError(err)
		case closed || !follow:
			if total > r.Offset() { // What was printed last is missing: a piece without data says so.
				_ = writeOutput(c, &buf, wire.Output{Offset: total, Time: time.Now(), Stream: wire.Stdout})
			}
			return nil
		default:
			select {
			case <-changed:
				continue
			case <-gone:
				return nil
			}
		}
		if err := writeOutput(c, &buf, o); err != nil {
			return nil //nolint:nilerr // The client is gone.
		}
	}
}

func writeOutput(c *client, buf *[]byte, o wire.Output) error {
	b := wire.AppendOutput(wire.Append((*buf)[:0], wire.TypeOutput, nil), o)
	wire.PutHeader(b, wire.TypeOutput, len(b)-wire.HeaderSize)
	*buf = b
	_, err := c.Write(b)
	return err
}

func outputError(err error) *wire.Error {
	if errors.Is(err, spool.ErrGap) {
		return wire.Errorf(wire.CodeGap, "%v", err)
	}
	return wire.Errorf(wire.CodeInternal, "output: %v", err)
}
