package local

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim/cgroup"
)

// machine is what was found out about this machine.
type machine struct {
	// refusal says why no sandbox can run here at all.
	refusal string
	// lacks maps a feature to why it is missing.
	lacks  map[string]string
	cgroup cgroup.Mode
	// cpu, memory and pids tell the controllers that can be written, swap whether swap is accounted for.
	cpu, memory, pids, swap bool
	// disk tells whether sandboxes can have a file system on disk.
	disk bool
	// freezer tells whether sandboxes can be paused.
	freezer     bool
	memoryBytes int64
	// pidsLimit is how many processes and threads a sandbox may have.
	pidsLimit int64
	// openFiles is the limit of descriptors that sandboxes get.
	openFiles uint64
}

func (m *machine) arrangement() string { return "cgroup " + string(m.cgroup) }

func (m *machine) lack(feature, format string, args ...any) {
	if m.lacks == nil {
		m.lacks = map[string]string{}
	}
	m.lacks[feature] = fmt.Sprintf(format, args...)
}

// look finds out what the machine is, without running anything.
func look() machine {
	m := machine{memoryBytes: memTotal("/proc/meminfo"), openFiles: MaxOpenFiles, pidsLimit: DefaultPIDs}
	if os.Geteuid() != 0 {
		m.refusal = "needs root: user namespaces with ranges of ids, control groups and mounts are made for each sandbox"
		return m
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		m.openFiles = min(m.openFiles, limit.Max)
	}
	mode, err := cgroup.Detect()
	if err != nil {
		m.refusal = err.Error()
		return m
	}
	m.cgroup = mode
	return m
}

// cgroups makes the group that holds all sandboxes and so finds out which controllers can be used. The group bounds them
// together: a sandbox without a limit of its own cannot take the machine with it.
func (m *machine) cgroups(base string, total core.Amounts) error {
	var err error
	if m.cgroup == cgroup.V2 {
		err = m.unified(base)
	} else {
		err = m.perController(base)
	}
	if err != nil {
		return err
	}
	for feature, has := range map[string]bool{featureCPU: m.cpu, featureMemory: m.memory, featurePIDs: m.pids} {
		if !has {
			m.lack(feature, "the kernel or its configuration has no such controller")
		}
	}
	if m.freezer = cgroup.CanFreeze(m.cgroup, base); !m.freezer {
		m.lack(featurePause, "the kernel cannot freeze control groups, or its configuration leaves that out")
	}
	m.bound(base, total)
	return nil
}

// perController is cgroup v1: a hierarchy per controller.
func (m *machine) perController(base string) error {
	for name, has := range map[string]*bool{"cpu": &m.cpu, "memory": &m.memory, "pids": &m.pids} {
		err := os.Mkdir(filepath.Join(cgroup.Root, name, base), 0o755)
		*has = err == nil || errors.Is(err, os.ErrExist)
		if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
			return fmt.Errorf("control groups cannot be made: %w", err)
		}
	}
	m.swap = exists(filepath.Join(cgroup.Root, "memory", base, "memory.memsw.limit_in_bytes"))
	return nil
}

// unified is cgroup v2: controllers are switched on for children, from the root down.
func (m *machine) unified(base string) error {
	data, err := os.ReadFile(filepath.Join(cgroup.Root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	dir := filepath.Join(cgroup.Root, base)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("control groups cannot be made: %w", err)
	}
	for _, name := range strings.Fields(string(data)) {
		switch name {
		case "cpu", "memory", "pids":
		default:
			continue
		}
		for _, parent := range []string{cgroup.Root, dir} {
			if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+name), 0); err != nil {
				return fmt.Errorf("switch the %s controller on: %w", name, err)
			}
		}
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	names := strings.Fields(string(on))
	m.cpu, m.memory, m.pids = slices.Contains(names, "cpu"), slices.Contains(names, "memory"), slices.Contains(names, "pids")
	m.swap = exists(filepath.Join(dir, "memory.swap.max"))
	return nil
}

// bound limits all sandboxes together, as far as the machine allows.
func (m *machine) bound(base string, total core.Amounts) {
	files := map[string]string{
		filepath.Join(cgroup.Root, "memory", base, "memory.limit_in_bytes"): strconv.FormatInt(total.MemoryBytes, 10),
		filepath.Join(cgroup.Root, "pids", base, "pids.max"):                strconv.Itoa(MaxTotalPIDs),
	}
	if m.cgroup == cgroup.V2 {
		files = map[string]string{
			filepath.Join(cgroup.Root, base, "memory.max"): strconv.FormatInt(total.MemoryBytes, 10),
			filepath.Join(cgroup.Root, base, "pids.max"):   strconv.Itoa(MaxTotalPIDs),
		}
	}
	for path, value := range files {
		// Best effort: the limits of each sandbox are what was promised.
		_ = os.WriteFile(path, []byte(value), 0)
	}
}

// capacity returns what the machine has to offer.
func (m *machine) capacity() core.Amounts {
	return core.Amounts{
		CPUMillis: int64(runtime.NumCPU()) * 1000, MemoryBytes: m.memoryBytes - m.memoryBytes/memoryReserve, Sandboxes: DefaultMaxSandboxes,
	}
}

// tmpfsBytes returns the size of a sandbox's file systems in memory.
func (m *machine) tmpfsBytes(limit int64) int64 {
	if limit == 0 {
		limit = m.memoryBytes / 2
	}
	return min(MaxTmpfsBytes, max(limit/2, 1<<20))
}

// memTotal reads the machine's memory, in bytes.
func memTotal(path string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) == 3 && fields[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			if err == nil {
				return kb << 10
			}
		}
	}
	return 0
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
