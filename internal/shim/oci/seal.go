package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstProgram is the lowest descriptor of a sealed program: above all that a runtime is given, which a fork puts in place
	// before the program is looked up.
	firstProgram = 64
	// maxProgram is the largest program that is copied into memory, in bytes.
	maxProgram = 64 << 20
	// sealTimeout bounds the first run of a sealed program.
	sealTimeout = 10 * time.Second
	// allSeals are those by which crun and runc know a copy of themselves that nobody can change any more.
	allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
)

// Seal returns a copy of a runtime's program in memory that nobody can change any more, root on the machine included.
//
// crun makes itself one, or a read-only mount, at every single start, and begins anew from that: so that what runs in a container can
// never write to the program on the machine through /proc. Begun from this copy it finds itself sealed, and goes on: one copy serves
// all starts, with the same protection, and a start costs a tenth less.
//
// It fails for a program that does not run so, such as a script.
func Seal(path string) (*os.File, error) {
	f, err := copySealed(path)
	if err != nil {
		return nil, fmt.Errorf("a sealed copy of %s: %w", path, err)
	}
	cmd := exec.Command(ProgramPath(f), "--version") //nolint:gosec,noctx // a runtime that the operator named; it is bounded below
	timer := time.AfterFunc(sealTimeout, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("a sealed copy of %s does not run: %w", path, err), f.Close())
	}
	return f, nil
}

// ProgramPath is where this process, or a child of it up to its exec, finds a program by its descriptor.
func ProgramPath(program *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(program.Fd()))
}

// HoldProgram moves an inherited descriptor of a sealed program to where it can be used, close-on-exec.
func HoldProgram(inherited int) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(inherited), unix.F_DUPFD_CLOEXEC, firstProgram)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), "runtime"), unix.Close(inherited)
}

func copySealed(path string) (program *os.File, err error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	fd, err := executableMemory()
	if err != nil {
		return nil, err
	}
	// Its number is its own from the start: what is in the file is not written through another one.
	if program, err = HoldProgram(fd); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, program.Close())
		}
	}()
	n, err := io.Copy(program, io.LimitReader(src, maxProgram+1))
	if err == nil && n > maxProgram {
		err = fmt.Errorf("more than %d bytes", maxProgram)
	}
	if err != nil {
		return nil, err
	}
	if err := program.Chmod(0o755); err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(program.Fd(), unix.F_ADD_SEALS, allSeals); err != nil {
		return nil, os.NewSyscallError("seal", err)
	}
	return program, nil
}

// executableMemory makes a file in memory that may be executed, which kernels from 6.3 on want to be told.
func executableMemory() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("runtime", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("runtime", flags)
	}
	return fd, os.NewSyscallError("memfd_create", err)
}
