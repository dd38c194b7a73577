package oci

import (
	"path/filepath"
	"strings"
)

// Kind is a family of runtimes: what their command lines and containers have in common.
type Kind string

// The kinds.
const (
	// Runc takes the command line of runc, and passes descriptors on to process 1. Most runtimes are of this kind.
	Runc Kind = "runc"
	// Crun is as Runc, and refuses a machine with both versions of control groups unless it cannot see the second.
	Crun Kind = "crun"
	// Runsc is gVisor: a container is one process on the machine, with a kernel of its own. It passes no descriptors on, so
	// that the init must dial its shim, and leaves descriptors of its own open in the container's process.
	Runsc Kind = "runsc"
)

// Kinds lists them.
func Kinds() []Kind { return []Kind{Crun, Runc, Runsc} }

// KindOf guesses a runtime's kind from its file name.
func KindOf(path string) Kind {
	switch name := filepath.Base(path); {
	case strings.HasPrefix(name, string(Crun)):
		return Crun
	case strings.HasPrefix(name, string(Runsc)):
		return Runsc
	default:
		return Runc
	}
}

// Dials reports whether the init must dial its shim, because it inherits nothing.
func (k Kind) Dials() bool { return k == Runsc }

// OwnStack reports whether a container has a network stack of its own, which takes addresses, routes and neighbours over from the
// namespace that it is given. It cannot be saved with one that reaches further than itself.
func (k Kind) OwnStack() bool { return k == Runsc }

// Checkpoints reports whether containers can be saved and restored.
func (k Kind) Checkpoints() bool { return k == Runsc }

// Reseals reports whether the runtime begins twice at every start unless it finds itself sealed, see Seal. runc does too, but in a
// part of it that costs next to nothing, and runs a little slower from memory.
func (k Kind) Reseals() bool { return k == Crun }

// FilesOnly reports whether nothing is left of a container, once its control group is empty, but files of the runtime. gVisor's
// own delete does no more, and takes a second and more for it.
func (k Kind) FilesOnly() bool { return k == Runsc }

// runArgs are the arguments of run, without the bundle's.
func (k Kind) runArgs() []string {
	if k.Dials() {
		return []string{"run", "--detach"}
	}
	return []string{"run", "--detach", "--preserve-fds", "3"}
}

// stateFiles is a pattern of what the runtime keeps of a container, below its root.
func (k Kind) stateFiles(id string) string {
	if k == Runsc {
		return id + runscState + "*"
	}
	return id
}

// runscState is what gVisor puts between the container's id and the rest, in the names of its files. No id has a colon.
const runscState = "_sandbox:"

// IDOf returns the container that an entry of a runtime's root belongs to.
func IDOf(entry string) string {
	id, _, _ := strings.Cut(entry, runscState)
	return id
}
