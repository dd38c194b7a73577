package initd

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

// Contact is how the init finds its shim: by descriptors that it was born with, or, under a runtime that passes none on, by a
// socket that it dials. Nothing else runs in the sandbox before it has.
type Contact struct {
	fd   int
	dial string
}

// Inherited is a connection that the init was born with; its descriptors for the main process's output are 4 and 5.
func Inherited(fd int) Contact { return Contact{fd: fd} }

// Dialled is a socket to dial.
func Dialled(path string) Contact { return Contact{dial: path} }

// String names it for messages.
func (c Contact) String() string {
	if c.dial != "" {
		return "socket " + c.dial
	}
	return fmt.Sprintf("descriptor %d", c.fd)
}

// inherited lists the descriptors that the init was born with and keeps.
func (c Contact) inherited() []int {
	if c.dial != "" {
		return nil
	}
	return []int{c.fd, mainStdout, mainStderr}
}

func (c Contact) connect() (net.Conn, error) {
	if c.dial != "" {
		conn, err := net.Dial("unix", c.dial) //nolint:noctx // it is there, or never will be
		if err != nil {
			return nil, err
		}
		return wire.Coalesce(conn), nil
	}
	f := os.NewFile(uintptr(c.fd), "shim")
	if f == nil {
		return nil, os.ErrInvalid
	}
	defer f.Close()
	conn, err := net.FileConn(f) // Its own copy, close-on-exec.
	if err != nil {
		return nil, err
	}
	return wire.Coalesce(conn), nil
}

// openMain makes ready where the main process prints to.
func (d *daemon) openMain(c Contact) error {
	if c.dial == "" {
		d.mainFiles = [2]int{mainStdout, mainStderr}
		return nil
	}
	d.printed = map[wire.Stream]*os.File{}
	for i, stream := range []wire.Stream{wire.Stdout, wire.Stderr} {
		ours, theirs, err := pipe(true)
		if err != nil {
			return fmt.Errorf("pipe for output: %w", err)
		}
		d.printed[stream], d.mainFiles[i] = ours, theirs
	}
	return nil
}

// mayRead takes back the deadline that an earlier letting go has set, unless the init lets go again: that one must not be lost. Who may
// read is waited for by the next, until bringing is done.
func (d *daemon) mayRead(file *os.File) bool {
	d.handlersMu.Lock()
	defer d.handlersMu.Unlock()
	if d.leaving != "" || file.SetReadDeadline(time.Time{}) != nil {
		return false
	}
	d.bringing.add()
	return true
}

// sendMain sends what the main process prints on one stream, to its end.
func (d *daemon) sendMain(s *stream, req wire.Request) {
	file := d.printed[req.Stream]
	if file == nil {
		s.fail(wire.Errorf(wire.CodeInvalid, "stream %d: this init has no output to bring", req.Stream))
		return
	}
	if !d.mayRead(file) {
		_ = wire.Write(s, wire.TypeEnd, nil)
		return
	}
	defer d.bringing.done()
	s.over() // It ends when all else has, and not before that is sure.
	buf := make([]byte, wire.HeaderSize+wire.MaxChunk)
	for {
		n, err := file.Read(buf[wire.HeaderSize:])
		if n > 0 {
			wire.PutHeader(buf, wire.TypeData, n)
			if _, err := s.Write(buf[:wire.HeaderSize+n]); err != nil {
				return
			}
		}
		if err != nil { // The end, or that the init lets go: what is printed from then on waits for the next to ask.
			_ = wire.Write(s, wire.TypeEnd, nil)
			return
		}
	}
}
