package initd

import (
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bermhq/berm/internal/shim/wire"
)

// A checkpoint saves all of a sandbox but what it holds of the host: so before one, the init ends what goes over its connection,
// hangs up, and dials until a shim answers again. That may be in another sandbox, of another day.
const (
	// letGoTimeout is how long commands and files may take to end.
	letGoTimeout = 5 * time.Second
	// wordTimeout bounds one frame.
	wordTimeout = time.Second
	// redialPause is the pause between two attempts, maxRedials how many there are: a minute of the sandbox's own time, which
	// stands still while it is saved.
	redialPause = 10 * time.Millisecond
	maxRedials  = 6000
)

// talk serves one connection after another, until there is no shim any more.
func (d *daemon) talk(session *yamux.Session) {
	defer close(d.orphaned)
	for {
		for {
			s, err := session.AcceptStream()
			if err != nil {
				break
			}
			d.handle(&stream{Stream: s, frames: wire.NewReader(s)})
		}
		_ = session.Close()
		token := d.token()
		if token == "" {
			return
		}
		var err error
		if session, err = d.contact.again(token); err != nil {
			return
		}
		d.stay()
	}
}

func (d *daemon) token() string {
	d.handlersMu.Lock()
	defer d.handlersMu.Unlock()
	return d.leaving
}

// stay ends the letting go: requests are served again.
func (d *daemon) stay() {
	d.handlersMu.Lock()
	defer d.handlersMu.Unlock()
	d.leaving = ""
}

// enlist and dismiss keep the list of commands that run.
func (d *daemon) enlist(x *execution) {
	d.handlersMu.Lock()
	defer d.handlersMu.Unlock()
	d.commands[x] = struct{}{}
}

func (d *daemon) dismiss(x *execution) {
	d.handlersMu.Lock()
	defer d.handlersMu.Unlock()
	delete(d.commands, x)
}

// letGo ends every command and the bringing of output, and answers when nothing is under way. The shim hangs up then.
func (d *daemon) letGo(s *stream, req wire.Request) {
	if d.contact.dial == "" || req.Token == "" {
		s.fail(wire.Errorf(wire.CodeInvalid, "this init cannot come back"))
		return
	}
	d.handlersMu.Lock()
	if d.ending || d.leaving != "" {
		d.handlersMu.Unlock()
		s.fail(wire.Errorf(wire.CodeNotRunning, "the sandbox is ending"))
		return
	}
	d.leaving = req.Token
	running := slices.Collect(maps.Keys(d.commands))
	d.handlersMu.Unlock()
	for _, x := range running {
		_ = x.stream.SetWriteDeadline(time.Now().Add(wordTimeout)) // Its caller may not be reading.
		x.stream.fail(wire.Errorf(wire.CodeNotRunning, "the sandbox was saved while the command ran: the command was ended"))
		x.kill()
	}
	for _, file := range d.printed {
		_ = file.SetReadDeadline(time.Unix(1, 0))
	}
	if !within(&d.errands, letGoTimeout) {
		d.stay()
		s.fail(wire.Errorf(wire.CodeExhausted, "commands or files of the sandbox did not end within %v", letGoTimeout))
		return
	}
	_ = wire.Write(s, wire.TypeOK, nil)
}

func within(g *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	go func() { g.Wait(); close(done) }()
	wait(done, limit)
	return isClosed(done)
}

// awaitMain tells, over a later connection, how the main process ended.
func (d *daemon) awaitMain(s *stream) {
	<-d.mainOver
	_ = wire.WriteJSON(s, wire.TypeExit, exitOf(d.mainStatus))
	_, _ = s.frames.Read() // as in runMain
}

// again dials until a shim takes the token for that of its own.
func (c Contact) again(token string) (*yamux.Session, error) {
	for range maxRedials {
		time.Sleep(redialPause)
		conn, err := net.Dial("unix", c.dial) //nolint:noctx // nobody could end it
		if err != nil {
			continue
		}
		session, err := back(conn, token)
		if err == nil {
			return session, nil
		}
		_ = conn.Close()
	}
	return nil, errors.New("no shim answers")
}

func back(conn net.Conn, token string) (*yamux.Session, error) {
	if err := wire.WriteJSON(conn, wire.TypeRequest, wire.Request{Version: wire.Version, Op: wire.OpReturn, Token: token}); err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(wordTimeout))
	if f, err := wire.NewReader(conn).Read(); err != nil || f.Type != wire.TypeOK {
		return nil, errors.Join(err, errors.New("the shim does not know the token"))
	}
	_ = conn.SetReadDeadline(time.Time{})
	return yamux.Server(wire.Coalesce(conn), wire.MuxConfig())
}
