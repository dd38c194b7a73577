package initd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/bermhq/berm/internal/podguard"
)

// BinaryName is what Install calls the program.
const BinaryName = "berm-shim"

// binaryMode lets everybody execute the program and only its owner read it: what cannot be read cannot be traced from its first
// instruction on, except by who may read everything.
const binaryMode = 0o711

// copyUser is who the copy belongs to. It is nobody's user, so that who is not root in the sandbox cannot read the program.
const copyUser = 65532

// Install copies the program that runs into a directory, from which a container without it starts it. With rules, they hold in this
// network namespace first (package podguard); where that cannot be, nothing is installed, and the pod does not start.
func Install(dir string, rules []string) int {
	err := guard(rules)
	if err == nil {
		err = install(dir)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "berm init: install: %v\n", err)
		return 1
	}
	return 0
}

// guard makes rules hold, and gives up every right that this needed.
func guard(texts []string) error {
	if len(texts) == 0 {
		return nil
	}
	rules, err := podguard.Parse(texts)
	if err != nil {
		return fmt.Errorf("network rules: %w", err)
	}
	around, err := podguard.Look()
	if err != nil {
		return fmt.Errorf("network of the pod: %w", err)
	}
	if err := podguard.Apply(rules, around); err != nil {
		return fmt.Errorf("the network rules cannot be put into this pod, whose runtime or kernel may have none: %w", err)
	}
	return errors.Join(syscall.Setgid(copyUser), syscall.Setuid(copyUser))
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
