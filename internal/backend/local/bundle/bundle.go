// Package bundle writes what an OCI runtime is told about a sandbox: a pure function from an Input to a runtime spec, with
// goldens. What isolates a sandbox is decided here and nowhere else: namespaces, capabilities, the seccomp filter, what is
// mounted, what of /proc is hidden and which limits are set.
package bundle

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ociVersion is the oldest version that has everything used here: crun 1.8 refuses the newest ones.
const ociVersion = "1.0.2"

// InitPath is where the init is inside a sandbox. /dev is a file system of ours in every sandbox, so that nothing in an
// image can lie in the way or redirect the mount. It is in no directory of its own: runtimes make those for root alone.
const InitPath = "/dev/berm-init"

// MeetDir is where an init that inherits nothing finds itself and the socket of its shim.
const MeetDir = "/dev/berm"

// IDsPerSandbox is the size of the range of user and group ids of a sandbox, the number that its user namespace maps.
const IDsPerSandbox = 1 << 16

// Input is what a bundle depends on. All values are decided and checked by the caller.
type Input struct {
	// ID is the sandbox's id and its host name.
	ID string
	// Root is the root directory on the machine. ReadOnly makes it so inside.
	Root     string
	ReadOnly bool
	// Init is the static init on the machine, Args its arguments. With Meet, a directory of the machine that is shown at MeetDir,
	// Init is a path inside.
	Init string
	Args []string
	Meet string
	// OwnKernel says that the runtime brings a kernel of its own, gVisor's: the machine's is behind another filter.
	OwnKernel bool
	// Env is the environment of the init alone; what commands get is the init's business.
	Env []string
	// UID, GID and Groups are who runs, as ids inside the sandbox.
	UID, GID uint32
	Groups   []uint32
	// IDBase is the id on the machine that 0 is mapped to; IDsPerSandbox of them are.
	IDBase uint32
	// CgroupsPath is the cgroup, from the root of the hierarchy.
	CgroupsPath string
	Limits      Limits
	// Users is the path of the user namespace, which the shim makes; "" is a new one, which the runtime makes.
	Users string
	// Network is the path of the network namespace; "" is a new one, with nothing but its own loopback. See Around.
	Network string
	// Binds are files and directories of the machine that are visible inside, read-only.
	Binds []Bind
	// Tmpfs are private file systems in memory.
	Tmpfs []Tmpfs
	// Scratch are directories of the sandbox's own file system on disk, which it may write.
	Scratch []Scratch
}

// Scratch is a directory that belongs to the sandbox alone, on a file system that was mounted for it without set-user-id and
// devices.
type Scratch struct {
	Source, Target string
}

// Bind is a file or directory of the machine, mounted read-only without set-user-id and devices.
type Bind struct {
	Source, Target string
	// Dir says that it is a directory, whose own mounts are to be seen too, as read-only as the rest.
	Dir bool
	// Exec allows to run programs from it.
	Exec bool
}

// Tmpfs is a file system in memory. What is written counts as memory of the sandbox.
type Tmpfs struct {
	Target string
	Mode   uint32
	// Bytes is its size.
	Bytes int64
	Exec  bool
}

// Limits of a sandbox; zero is none.
type Limits struct {
	// CPUMillis is the most CPU, CPURequestMillis its share under contention; in thousandths of a CPU.
	CPUMillis, CPURequestMillis int64
	MemoryBytes                 int64
	// Swap says that the machine accounts for swap: it is then set to none.
	Swap bool
	PIDs int64
	// OpenFiles is the limit of descriptors of each process.
	OpenFiles uint64
}

// Spec returns the runtime spec for in.
func Spec(in *Input) *specs.Spec {
	return &specs.Spec{
		Version:  ociVersion,
		Hostname: in.ID,
		Root:     &specs.Root{Path: in.Root, Readonly: in.ReadOnly},
		Process:  process(in),
		Mounts:   mounts(in),
		Linux: &specs.Linux{
			UIDMappings:       []specs.LinuxIDMapping{{ContainerID: 0, HostID: in.IDBase, Size: IDsPerSandbox}},
			GIDMappings:       []specs.LinuxIDMapping{{ContainerID: 0, HostID: in.IDBase, Size: IDsPerSandbox}},
			Namespaces:        in.namespaces(),
			CgroupsPath:       in.CgroupsPath,
			Resources:         resources(in.Limits, in.OwnKernel),
			Seccomp:           seccomp(in.OwnKernel),
			MaskedPaths:       maskedPaths(),
			ReadonlyPaths:     readonlyPaths(),
			RootfsPropagation: "private",
		},
	}
}

