// Package backendtest is the contract suite of backend.Backend. Passing it is the definition of done for a backend.
//
// It needs an image with the usual programs (true, echo, cat, sleep, sh, printenv, pwd, head, stty), which the built-in image
// "host" has. It asserts what the port promises and nothing about speed; where real processes are involved it waits for
// observations with a deadline that only a broken backend meets.
package backendtest

import (
	"context"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
)

// patience is how long the suite waits for anything that must happen. It is a bound for hanging, not a target.
const patience = 60 * time.Second

// Options says what the backend under test has, beyond what every backend has.
type Options struct {
	// Prepare completes each work before it is used: an image, a runtime class. Nil leaves it as it is.
	Prepare func(*backend.Work)
	// MissingImage names an image that cannot be found. Empty: not tested.
	MissingImage string
	// NoTerminalEOF says that the kernel of sandboxes cannot end the input of a terminal: asking for it must end the command in an
	// error.
	NoTerminalEOF bool
	// NoPools says that the backend keeps nothing prepared, and refuses to.
	NoPools bool
	// PortServer is the program of ports/cmd/port-server, built without libraries, on this machine. Empty: the backend has it built in.
	PortServer string
	// Refused holds, by field path, changes that make Check refuse a work and name that path.
	Refused map[string]func(*backend.Work)
	// Reopen closes the backend and opens it again on the same state, as a restart of the server does. Nil: the backend does
	// not outlive its process.
	Reopen func(t *testing.T, b backend.Backend) backend.Backend
}

// Run checks every promise of the port on backends made by open, one per group of tests.
func Run(t *testing.T, open func(t *testing.T) backend.Backend, opts Options) {
	t.Helper()
	groups := map[string]func(*suite){
		"info":          (*suite).testInfo,
		"lifecycle":     (*suite).testLifecycle,
		"stop":          (*suite).testStop,
		"pause":         (*suite).testPause,
		"delete":        (*suite).testDelete,
		"exec":          (*suite).testExec,
		"streams":       (*suite).testStreams,
		"terminal":      (*suite).testTerminal,
		"kept":          (*suite).testKept,
		"ports":         (*suite).testPorts,
		"files":         (*suite).testFiles,
		"archives":      (*suite).testArchives,
		"transfers":     (*suite).testTransfers,
		"archive parts": (*suite).testArchiveParts,
		"logs":          (*suite).testLogs,
		"observe":       (*suite).testObserve,
		"warm":          (*suite).testWarm,
		"restart":       (*suite).testRestart,
	}
	for _, name := range []string{"info", "lifecycle", "stop", "pause", "delete", "exec", "streams", "terminal", "kept", "ports", "files", "archives", "archive parts", "transfers", "logs", "observe", "warm", "restart"} {
		if name == "restart" && opts.Reopen == nil {
			continue // a promise that this backend does not make
		}
		t.Run(name, func(t *testing.T) {
			b := open(t)
			s := &suite{T: t, b: b, opts: opts}
			// The test's own context ends before its cleanup, which still has sandboxes to end.
			s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(t.Context()))
			t.Cleanup(func() { s.finish() })
			s.watch()
			groups[name](s)
		})
	}
}
