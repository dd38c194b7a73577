package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/oci"
	"github.com/bermhq/berm/internal/shim/userns"
)

// Isolation, in words.
const (
	sharedKernel = "Linux namespaces with user ids of their own, control groups, a system call filter and no capabilities over the machine; " +
		"the kernel is shared with the machine"
	ownKernel = "gVisor: a kernel of its own in user space, behind a filter of few system calls, in Linux namespaces and control groups; " +
		"the machine's kernel does not serve the sandbox's system calls"
)

// probed is what a runtime was seen to hold the sandbox of its probe to: by what the kernel says of that, not the runtime.
type probed struct {
	cpu, memory, pids, filter, freezer bool
	// version is the runtime's own word.
	version string
	// noNetwork says why its sandboxes have no network but none, "" when they may have one.
	noNetwork string
}

// observe looks at the sandbox of a probe from outside. What every sandbox must have and this one has not is an error: then
// nothing is run with that runtime.
func (b *Backend) observe(rt ociRuntime, cfg *shim.Config, want bundle.Limits, r *shim.Record) (probed, error) {
	g := cfg.Cgroup
	pids, err := g.Procs()
	if err != nil {
		return probed{}, fmt.Errorf("its control group: %w", err)
	}
	if len(pids) == 0 {
		return probed{}, errors.New("its sandbox was in no control group of ours: nothing would bound or find it")
	}
	namespaces := []string{"user", "net", "mnt", "ipc", "uts", "pid"}
	if rt.kind == oci.Runsc {
		// Its processes are inside of gVisor, of which nothing on the machine is to be seen but its own process.
		namespaces = namespaces[:5]
	}
	for _, ns := range namespaces {
		own, err1 := os.Readlink("/proc/self/ns/" + ns)
		theirs, err2 := os.Readlink("/proc/" + strconv.Itoa(r.PID) + "/ns/" + ns)
		if err := errors.Join(err1, err2); err != nil {
			return probed{}, err
		}
		if own == theirs {
			return probed{}, fmt.Errorf("its sandbox shares the %s namespace of the machine", ns)
		}
	}
	if err := ownsItself(r.PID, cfg.IDs); err != nil {
		return probed{}, err
	}
	is := g.Limits()
	p := probed{
		cpu: want.CPUMillis > 0 && is.CPUMillis == want.CPUMillis, memory: want.MemoryBytes > 0 && is.MemoryBytes == want.MemoryBytes,
		pids: want.PIDs > 0 && is.PIDs > 0, filter: filtered(r.PID), freezer: b.machine.freezer,
	}
	if !p.filter {
		return p, errors.New("its sandbox has no system call filter")
	}
	return p, nil
}

// ownsItself looks whether the user namespace of a process belongs to the first of the ids in it: what the kernel counts against the owner
// would otherwise be root's, for all sandboxes together. Without ids the runtime has made the namespace.
func ownsItself(pid int, ids *oci.IDs) error {
	if ids == nil {
		return nil
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/user")
	if err != nil {
		return err
	}
	defer ns.Close()
	owner, err := userns.Owner(ns)
	if err == nil && owner != ids.First {
		err = fmt.Errorf("its sandbox is not in the user namespace that was made for it: one of user %d, not %d", owner, ids.First)
	}
	return err
}

// filtered reports whether a process has a system call filter, as the kernel says.
func filtered(pid int) bool {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if mode, ok := strings.CutPrefix(line, "Seccomp:"); ok {
			return strings.TrimSpace(mode) == "2"
		}
	}
	return false
}

// versionOf asks a runtime for its version: the first line of what it says, for people.
func versionOf(ctx context.Context, path string) string {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	if err != nil || len(line) > maxVersion {
		return ""
	}
	return strings.TrimSpace(line)
}

// maxVersion is the longest version that is told, in bytes.
const maxVersion = 200

// refusals are the fields of an order that its runtime class does not enforce, although the machine could.
func (rt ociRuntime) refusals(o *order, m *machine) []fault.Field {
	var out []fault.Field
	for _, c := range []struct {
		path  string
		asked bool
		holds bool
	}{
		{"resource_defaults.cpu_limit", o.limits.CPUMillis > 0 && m.cpu, rt.seen.cpu},
		{"resource_defaults.memory_limit", o.limits.MemoryBytes > 0 && m.memory, rt.seen.memory},
	} {
		if c.asked && !c.holds {
			out = append(out, fault.Field{Path: c.path, Description: "runtime " + rt.name + " was seen not to hold its sandbox to it when the server started"})
		}
	}
	return out
}

func checkpointNote(can bool) string {
	if can {
		return "pause to disk and forks, without a network"
	}
	return "it cannot save sandboxes; runsc (gVisor) can"
}

// published says what a runtime holds its sandboxes to.
func (b *Backend) published(rt ociRuntime) backend.Runtime {
	r := backend.Runtime{Name: rt.name, Program: strings.TrimSpace(rt.seen.version + " (" + rt.path + ")"), Isolation: sharedKernel}
	add := func(name string, works bool, note string) {
		if !works && note == "" {
			note = "was seen not to hold when the server started"
		}
		r.Enforcement = append(r.Enforcement, backend.Enforcement{Name: name, Works: works, Note: note})
	}
	own := rt.kind == oci.Runsc
	note := func(shared, gvisor string) string {
		if own {
			return gvisor
		}
		return shared
	}
	if own {
		r.Isolation = ownKernel
	}
	limit := func(has, seen bool, text string) (bool, string) {
		switch {
		case !has:
			return false, "this machine has no such controller"
		case !seen:
			return false, ""
		}
		return true, text
	}
	works, text := limit(b.machine.cpu, rt.seen.cpu, "")
	add("cpu", works, text)
	works, text = limit(b.machine.memory, rt.seen.memory, note("at the limit the process that asks is ended", "at the limit the whole sandbox is ended"))
	add("memory", works, text)
	works, text = limit(b.machine.pids, rt.seen.pids, note("", "per user inside; the threads of gVisor are bounded on the machine"))
	add("pids", works, text)
	add("seccomp", rt.seen.filter, note("what is not listed does not exist", "gVisor's own towards the machine; inside, what would harm process 1 is refused"))
	add("user-namespace", true, "")
	add("egress:none", true, "")
	why := b.machine.lacks[featureNetwork]
	if why == "" {
		why = rt.seen.noNetwork
	}
	add(featureNetwork, why == "", note(why, cmp.Or(why, "by its own network stack, behind the same rules; such a sandbox cannot be saved")))
	add("disk", b.machine.disk, note(b.machine.lacks[featureDisk], "where a limit is asked for; in memory otherwise"))
	add("scratch-size", true, "of each file system in memory")
	add("pause", rt.seen.freezer, note("", "all of gVisor stands still"))
	add("checkpoint", rt.kind.Checkpoints(), checkpointNote(rt.kind.Checkpoints()))
	add("terminal-eof", true, note("", "where its kernel knows it; a command that is told so under another ends in an error"))
	if !rt.seen.cpu {
		r.Unenforced = map[string]string{"resource_defaults.cpu_request": "runtime " + rt.name + " sets no CPU shares here"}
	}
	return r
}
