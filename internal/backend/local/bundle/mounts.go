package bundle

import "github.com/opencontainers/runtime-spec/specs-go"

// Limits of the file systems that every sandbox has.
const (
	// MaxTmpfsInodes is the most files of one file system in memory: an inode costs the machine about a kilobyte.
	MaxTmpfsInodes = 256 << 10
	// devBytes is the size of /dev, in bytes: it holds links and mount points only.
	devBytes = "65536"
	// devInodes is the most files of /dev.
	devInodes = "1024"
)

// mounts returns what every sandbox has, then what this one has. Later mounts may lie inside earlier ones. There is no
// /sys: a user namespace over a network namespace made elsewhere cannot mount it, and it tells a lot about the machine.
func mounts(in *Input) []specs.Mount {
	m := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{
			Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "noexec", "mode=0755", "size=" + devBytes, "nr_inodes=" + devInodes},
		},
		// gid 5 is tty, as in the /etc/group that we make and in every distribution's.
		{
			Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"},
		},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	for _, t := range in.Tmpfs {
		m = append(m, specs.Mount{Destination: t.Target, Type: "tmpfs", Source: "tmpfs", Options: t.options()})
	}
	for _, d := range in.Scratch {
		m = append(m, specs.Mount{Destination: d.Target, Type: "bind", Source: d.Source, Options: []string{"bind", "rw", "nosuid", "nodev"}})
	}
	init := Bind{Source: in.Init, Target: InitPath, Exec: true}
	if in.Meet != "" {
		init = Bind{Source: in.Meet, Target: MeetDir, Dir: true, Exec: true}
	}
	for _, b := range append([]Bind{init}, in.Binds...) {
		m = append(m, specs.Mount{Destination: b.Target, Type: "bind", Source: b.Source, Options: b.options(in.OwnKernel)})
	}
	return m
}

// maskedPaths are empty inside: what the kernel tells about the machine and its other users.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/cmdline", "/proc/config.gz", "/proc/interrupts", "/proc/iomem", "/proc/ioports", "/proc/kallsyms",
		"/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/latency_stats", "/proc/modules", "/proc/mtrr", "/proc/pagetypeinfo",
		"/proc/sched_debug", "/proc/schedstat", "/proc/scsi", "/proc/slabinfo", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
		"/proc/zoneinfo",
	}
}

// readonlyPaths can be read and not written, whatever the ids say.
func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/driver", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// shmBytes is the size of /dev/shm, in bytes, as container engines have it.
const shmBytes = 64 << 20

// Shm returns /dev/shm, for memory that processes of the sandbox share.
func Shm() Tmpfs { return Tmpfs{Target: "/dev/shm", Mode: 0o1777, Bytes: shmBytes} }
