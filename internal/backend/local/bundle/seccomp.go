package bundle

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Flags of clone that make namespaces. A sandbox makes none: each is kernel code that a sandbox has no need to reach.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

// seccomp returns the system call filter. What is not listed does not exist (ENOSYS), so that programs fall back to older
// calls as on an old kernel; what is known and refused says so (EPERM). Other architectures than the machine's have no
// entry: their calls end the process.
func seccomp(ownKernel bool) *specs.LinuxSeccomp {
	if ownKernel {
		return ownKernelFilter()
	}
	enosys, eperm, eafnosupport := uint(unix.ENOSYS), uint(unix.EPERM), uint(unix.EAFNOSUPPORT)
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &enosys}
	s.Syscalls = append(s.Syscalls,
		specs.LinuxSyscall{Names: allowed(), Action: specs.ActAllow},
		specs.LinuxSyscall{Names: refused(), Action: specs.ActErrno, ErrnoRet: &eperm},
		// clone3 passes its flags in memory, where a filter cannot look; without it libraries use clone. It is in no list, so ENOSYS.
		specs.LinuxSyscall{Names: []string{"clone"}, Action: specs.ActAllow, Args: first(namespaceFlags, specs.OpMaskedEqual)},
	)
	// Sockets are allowed by family. A network namespace does not hold AF_VSOCK, which reaches the hypervisor, and the rest is
	// kernel code nobody here needs (AF_ALG, AF_PACKET, …).
	for _, family := range []uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK} {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActAllow, Args: first(family, specs.OpEqualTo)})
	}
	s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{
		Names: []string{"socket"}, Action: specs.ActErrno, ErrnoRet: &eafnosupport, Args: first(unix.AF_NETLINK, specs.OpGreaterThan),
	})
	for _, persona := range personalities() {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{"personality"}, Action: specs.ActAllow, Args: first(persona, specs.OpEqualTo)})
	}
	// Limits of process 1 would be the sandbox's to set: it has the same user. Everything else that could harm the init is
	// kept from it by the kernel.
	return notOne(s, "prlimit64")
}

// notOne allows a call unless its first argument is process 1. The kernel looks at the low half of the register alone, so
// whoever compares all of it is deceived by something in the high half: what is allowed is 0, and whatever has another of the
// low bits than the lowest.
func notOne(s *specs.LinuxSeccomp, call string) *specs.LinuxSeccomp {
	allow := func(mask, value uint64) {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{call}, Action: specs.ActAllow, Args: masked(0, mask, value)})
	}
	allow(lowHalf, 0)
	for bit := uint64(2); bit <= 1<<31; bit <<= 1 {
		allow(bit, bit)
	}
	return s
}

// lowHalf is what the kernel sees of an argument that is an int.
const lowHalf = 1<<32 - 1

// masked is a condition on some bits of an argument.
func masked(index uint, mask, value uint64) []specs.LinuxSeccompArg {
	return []specs.LinuxSeccompArg{{Index: index, Value: mask, ValueTwo: value, Op: specs.OpMaskedEqual}}
}

// ownKernelFilter is for a runtime that brings a kernel of its own: what is not listed reaches that one alone, and it does
// not have what it does not know. Refused is what would harm the init, or make namespaces inside. gVisor takes every refusal
// for EPERM, where a library that falls back from clone3 wants ENOSYS: which a trace without a tracer is.
//
// In gVisor process 1 is not safe from signals that cannot be handled: those to it are refused, and those to single threads,
// whoever they belong to.
func ownKernelFilter() *specs.LinuxSeccomp {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"clone3"}, Action: specs.ActTrace},
		{Names: refused(), Action: specs.ActErrno},
		{Names: []string{"clone"}, Action: specs.ActErrno, Args: masked(0, unix.CLONE_NEWUSER, unix.CLONE_NEWUSER)},
	}}
	for _, call := range []string{"prlimit64", "kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open"} {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{call}, Action: specs.ActErrno, Args: masked(0, lowHalf, 1)})
	}
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP} {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{"tkill"}, Action: specs.ActErrno, Args: masked(1, lowHalf, uint64(signal))})
	}
	return s
}

// personalities are plain Linux, 32-bit Linux, both with the machine type of an older kernel, without address space
// randomisation (debuggers), and the query.
func personalities() []uint64 { return []uint64{0x0, 0x8, 0x20000, 0x20008, 0x40000, 0xffffffff} }

// first is a condition on the first argument of a call.
func first(value uint64, op specs.LinuxSeccompOperator) []specs.LinuxSeccompArg {
	return []specs.LinuxSeccompArg{{Index: 0, Value: value, Op: op}}
}

// allowed lists the calls that need no look at their arguments. A call that a kernel or architecture lacks is ignored.
func allowed() []string {
	return slices.Concat(fileCalls(), memoryCalls(), processCalls(), timeCalls(), socketCalls(), waitCalls(), ipcCalls())
}

// refused lists calls that exist and are denied: mounts and namespaces, kernel modules and other kernels, the clock, keys,
// tracing of the kernel, and interfaces with a long history of holes that programs do without.
func refused() []string {
	return []string{
		"mount", "umount", "umount2", "mount_setattr", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick",
		"pivot_root", "unshare", "setns", "swapon", "swapoff", "quotactl", "quotactl_fd", "open_by_handle_at", "fanotify_init", "fanotify_mark",
		"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "acct", "syslog", "vhangup",
		"settimeofday", "clock_settime", "clock_settime64", "stime", "adjtimex", "clock_adjtime", "clock_adjtime64",
		"sethostname", "setdomainname", "iopl", "ioperm", "modify_ldt", "vm86", "vm86old",
		"keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "lookup_dcookie", "uselib", "nfsservctl",
		"io_uring_setup", "io_uring_enter", "io_uring_register", "move_pages", "migrate_pages",
	}
}
