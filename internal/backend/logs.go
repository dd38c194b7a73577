package backend

import (
	"time"

	"github.com/bermhq/berm/internal/core/fault"
)

// LogQuery says which main process output is wanted. The zero value is all that is kept.
type LogQuery struct {
	// Session, when not empty, is the run that Offset belongs to: the output begins exactly there. Another run: NotFound,
	// SESSION_NOT_FOUND; output that was discarded: OutOfRange, REPLAY_GAP; an offset that was never reached: Invalid,
	// INVALID_RESUME_OFFSET. Tail and Since are not looked at then.
	Session string
	Offset  int64
	// Tail, when not nil, begins at the last lines of both streams together; 0 is none of those printed so far.
	Tail *int64
	// Since, when not zero, begins at what was printed then or later.
	Since time.Time
	// Follow goes on until the sandbox ends.
	Follow bool
}

// LogKind is the kind of a LogFrame.
type LogKind int

// The kinds of log frames. A gap stands for output that was there and is not any more.
const (
	LogStdout LogKind = iota + 1
	LogStderr
	LogGap
)

// LogFrame is a piece of what a main process printed, at most MaxExecChunk bytes, not aligned to lines.
type LogFrame struct {
	Kind LogKind
	// Data is valid until the next Recv.
	Data []byte
	At   time.Time
	// Offset counts all bytes of both streams before this piece, from the sandbox's start; Lost how many a gap stands for.
	Offset, Lost int64
}

// End is the offset behind the frame.
func (f LogFrame) End() int64 { return f.Offset + f.Lost + int64(len(f.Data)) }

// LogReader reads main process output. Only Close may be called from another goroutine; it ends a Recv that waits, with an error.
type LogReader interface {
	// Session names the run; offsets of another run mean nothing.
	Session() string
	// Recv returns the next frame. io.EOF means that there is no more now, and with Follow that the sandbox has ended and
	// all that it printed was told, or stands in a gap. When nobody saw the end: Precondition, STREAM_TRUNCATED, after all that
	// is there.
	Recv() (LogFrame, error)
	Close() error
}

// ErrLogsClosed is what Recv returns of a LogReader that was closed.
func ErrLogsClosed() error {
	return fault.New(fault.Canceled, "CANCELED", "the reader of the output was closed")
}
