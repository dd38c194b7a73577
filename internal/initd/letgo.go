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
	// letGoTimeout is how long commands and files may take to end. The shim waits longer than that and wordTimeout.
	letGoTimeout = 5 * time.Second
	// wordTimeout bounds one frame, and what is left to bring of the output.
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

// saveable is what is ended so that a sandbox can be saved.
type saveable interface{ endSaved() }

// enlist and dismiss keep the list of commands that run. A command that was just being started when the init lets go is not on it: its
// caller is told false, and ends it.
func (d *daemon) enlist(x saveable) (stays bool) {
	d.handlersMu.Lock()
	defer d.handlersMu.Unlock()
	if d.leaving != "" {
		return false
	}
	d.commands[x] = struct{}{}
	return true
}

func (d *daemon) dismiss(x saveable) {
	d.handlersMu.Lock()
	defer d.handlersMu.Unlock()
	delete(d.commands, x)
}

// letGo ends every command and then the bringing of output, and answers when nothing is under way. The shim hangs up then. Whatever
// does not end keeps the init where it is: then output is brought as before, and commands can be run again.
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
	gone := make(chan struct{})
	go func() { _, _ = s.frames.Read(); close(gone) }()
	for _, x := range running {
		go x.endSaved() // Side by side: each caller may be one who does not read.
	}
	if !d.errands.within(letGoTimeout) {
		d.stay()
		s.fail(wire.Errorf(wire.CodeExhausted, "commands or files of the sandbox did not end within %v", letGoTimeout))
		return
	}
	if isClosed(gone) { // It took too long for who asked: nobody would hang up.
		d.stay()
		return
	}
	d.interrupt(time.Unix(1, 0))
	if !d.bringing.within(wordTimeout) {
		d.interrupt(time.Time{})
		d.stay()
		s.fail(wire.Errorf(wire.CodeExhausted, "what the main process printed could not be brought within %v", wordTimeout))
		return
	}
	_ = wire.Write(s, wire.TypeOK, nil)
}

// interrupt sets until when output is waited for.
func (d *daemon) interrupt(at time.Time) {
	for _, file := range d.printed {
		_ = file.SetReadDeadline(at)
	}
}

// endSaved ends a command because the sandbox is being saved.
func (x *streamed) endSaved() {
	_ = x.stream.SetWriteDeadline(time.Now().Add(wordTimeout)) // Its caller may not be reading.
	x.stream.fail(wire.Errorf(wire.CodeNotRunning, "the sandbox was saved while the command ran: the command was ended"))
	x.kill()
}

// tally counts what is under way. It may be counted up while somebody waits for none, which a sync.WaitGroup forbids.
type tally struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when there is none; nil while nobody waits
}

func (t *tally) add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
}

func (t *tally) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n == 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
}

// within reports whether there was a moment without any in time.
func (t *tally) within(limit time.Duration) bool {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return true
	}
	if t.none == nil {
		t.none = make(chan struct{})
	}
	none := t.none
	t.mu.Unlock()
	wait(none, limit)
	return isClosed(none)
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
