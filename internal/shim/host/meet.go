package host

import (
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

// meeting is how shim and init come together: over a pair of sockets of which the init inherits one, or on a socket of the
// host that it dials. That one is in a directory that the sandbox cannot write, takes one connection, the first, which is the
// init's because nothing else runs yet, and is gone then.
type meeting struct {
	pair net.Conn
	// path and listener are of a socket to be dialled.
	path     string
	listener *net.UnixListener
	over     sync.Once
}

// pairUp makes a pair of sockets and returns the init's.
func pairUp() (*meeting, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket to the init: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "init")
	defer ours.Close()
	theirs := os.NewFile(uintptr(fds[1]), "shim")
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return &meeting{pair: conn}, theirs, nil
}

// socketMode lets the runtime's file server connect, which has the ids of the sandbox; who else could is kept out by the
// directories above.
const socketMode = 0o666

// invite makes a socket to be dialled.
func invite(path string) (*meeting, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := listenAt(filepath.Dir(path), filepath.Base(path), socketMode)
	if err != nil {
		return nil, fmt.Errorf("socket for the init: %w", err)
	}
	return &meeting{path: path, listener: l}, nil
}

// await returns the connection once it is there. It fails when nobody comes in time, or nobody can any more.
func (m *meeting) await(timeout time.Duration) (net.Conn, error) {
	if m.pair != nil {
		return wire.Coalesce(m.pair), nil
	}
	defer m.end()
	_ = m.listener.SetDeadline(time.Now().Add(timeout))
	conn, err := m.listener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return wire.Coalesce(conn), nil
}

// Of those who come and claim to be an init that let go.
const (
	// maxClaims is how many are listened to at once, claimTimeout how long.
	maxClaims    = 16
	claimTimeout = 2 * time.Second
)

// awaitToken returns the connection of the first who knows a token. By then the sandbox runs, and any process of it can dial:
// the others are turned away.
func (m *meeting) awaitToken(timeout time.Duration, token string) (net.Conn, error) {
	defer m.end()
	_ = m.listener.SetDeadline(time.Now().Add(timeout))
	known := make(chan net.Conn)
	done := make(chan struct{})
	defer close(done)
	refused := make(chan error, 1)
	go func() {
		slots := make(chan struct{}, maxClaims)
		for {
			conn, err := m.listener.AcceptUnix()
			if err != nil {
				refused <- err
				return
			}
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				if !claims(conn, token) {
					_ = conn.Close()
					return
				}
				select {
				case known <- conn:
				case <-done:
					_ = conn.Close()
				}
			}()
		}
	}()
	select {
	case conn := <-known:
		return wire.Coalesce(conn), nil
	case err := <-refused:
		return nil, err
	}
}

// claims reports whether who dialled knows the token, and tells it so.
func claims(conn net.Conn, token string) bool {
	_ = conn.SetDeadline(time.Now().Add(claimTimeout))
	f, err := wire.NewReader(conn).Read()
	if err != nil || f.Type != wire.TypeRequest {
		return false
	}
	var req wire.Request
	if f.Decode(&req) != nil || req.Op != wire.OpReturn || subtle.ConstantTimeCompare([]byte(req.Token), []byte(token)) != 1 {
		return false
	}
	if wire.Write(conn, wire.TypeOK, nil) != nil {
		return false
	}
	return conn.SetDeadline(time.Time{}) == nil
}

// end closes a socket to be dialled, if it is not closed yet.
func (m *meeting) end() {
	if m.listener == nil {
		return
	}
	m.over.Do(func() {
		_ = m.listener.Close()
		_ = os.Remove(m.path)
	})
}

// receiveMain keeps what the main process prints on one stream, as an init brings it that inherited no pipes for it.
func (s *sandbox) receiveMain(g *guest, stream wire.Stream) {
	st, err := g.ask(wire.Request{Op: wire.OpMainOutput, Stream: stream})
	if err != nil {
		s.logf("output: %v", err)
		return
	}
	defer hangUp(st)
	s.copyMain(stream, &mainOutput{frames: wire.NewReader(st)})
}

// mainOutput reads the content of Data frames up to End, or anything else.
type mainOutput struct {
	frames *wire.Reader
	rest   []byte
}

func (m *mainOutput) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		f, err := m.frames.Read()
		if err != nil {
			return 0, err
		}
		if f.Type != wire.TypeData {
			return 0, io.EOF
		}
		m.rest = f.Payload
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}
