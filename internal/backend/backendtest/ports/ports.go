// Package ports is what listens in a sandbox while the contract of ports is tried: in the fake as a built-in program, elsewhere as
// the program in cmd.
package ports

import (
	"fmt"
	"io"
	"net"
)

// Flood is how many bytes the mode flood sends.
const Flood = 8 << 20

// Serve answers the connections of a listener until it is closed, each as the mode says:
//
//	echo   sends back what comes, and ends its half when the caller's has ended
//	count  reads until the caller's half ends, and only then says how many bytes came
//	flood  sends Flood bytes, and then reads until the caller's half ends
//	cut    resets the connection at the first byte
func Serve(l net.Listener, mode string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go answer(c.(*net.TCPConn), mode)
	}
}

func answer(c *net.TCPConn, mode string) {
	defer func() { _ = c.Close() }()
	switch mode {
	case "echo":
		_, _ = io.Copy(c, c)
	case "count":
		n, _ := io.Copy(io.Discard, c)
		_, _ = fmt.Fprintf(c, "%d\n", n)
	case "flood":
		_, _ = c.Write(make([]byte, Flood))
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	case "cut":
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	}
}
