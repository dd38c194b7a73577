// Package kept keeps commands that outlive whoever started them: it runs them by a name, holds what they print in a bounded ring of
// memory that is addressed by offset, and takes their input by offset, so that a reader or a writer whose connection broke goes on
// where it was, from any gateway and any runner. The init of a sandbox serves it (package wire, the operations exec_*); the fake
// backend serves the same code.
//
// What is kept lives and dies with the init. Its memory is that of the sandbox, counts against the sandbox's limit, and only the pages
// that output has reached are used: no more than Limits allow, however much is printed and however slowly it is read.
//
// When the ring is full, the command waits until a reader has said that it has the oldest piece (wire.TypeReceived), as for any reader
// that is slow; or, with drop, the oldest piece goes, and whoever asks for it sees by the offset of the next one how much is missing.
package kept

import (
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

// Limits of one sandbox.
const (
	// MaxExecs is how many commands are kept, running and ended. Those that ended longest ago make room for new ones.
	MaxExecs = 128
	// MinOutput, DefaultOutput and MaxOutput bound the ring of one command, in bytes; each piece takes recordHeader of them.
	MinOutput     = 64 << 10
	DefaultOutput = 512 << 10
	MaxOutput     = 16 << 20
	// MaxOutputs is how much all rings together may have, in bytes: the limit of each that runs, and what each that ended has used.
	MaxOutputs = 64 << 20
	// MaxAttached is how many readers and writers a command has at once.
	MaxAttached = 32
	// MaxID is the longest name, in bytes.
	MaxID = 64
	// maxGone is how many names of commands that are not kept any more are remembered, so that a create that is repeated late does
	// not run its command again.
	maxGone = 1024
	// maxShown is how much of a command is shown in its state, in bytes.
	maxShown = 512
	// deleteTimeout is how long a delete waits for the process that it killed.
	deleteTimeout = 5 * time.Second
)

// Process is a command that was started.
type Process interface {
	// Input takes bytes for standard input, never more than wire.StdinWindow that were not reported by Sink.Took. It does not wait.
	Input(data []byte)
	// EndInput ends standard input behind what was given.
	EndInput()
	// Signal sends a signal to the process group. It is false once the process has ended.
	Signal(signal int) bool
	// Resize sets the size of the terminal.
	Resize(width, height uint16)
	// Wait returns how the process ended, Drain when what it printed was given to the Sink. Each is called once, in this order.
	Wait() wire.Exit
	Drain()
}

// Sink is where a process's output goes.
type Sink interface {
	// Output takes output. It waits while there is no room, and is false when nobody wants any more: the process is to be killed.
	Output(stream wire.Stream, data []byte) bool
	// Took says that the process took n bytes of input.
	Took(n int)
}
