package initd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// BinaryName is what Install calls the program.
const BinaryName = "berm-shim"

// binaryMode lets everybody execute the program and only its owner read it: what cannot be read cannot be traced from its first
// instruction on, except by who may read everything.
const binaryMode = 0o711

// Install copies the program that runs into a directory, from which a container without it starts it.
func Install(dir string) int {
	if err := install(dir); err != nil {
		fmt.Fprintf(os.Stderr, "berm init: install: %v\n", err)
		return 1
	}
	return 0
}

func install(dir string) error {
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer in.Close()
	temp := filepath.Join(dir, "."+BinaryName)
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := os.Chmod(temp, binaryMode); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(dir, BinaryName))
}

// Connect joins its standard input and output with the socket of an init: it is how the runner gets there. It understands nothing
// of what passes, and who could listen to it would not either.
func Connect(socket string) int {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	conn, err := net.Dial("unix", socket) //nolint:noctx // it answers or is not there
	if err != nil {
		fmt.Fprintf(os.Stderr, "berm init: connect: %v\n", err)
		return 1
	}
	over := make(chan error, 2)
	go func() { _, err := io.Copy(conn, os.Stdin); over <- err }()
	go func() { _, err := io.Copy(os.Stdout, conn); over <- err }()
	if err := <-over; err != nil {
		return 1
	}
	return 0
}