// Around is the network namespace that the runtime is to be started in, "" for any: the bundle names none then. A runtime joins the user
// namespace first, and may then not join a network that belongs to the machine. With a kernel of its own it is told the path.
func (in *Input) Around() string {
	if in.OwnKernel {
		return ""
	}
	return in.Network
}

// namespaces are those of the sandbox: new ones, but for the two that are there already.
func (in *Input) namespaces() []specs.LinuxNamespace {
	all := []specs.LinuxNamespace{
		{Type: specs.UserNamespace, Path: in.Users}, {Type: specs.PIDNamespace}, {Type: specs.MountNamespace},
		{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
	}
	if in.Around() == "" {
		all = append(all, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: in.Network})
	}
	return all
}

func (in *Input) initPath() string {
	if in.Meet != "" {
		return in.Init
	}
	return InitPath
}

func process(in *Input) *specs.Process {
	p := &specs.Process{
		User: specs.User{UID: in.UID, GID: in.GID, AdditionalGids: in.Groups},
		Args: append([]string{in.initPath()}, in.Args...),
		Env:  in.Env,
		Cwd:  "/",
		// Set-user-id programs and file capabilities gain nothing.
		NoNewPrivileges: true,
		Capabilities:    capabilities(in.UID == 0),
	}
	if in.OwnKernel {
		p.Rlimits = rlimits(in.Limits)
	}
	// Zero, never less: a machine without CAP_SYS_RESOURCE refuses to lower it, and crun and runc then fail.
	score := 0
	p.OOMScoreAdj = &score
	return p
}

// rlimits are the limits of each process under a kernel of the runtime's own. On the machine's kernel the init sets its own, see package
// initd.
func rlimits(l Limits) []specs.POSIXRlimit {
	all := []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Hard: 0, Soft: 0}}
	if n := uint64(l.PIDs); n > 0 {
		all = append(all, specs.POSIXRlimit{Type: "RLIMIT_NPROC", Hard: n, Soft: n})
	}
	if n := l.OpenFiles; n > 0 {
		all = append(all, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Hard: n, Soft: n})
	}
	return all
}

// capabilities are those that the root of a sandbox has over the sandbox's own ids, so that su, chown and package managers
// work. They are worth nothing outside its user namespace. Left out on purpose: SYS_PTRACE (the init is not to be read),
// SYS_ADMIN, NET_ADMIN, NET_RAW, MKNOD, SYS_CHROOT, SETPCAP, SETFCAP. Another user than root has none.
func capabilities(root bool) *specs.LinuxCapabilities {
	if !root {
		return &specs.LinuxCapabilities{}
	}
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID",
	}
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// options of what is bound from the machine.
func (b Bind) options(ownKernel bool) []string {
	o := []string{"bind", "ro", "nosuid", "nodev"}
	if b.Dir && ownKernel {
		// What is below comes through one mount inside, so that ro is for all of it; gVisor does not know rro.
		o = []string{"rbind", "ro", "nosuid", "nodev"}
	} else if b.Dir {
		// rro makes mounts below the source read-only too, which ro alone does not. crun 1.8 fails with it on files.
		o = []string{"rbind", "ro", "rro", "nosuid", "nodev"}
	}
	if !b.Exec {
		o = append(o, "noexec")
	}
	return o
}

func (t Tmpfs) options() []string {
	o := []string{
		"nosuid", "nodev", fmt.Sprintf("mode=%04o", t.Mode), fmt.Sprintf("size=%d", t.Bytes), fmt.Sprintf("nr_inodes=%d", MaxTmpfsInodes),
	}
	if !t.Exec {
		o = append(o, "noexec")
	}
	return o
}
