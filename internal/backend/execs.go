package backend

import (
	"context"
	"time"
)

// Execs keep commands that outlive whoever started them: what they print is held, addressed by offset, and their input is taken by
// offset, so that who was cut off goes on where he was. They live in the sandbox and end with it: afterwards Precondition,
// CWSANDBOX_SANDBOX_NOT_RUNNING, as for every command. A command that is not there, or not any more: NotFound, EXEC_NOT_FOUND. A sandbox
// that was started by a version without them: Precondition, BACKEND_UNSUPPORTED. Limits are those of package kept.
type Execs interface {
	// CreateExec starts a command, once per id however often it is called; an id that was used for another one: Exists, EXEC_EXISTS.
	CreateExec(ctx context.Context, sandbox string, e KeptExec) (ExecState, error)
	// ListExecs returns the commands of a sandbox, oldest first; with an id only that one.
	ListExecs(ctx context.Context, sandbox, id string) ([]ExecState, error)
	// AttachExec joins a command. An offset that was never reached: Invalid, INVALID_RESUME_OFFSET.
	AttachExec(ctx context.Context, sandbox, id string, a Attach) (Attachment, error)
	// SignalExec sends a signal to the process group; to one that has ended: Precondition, EXEC_ENDED. ResizeExec sets the size of the
	// terminal.
	SignalExec(ctx context.Context, sandbox, id string, signal int) (ExecState, error)
	ResizeExec(ctx context.Context, sandbox, id string, width, height uint16) (ExecState, error)
	// DeleteExec kills a command that runs, and forgets it. Who is attached gets EXEC_NOT_FOUND.
	DeleteExec(ctx context.Context, sandbox, id string) error
}

// KeptExec is a command to run and keep.
type KeptExec struct {
	Exec
	// ID names it within its sandbox, for ever.
	ID string
	// OutputLimit is how many bytes of its output are held, 0 for the default. When they are, the command waits until a reader has said
	// that it has the oldest of them; with DropOldest they go.
	OutputLimit int64
	DropOldest  bool
	// Timeout is when it is killed, 0 for never.
	Timeout time.Duration
}

// ExecState is how a command that is kept stands.
type ExecState struct {
	ID string
	// Command is the program and its arguments, or, Shortened, the beginning of them.
	Command   []string
	Shortened bool
	TTY       bool
	Stdin     bool
	Drop      bool
	Limit     int64
	Timeout   time.Duration
	CreatedAt time.Time
	// First and End are the offsets of the output that is held: End is how much was printed so far.
	First, End int64
	// StdinOffset is how much standard input came, StdinTaken how much of it the process has.
	StdinOffset, StdinTaken int64
	StdinClosed             bool
	// ExitCode and Signal are how the process ended, as in a Frame; nil while it runs. TimedOut says that it was killed for its timeout.
	// Done: all that it printed is counted in End.
	ExitCode *int32
	Signal   int
	TimedOut bool
	EndedAt  time.Time
	Done     bool
}

// Attach says what is wanted of a command.
type Attach struct {
	// Output: from Offset on, whose bytes before it the caller has. With Follow it goes on until the command has ended; without, it ends
	// with io.EOF when there is no more now.
	Output bool
	Offset int64
	Follow bool
	// Stdin makes the caller the one who writes standard input, from State's StdinOffset on. An earlier writer's stream ends, once
	// what came of it was taken: Conflict, EXEC_INPUT_TAKEN.
	Stdin bool
}

// AttachKind is the kind of an AttachFrame.
type AttachKind int

// The kinds: output, progress of the input, and the end, which comes last.
const (
	AttachStdout AttachKind = iota + 1
	AttachStderr
	AttachTaken
	AttachExit
)

// AttachFrame is a piece of what comes of a command.
type AttachFrame struct {
	Kind AttachKind
	// Data is valid until the next Recv. Offset counts all bytes of both streams before it: what is missing was dropped.
	Data   []byte
	Offset int64
	At     time.Time
	// Taken is how much of the input the process has, or dropped because it closed its end; InputClosed says that a CloseSend arrived.
	Taken       int64
	InputClosed bool
	// End is how the command ended, of AttachExit.
	End *ExecState
}

// Attachment is a reader and writer of a command. Recv and the others may be used from different goroutines.
type Attachment interface {
	// State is how the command stood at the beginning.
	State() ExecState
	// Recv returns the next frame, the last AttachExit, after all output; then io.EOF. An end that was not observed is an error.
	Recv() (AttachFrame, error)
	// Received says that the caller has all output before an offset.
	Received(offset int64) error
	// Send writes standard input and blocks while the process does not read, or Recv is not called. CloseSend ends it.
	Send(data []byte) error
	CloseSend() error
	// Close leaves the command, which goes on.
	Close() error
}
