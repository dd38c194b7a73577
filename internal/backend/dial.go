package backend

import "io"

// Conn is a TCP connection to a port inside a sandbox. Its methods may be used from different goroutines: reading and writing do not
// wait for one another.
type Conn interface {
	// Read returns io.EOF only when the program in the sandbox has ended its half; a connection that was cut is another error.
	io.Reader
	// Write waits while the program does not read. Nothing is kept without a bound.
	io.Writer
	// CloseWrite ends the caller's half. What the program still sends is read on.
	CloseWrite() error
	// Close ends the connection: in order when both halves have ended, else by cutting it.
	io.Closer
}
