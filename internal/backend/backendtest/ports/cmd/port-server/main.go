// Command port-server listens as its arguments say, MODE ADDRESS and so on, says that it does, and serves until it is killed.
package main

import (
	"fmt"
	"net"
	"os"

	"github.com/bermhq/berm/internal/backend/backendtest/ports"
)

func main() {
	args := os.Args[1:]
	for ; len(args) >= 2; args = args[2:] {
		l, err := net.Listen("tcp", args[1]) //nolint:noctx // for as long as the program lives
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return // Without the word that the tests wait for.
		}
		go ports.Serve(l, args[0])
	}
	fmt.Fprintln(os.Stdout, "ready")
	select {}
}
