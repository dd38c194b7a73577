// Command attacker does inside a sandbox what a hostile process would do. Each attack that works is a line on its output;
// silence is good.
package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	switch attack := strings.Join(os.Args[1:2], ""); attack {
	case "trace":
		trace()
	case "limits":
		limits()
	case "signals":
		signals()
	case "descriptors":
		descriptors()
	case "sockets":
		sockets()
	default:
		fakeInit(attack)
	}
}

func worked(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// trace tries every way into process 1.
func trace() {
	if err := syscall.PtraceAttach(1); err == nil {
		worked("ptrace attach")
	}
	if _, _, e := syscall.Syscall6(syscall.SYS_PTRACE, unix.PTRACE_SEIZE, 1, 0, 0, 0, 0); e == 0 {
		worked("ptrace seize")
	}
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0], Len: 8}}
	for _, at := range []uintptr{0x400000, 0xc000000000} {
		remote := []unix.RemoteIovec{{Base: at, Len: 8}}
		if _, err := unix.ProcessVMReadv(1, local, remote, 0); err == nil {
			worked("process_vm_readv")
		}
		if _, err := unix.ProcessVMWritev(1, local, remote, 0); err == nil {
			worked("process_vm_writev")
		}
	}
	if p, err := unix.PidfdOpen(1, 0); err == nil {
		for fd := range 8 {
			if _, err := unix.PidfdGetfd(p, fd, 0); err == nil {
				worked("pidfd_getfd %d", fd)
			}
		}
	}
	procFiles()
	writeProc()
	if f, err := os.Open("/.berm/init"); err == nil {
		worked("read the init's program")
		f.Close()
	}
}

// procFiles tries what /proc shows of process 1 and of its threads.
func procFiles() {
	for _, root := range []string{"/proc/1", "/proc/1/task/1"} {
		for _, name := range []string{"mem", "maps", "environ", "auxv", "stack", "syscall", "io", "personality", "pagemap"} {
			for _, flags := range []int{os.O_RDONLY, os.O_WRONLY} {
				f, err := os.OpenFile(filepath.Join(root, name), flags, 0)
				if err != nil {
					continue
				}
				if n, err := f.Read(make([]byte, 16)); n > 0 && err == nil {
					worked("read %s/%s", root, name)
				}
				if n, err := f.WriteAt([]byte("x"), 0xc000000000); n > 0 && err == nil {
					worked("write %s/%s", root, name)
				}
				f.Close()
			}
		}
		for _, name := range []string{"root", "cwd", "exe"} {
			if target, err := os.Readlink(filepath.Join(root, name)); err == nil {
				worked("link %s/%s is %s", root, name, target)
			}
		}
		for _, dir := range []string{"fd", "fdinfo", "map_files"} {
			if entries, err := os.ReadDir(filepath.Join(root, dir)); err == nil && len(entries) > 0 {
				worked("list %s/%s: %d", root, dir, len(entries))
			}
		}
		for fd := range 8 {
			if _, err := os.OpenFile(fmt.Sprintf("%s/fd/%d", root, fd), os.O_RDWR, 0); err == nil {
				worked("open %s/fd/%d", root, fd)
			}
		}
	}
}

// writeProc tries to change what process 1 may do, or looks like.
func writeProc() {
	for _, name := range []string{"oom_score_adj", "coredump_filter", "comm", "timerslack_ns", "uid_map", "setgroups"} {
		if err := os.WriteFile("/proc/1/"+name, []byte("1"), 0); err == nil {
			worked("write /proc/1/%s", name)
		}
	}
}

// limits takes from process 1 what the same user may take.
func limits() {
	for _, resource := range []int{unix.RLIMIT_NOFILE, unix.RLIMIT_NPROC, unix.RLIMIT_FSIZE, unix.RLIMIT_CORE, unix.RLIMIT_STACK} {
		_ = unix.Prlimit(1, resource, &unix.Rlimit{Cur: 1, Max: 1}, nil)
	}
}

// signals sends process 1 every signal, with every call that can.
func signals() {
	for s := 1; s <= 64; s++ {
		_ = syscall.Kill(1, syscall.Signal(s))
		_ = unix.Tgkill(1, 1, syscall.Signal(s))
		if p, err := unix.PidfdOpen(1, 0); err == nil {
			_ = unix.PidfdSendSignal(p, syscall.Signal(s), nil, 0)
			_ = unix.Close(p)
		}
	}
	fmt.Println("sent")
}

// descriptors lists what this process was born with besides its three.
func descriptors() {
	for fd := 3; fd < 256; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		// The Go runtime's own.
		if l, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(l, "anon_inode:") {
			continue
		}
		worked("descriptor %d", fd)
	}
}

// sockets looks for anything that listens.
func sockets() {
	data, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		fmt.Println(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if i > 0 {
			worked("unix socket %s", line)
		}
	}
	for _, name := range []string{"@shim", "@berm", "/shim.sock", "/run/berm.sock", "/.berm/shim.sock"} {
		if c, err := net.Dial("unix", name); err == nil {
			worked("connected to %s", name)
			c.Close()
		}
	}
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6"} {
		data, _ := os.ReadFile("/proc/net/" + name)
		if n := strings.Count(string(data), "\n"); n > 1 {
			worked("%d sockets in /proc/net/%s", n-1, name)
		}
	}
}
