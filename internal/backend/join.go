package backend

import (
	"errors"
	"io"
)

// Messages is the other side of a connection whose bytes travel in messages.
type Messages struct {
	// Recv returns what came, and whether the half ends behind it. An error says that nothing more comes.
	Recv func() (data []byte, end bool, err error)
	// Send sends a piece of at most MaxExecChunk bytes, which is not kept.
	Send func(data []byte) error
	// End says that nothing more is sent.
	End func() error
}

// Join copies between a connection and messages until both halves have ended, which is no error. When messages can no longer be
// received before their half has ended, the connection is closed, and what happened is the error. It returns while Recv may still
// wait when the connection itself fails: the caller ends the messages then.
func Join(c Conn, m Messages) error {
	up := make(chan error, 1)
	go func() {
		err := receive(c, m)
		up <- err
		if err != nil {
			_ = c.Close() // Ends a read that waits for the program.
		}
	}()
	err := sendAll(c, m)
	if err == nil {
		return <-up
	}
	select {
	case first := <-up:
		if first != nil {
			return first
		}
	default:
	}
	return err
}

func receive(c Conn, m Messages) error {
	for {
		data, end, err := m.Recv()
		if err != nil {
			return err
		}
		if _, err := c.Write(data); err != nil {
			return err
		}
		if end {
			return c.CloseWrite()
		}
	}
}

func sendAll(c Conn, m Messages) error {
	buf := make([]byte, MaxExecChunk)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if err := m.Send(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return m.End()
		}
		if err != nil {
			return err
		}
	}
}
