package host

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// askTimeout bounds a request to the init that it should answer at once.
	askTimeout = 5 * time.Second
	// codeNoAnswer marks a connection to the init that broke off.
	codeNoAnswer wire.Code = "NO_ANSWER"
)

// guest is the init as the shim sees it: something that answers requests, perhaps wrongly.
type guest struct {
	session *yamux.Session
	guard   *wire.Guard
	// mainExit is how the main process ended, as the init has it; told is closed when it has said so, or will not any more.
	mainExit atomic.Pointer[wire.Exit]
	told     chan struct{}
	// parted says that the shim hung up, because the sandbox is being saved.
	parted atomic.Bool
}

func newGuest(conn net.Conn) (*guest, error) {
	session, guard, err := wire.Client(conn)
	if err != nil {
		return nil, err
	}
	return &guest{session: session, guard: guard, told: make(chan struct{})}, nil
}

// gone is closed when the init hung up.
func (g *guest) gone() <-chan struct{} { return g.session.CloseChan() }

// flood says that the init flooded its connection, which was ended for it; "" when it did not.
func (g *guest) flood() string {
	if cause := g.guard.Cause(); cause != nil {
		return "something has taken the place of its init: " + cause.Error()
	}
	return ""
}

// ask opens a stream with a request. When the init hung up meanwhile, it may have read the request and answered first: the answer,
// or that there is none, is found by reading.
func (g *guest) ask(req wire.Request) (*yamux.Stream, error) {
	s, err := g.session.OpenStream()
	if err != nil {
		return nil, err
	}
	req.Version = wire.Version
	if err := wire.WriteJSON(s, wire.TypeRequest, req); err != nil && !g.session.IsClosed() {
		hangUp(s)
		return nil, err
	}
	return s, nil
}

// hangUp ends a request: the init stops working on it.
func hangUp(s *yamux.Stream) { _ = s.Close() }

// expect reads one frame of a type.
func expect(r *wire.Reader, t wire.Type) *wire.Error {
	f, err := r.Read()
	switch {
	case err != nil:
		return wire.Errorf(codeNoAnswer, "the init did not answer: %v", err)
	case f.Type == t:
		return nil
	case f.Type == wire.TypeError:
		e := &wire.Error{}
		if err := f.Decode(e); err != nil {
			return wire.Errorf(wire.CodeStartFailed, "the init's answer: %v", err)
		}
		return e
	default:
		return wire.Errorf(wire.CodeStartFailed, "the init answered with a frame of type %d", f.Type)
	}
}

// tell makes a request whose answer is OK.
func (g *guest) tell(req wire.Request, timeout time.Duration) *wire.Error {
	s, err := g.ask(req)
	if err != nil {
		return wire.Errorf(codeNoAnswer, "the init cannot be reached: %v", err)
	}
	defer hangUp(s)
	_ = s.SetDeadline(time.Now().Add(timeout))
	return expect(wire.NewReader(s), wire.TypeOK)
}

// begin tells the init all it needs to know, copies files and starts the main process. Its own deadlines are later than
// the start's, which is the one that should be told.
func (g *guest) begin(cfg *shim.Config) *wire.Error {
	setup := wire.Request{Op: wire.OpSetup, Env: cfg.Env, Dir: cfg.WorkDir}
	if werr := g.tell(setup, cfg.StartTimeout+askTimeout); werr != nil {
		return werr
	}
	for _, f := range cfg.Files {
		if werr := g.putFile(cfg, f); werr != nil {
			return werr
		}
	}
	failpoint.Hit(failBeforeMain)
	if len(cfg.Main) == 0 {
		return nil
	}
	return g.beginMain(cfg)
}

func (g *guest) beginMain(cfg *shim.Config) *wire.Error {
	s, err := g.ask(wire.Request{Op: wire.OpMain, Argv: cfg.Main})
	if err != nil {
		return wire.Errorf(codeNoAnswer, "the init cannot be reached: %v", err)
	}
	r := wire.NewReader(s)
	if werr := expect(r, wire.TypeStarted); werr != nil {
		hangUp(s)
		return werr
	}
	go g.watchMain(s, r)
	return nil
}

// watchMain takes the init's word on how the main process ended.
func (g *guest) watchMain(s *yamux.Stream, r *wire.Reader) {
	defer hangUp(s)
	defer close(g.told)
	f, err := r.Read()
	if err != nil || f.Type != wire.TypeExit {
		return
	}
	var e wire.Exit
	if f.Decode(&e) == nil {
		g.mainExit.Store(&e)
	}
}

// putFile copies one file of the host into the sandbox.
func (g *guest) putFile(cfg *shim.Config, file shim.File) *wire.Error {
	source := file.Source
	if !filepath.IsAbs(source) {
		source = filepath.Join(cfg.Dir, source)
	}
	in, err := os.Open(source)
	if err != nil {
		return wire.Errorf(wire.CodeInternal, "file for %s: %v", file.Path, err)
	}
	defer in.Close()
	s, err := g.ask(wire.Request{Op: wire.OpWriteFile, Path: file.Path, Mode: file.Mode})
	if err != nil {
		return wire.Errorf(codeNoAnswer, "the init cannot be reached: %v", err)
	}
	defer hangUp(s)
	_ = s.SetDeadline(time.Now().Add(cfg.StartTimeout + askTimeout))
	r := wire.NewReader(s)
	if werr := expect(r, wire.TypeOK); werr != nil {
		return werr
	}
	// The answer may come before all is sent, and then nobody reads the rest.
	answer := make(chan *wire.Error, 1)
	go func() {
		answer <- expect(r, wire.TypeOK)
		hangUp(s)
	}()
	if err := send(s, in); err != nil {
		hangUp(s)
		return wire.Errorf(wire.CodeInternal, "file for %s: %v", file.Path, err)
	}
	return <-answer
}

// send sends a file's content and its end. It returns only errors of the source: those of the stream have an answer.
func send(s io.Writer, in io.Reader) error {
	buf := make([]byte, wire.HeaderSize+wire.MaxData)
	for {
		n, err := in.Read(buf[wire.HeaderSize:])
		if n > 0 {
			wire.PutHeader(buf, wire.TypeData, n)
			if _, err := s.Write(buf[:wire.HeaderSize+n]); err != nil {
				return nil //nolint:nilerr // The answer says why.
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = wire.Write(s, wire.TypeEnd, nil)
			return nil
		case err != nil:
			return err
		}
	}
}
