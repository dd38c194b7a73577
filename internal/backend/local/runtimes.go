package local

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/oci"
)

// MaxRuntimes is how many runtimes a runner may be configured with: each is probed by running something.
const MaxRuntimes = 16

// ociRuntime is a runtime to probe, or one that ran something.
type ociRuntime struct {
	// name is the runtime class, path the program: a name to look up until it was probed.
	name, path string
	kind       oci.Kind
	// flags are global flags that the operator gave.
	flags []string
	// program is a sealed copy of it, which starts run; nil where the runtime has no use for one, or does not run so.
	program *os.File
	// seen is what the probe found out.
	seen probed
}

// DefaultRuntimes are tried in this order; the first that works is the default.
func DefaultRuntimes() []string { return []string{"crun", "runc", "runsc"} }

// parseRuntime reads NAME[=PATH][,kind=KIND][,flag=FLAG]...: a program of the machine under the name that profiles call it by.
// Without a path the name is looked up; without a kind the file name tells.
func parseRuntime(text string) (ociRuntime, error) {
	head, rest, more := strings.Cut(text, ",")
	name, path, given := strings.Cut(head, "=")
	if !given {
		name, path = filepath.Base(head), head
	}
	rt := ociRuntime{name: name, path: path, kind: oci.KindOf(path)}
	if err := spec.CheckName("--oci-runtime", name); err != nil {
		return rt, err
	}
	if path == "" || given && !filepath.IsAbs(path) && strings.ContainsRune(path, '/') {
		return rt, runtimeFault(text, "want an absolute path, or a program in the server's PATH, after the =")
	}
	for option := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch {
		case !more:
		case key == "kind" && slices.Contains(oci.Kinds(), oci.Kind(value)):
			rt.kind = oci.Kind(value)
		case key == "kind":
			return rt, runtimeFault(text, "kind is one of crun, runc and runsc: whose command line and habits it has")
		case key == "flag" && strings.HasPrefix(value, "-"):
			rt.flags = append(rt.flags, value)
		case key == "flag":
			return rt, runtimeFault(text, "a flag begins with a -")
		default:
			return rt, runtimeFault(text, "after NAME=PATH there may be kind=crun|runc|runsc and flag=--FLAG, which can be repeated")
		}
	}
	return rt, nil
}

func runtimeFault(text, problem string) *fault.Error {
	return fault.Invalidf("USAGE", "OCI runtime %q: %s", text, problem).WithHint("for example: gvisor=/opt/bin/runsc,kind=runsc,flag=--platform=systrap")
}

// ParseRuntimes reads a list of them, each under a name of its own.
func ParseRuntimes(list []string) error {
	_, err := parseRuntimes(list)
	return err
}

func parseRuntimes(list []string) ([]ociRuntime, error) {
	if len(list) > MaxRuntimes {
		return nil, fault.Invalidf("USAGE", "%d OCI runtimes, at most %d can be configured", len(list), MaxRuntimes)
	}
	var all []ociRuntime
	for _, text := range list {
		rt, err := parseRuntime(text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(o ociRuntime) bool { return o.name == rt.name }) {
			return nil, fault.Invalidf("USAGE", "OCI runtime %s is given twice", rt.name)
		}
		all = append(all, rt)
	}
	return all, nil
}

// allFlags are the global flags of a call.
func (rt ociRuntime) allFlags() []string {
	if rt.kind != oci.Runsc {
		return rt.flags
	}
	// gVisor: loopback alone; sockets of the host may be dialled where a mount shows one, and none made, by which the init finds
	// its shim; the filter of the bundle counts inside.
	return append([]string{ownNetwork, "--host-uds=open", "--oci-seccomp"}, rt.flags...)
}

// ownNetwork and givenNetwork are the words for gVisor to have nothing but its own loopback, and to take over what there is in the
// namespace that it is given: links, addresses, routes and permanent neighbours.
const (
	ownNetwork   = "--network=none"
	givenNetwork = "--network=sandbox"
)

// carry tells a shim that the sandbox has a network namespace with a network.
func (rt ociRuntime) carry(cfg *shim.Config) {
	if !rt.kind.OwnStack() {
		return
	}
	cfg.RuntimeFlags = slices.Clone(cfg.RuntimeFlags)
	if i := slices.Index(cfg.RuntimeFlags, ownNetwork); i >= 0 {
		cfg.RuntimeFlags[i] = givenNetwork
	}
	cfg.HideSettings = true
}

// sealed returns the runtime with a sealed copy of its program, if it is of a kind that would make one at every start.
func (b *Backend) sealed(rt ociRuntime) ociRuntime {
	if !rt.kind.Reseals() {
		return rt
	}
	var err error
	if rt.program, err = oci.Seal(rt.path); err != nil {
		b.log.Debug("a runtime is started from its file", "runtime", rt.name, "error", err)
	}
	return rt
}

// unseal gives the copies up.
func (b *Backend) unseal() (err error) {
	for _, rt := range b.runtimes {
		if rt.program != nil {
			err = errors.Join(err, rt.program.Close())
		}
	}
	return err
}
