package initd

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

// Size of a terminal that nobody gave one.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// openTTY makes a terminal: our end is input and output, theirs is all three descriptors of the process.
func (x *execution) openTTY(req wire.Request) (files spawnFiles, theirs []int, err error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return files, nil, fmt.Errorf("terminal: /dev/ptmx: %w", err)
	}
	slave, err := slaveOf(master)
	if err != nil {
		closeFD(master)
		return files, nil, fmt.Errorf("terminal: %w", err)
	}
	x.tty = os.NewFile(uintptr(master), "/dev/ptmx")
	x.outputs = []*output{{file: x.tty, kind: wire.TypeStdout}}
	x.input = newInput(x.tty, x)
	width, height := req.Width, req.Height
	if width == 0 || height == 0 {
		width, height = defaultWidth, defaultHeight
	}
	x.resize(width, height)
	return spawnFiles{stdin: slave, stdout: slave, stderr: slave, tty: true}, []int{slave}, nil
}

// endsTerminalInput finds out whether the kernel ends a program's input at the character that stands for it. gVisor long did not.
func endsTerminalInput() bool {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return true // There are no terminals at all: whoever wants one is told so.
	}
	defer closeFD(master)
	slave, err := slaveOf(master)
	if err != nil {
		return true
	}
	defer closeFD(slave)
	_ = unix.SetNonblock(slave, true)
	if _, err := unix.Write(master, []byte{endOfFile}); err != nil {
		return true
	}
	n, err := unix.Read(slave, make([]byte, 1))
	return n == 0 && err == nil
}

func slaveOf(master int) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return 0, fmt.Errorf("unlock: %w", err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return 0, fmt.Errorf("number: %w", err)
	}
	path := fmt.Sprintf("/dev/pts/%d", n)
	slave, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return slave, nil
}

// resize sets the terminal's size and so sends SIGWINCH to whoever uses it.
func (x *execution) resize(width, height uint16) {
	if x.tty == nil {
		return
	}
	raw, err := x.tty.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
}
