package wire

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/archive"
)

// Op names the operation of a request.
type Op string

// Operations that the init serves; the shim passes those of the first group on.
const (
	OpExec      Op = "exec"
	OpReadFile  Op = "read_file"
	OpWriteFile Op = "write_file"
	// OpReadArchive and OpWriteArchive move a directory or a file as an archive (package archive).
	OpReadArchive  Op = "read_archive"
	OpWriteArchive Op = "write_archive"
	// OpReadFrom, OpWriteFrom and OpFileState move a file so that what broke off can be gone on with.
	OpReadFrom  Op = "read_from"
	OpWriteFrom Op = "write_from"
	OpFileState Op = "file_state"
	// OpDial connects to a TCP port on the loopback interface inside.
	OpDial Op = "dial"
	// Those of commands that outlive who started them (package kept). OpExecList is about all, or about the one that is named.
	OpExecCreate Op = "exec_create"
	OpExecList   Op = "exec_list"
	OpExecAttach Op = "exec_attach"
	OpExecSignal Op = "exec_signal"
	OpExecResize Op = "exec_resize"
	OpExecDelete Op = "exec_delete"

	// OpSetup is the shim's first request to the init; OpMain starts the main process, and its stream then stays open
	// until the init ends. Neither is accepted from the server.
	OpSetup Op = "setup"
	OpMain  Op = "main"
	// OpMainOutput brings what the main process prints on one stream, as Data frames and End: from an init that inherited no
	// pipes for it. It comes before OpMain.
	OpMainOutput Op = "main_output"
	// OpAwaitMain waits, as OpMain's stream does, for the end of a main process that was started over an earlier connection.
	OpAwaitMain Op = "await_main"
	// OpLetGo makes an init that dialled end all commands, hang up and dial again, with the token given: what it holds of the
	// host cannot be saved. OpReturn is the first frame of the new connection, from the init.
	OpLetGo  Op = "let_go"
	OpReturn Op = "return"
	// OpStop asks the init to end the main process. The shim does not rely on it.
	OpStop Op = "stop"
	// OpSignal sends a signal to the main process.
	OpSignal Op = "signal"
)

// Operations of the shim itself.
const (
	OpInfo   Op = "info"
	OpWait   Op = "wait"
	OpStats  Op = "stats"
	OpOutput Op = "output"
	OpForget Op = "forget"
	// OpCheckpoint saves a running sandbox in a directory of the host, Path, and lets it go on. OpSuspend saves it in the state
	// directory and ends its processes; OpResume brings them back.
	OpCheckpoint Op = "checkpoint"
	OpSuspend    Op = "suspend"
	// OpPause freezes every process of the sandbox, OpResume lets them go on. Both answer once that is so.
	OpPause  Op = "pause"
	OpResume Op = "resume"
	// OpBegin gives a prepared sandbox the main process that begin.json names, once. Env is more of its environment. It answers when that runs.
	OpBegin Op = "begin"
)

// Request is the first frame of a connection. Which members count depends on Op.
type Request struct {
	Version int `json:"version"`
	Op      Op  `json:"op"`

	// Argv, Env and Dir: exec, exec_create and main. Env entries are NAME=value and are laid over the environment of setup.
	Argv []string `json:"argv,omitempty"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"`
	// TTY, Width, Height and Stdin: exec, exec_create; Width and Height: exec_resize.
	TTY    bool   `json:"tty,omitempty"`
	Width  uint16 `json:"width,omitempty"`
	Height uint16 `json:"height,omitempty"`
	Stdin  bool   `json:"stdin,omitempty"`

	// Exec names a command: exec_*. Limit is then how much of its output is kept, Drop that the oldest goes when there is more, rather
	// than that the command waits; Timeout is when it is killed, 0 for never.
	Exec    string        `json:"exec,omitempty"`
	Drop    bool          `json:"drop,omitempty"`
	Timeout time.Duration `json:"timeout_ns,omitempty"`
	// Quiet: exec_attach, without output. With Stdin the caller becomes the writer of standard input, behind what came before.
	Quiet bool `json:"quiet,omitempty"`

	// Name: write_archive, write_from, file_state; what it is called in a directory that is there.
	Name string `json:"name,omitempty"`
	// Path: files and archives. Limit is the most bytes that may be read or written.
	Path  string `json:"path,omitempty"`
	Limit int64  `json:"limit,omitempty"`
	// Mode is the permission of a new file.
	Mode uint32 `json:"mode,omitempty"`

	// Disk: checkpoint.
	Disk *Disk `json:"disk,omitempty"`

	// Grace: stop. Why says who asked, to an init in a pod.
	Grace time.Duration `json:"grace_ns,omitempty"`
	Why   string        `json:"why,omitempty"`
	// Port: dial.
	Port int `json:"port,omitempty"`
	// Signal: signal, exec_signal.
	Signal int `json:"signal,omitempty"`

	// Token: let_go and return.
	Token string `json:"token,omitempty"`

	// Stream: main_output.
	Stream Stream `json:"stream,omitempty"`

	// Offset: output, exec_attach, read_from, write_from. Follow: output, exec_attach.
	Offset int64 `json:"offset,omitempty"`
	Follow bool  `json:"follow,omitempty"`

	// Bare and Skip: read_archive; without the content of files, and without the files of these names.
	Bare bool     `json:"bare,omitempty"`
	Skip []string `json:"skip,omitempty"`
	// Begun: read_archive; the files that come without their beginning, if that is what the caller has.
	Begun []archive.Begun `json:"begun,omitempty"`

	// Prefix: read_from and write_from with an offset; the SHA-256 digest of the content before it.
	Prefix []byte `json:"prefix,omitempty"`
	// Size and ModTime: write_from; of the whole file.
	Size    int64     `json:"size,omitempty"`
	ModTime time.Time `json:"mod_time,omitzero"`
}

// Disk is a sandbox's file system in a file, mounted at a directory, to be copied together with its memory: nothing of the sandbox runs
// then. At most Limit bytes of content are copied.
type Disk struct {
	File  string `json:"file"`
	Mount string `json:"mount"`
	Limit int64  `json:"limit"`
}

// FileInfo is the first reply of read_file and read_from.
type FileInfo struct {
	Size    int64     `json:"size"`
	Mode    uint32    `json:"mode"`
	ModTime time.Time `json:"mod_time"`
}

// FileState is the reply of file_state.
type FileState struct {
	// File is the regular file that is there, nil for none.
	File *FileInfo `json:"file,omitempty"`
	// Partial is how many bytes a write that broke off has left.
	Partial int64 `json:"partial,omitempty"`
	// Busy: a write is under way.
	Busy bool `json:"busy,omitempty"`
}

// OutputInfo is the first reply of output.
type OutputInfo struct {
	// Session names the run that the output is from.
	Session string `json:"session"`
	// End is how much was printed so far.
	End int64 `json:"end"`
}

// Started is the payload of a Started frame.
type Started struct {
	// PID is the process's id inside the sandbox.
	PID int `json:"pid"`
}

// Exit is the payload of an Exit frame: Signal is 0 for a process that ended by itself, else Code is 128 + Signal.
type Exit struct {
	Code   int32 `json:"code"`
	Signal int   `json:"signal,omitempty"`
}

// ExecState is what is told of a command that is kept.
type ExecState struct {
	ID string `json:"id"`
	// Command is the program and its arguments, or, Shortened, the beginning of them.
	Command   []string      `json:"command"`
	Shortened bool          `json:"shortened,omitempty"`
	TTY       bool          `json:"tty,omitempty"`
	Stdin     bool          `json:"stdin,omitempty"`
	Drop      bool          `json:"drop,omitempty"`
	Limit     int64         `json:"limit"`
	Timeout   time.Duration `json:"timeout_ns,omitempty"`
	CreatedAt time.Time     `json:"created_at"`
	// First and End are the offsets of the output that is kept: End is how much was printed so far.
	First int64 `json:"first,omitempty"`
	End   int64 `json:"end,omitempty"`
	// StdinOffset is how much standard input came, StdinTaken how much of it the process has.
	StdinOffset int64 `json:"stdin_offset,omitempty"`
	StdinTaken  int64 `json:"stdin_taken,omitempty"`
	StdinClosed bool  `json:"stdin_closed,omitempty"`
	// ExitCode and Signal are how the process ended, as in Exit; nil while it runs. TimedOut says that it was killed for its timeout.
	// Done: all that it printed is counted in End.
	ExitCode *int32    `json:"exit_code,omitempty"`
	Signal   int       `json:"signal,omitempty"`
	TimedOut bool      `json:"timed_out,omitempty"`
	EndedAt  time.Time `json:"ended_at,omitzero"`
	Done     bool      `json:"done,omitempty"`
}

// Code classifies an Error.
type Code string

// The codes. They mean the same from the init and from the shim.
const (
	CodeCommandNotFound  Code = "COMMAND_NOT_FOUND"
	CodePermissionDenied Code = "PERMISSION_DENIED"
	CodeExecFailed       Code = "EXEC_FAILED"
	CodeNotFound         Code = "NOT_FOUND"
	CodeIsDirectory      Code = "IS_DIRECTORY"
	CodeTooLarge         Code = "TOO_LARGE"
	// CodeChanged: a file does not begin with what the request says.
	CodeChanged Code = "CHANGED"
	// CodeBusy: somebody else is just writing the file.
	CodeBusy     Code = "BUSY"
	CodeIOFailed Code = "IO_FAILED"
	// CodePortClosed: a port takes no connection, or the program there cut it.
	CodePortClosed Code = "PORT_CLOSED"
	// CodeInvalid: the request makes no sense; nothing was tried.
	CodeInvalid Code = "INVALID"
	// CodeExhausted: a named limit of the shim or the init is reached.
	CodeExhausted Code = "EXHAUSTED"
	// CodeStartFailed: the OCI runtime or the init could not start the sandbox.
	CodeStartFailed Code = "START_FAILED"
	// CodeNotRunning: the sandbox is not there yet, stopping, or gone.
	CodeNotRunning Code = "NOT_RUNNING"
	// CodePaused: the sandbox is frozen and does nothing until it is resumed.
	CodePaused Code = "PAUSED"
	// CodeNotSaved: the runtime could not save the sandbox.
	CodeNotSaved Code = "NOT_SAVED"
	// CodeGap: output before the offset asked for was already discarded.
	CodeGap Code = "REPLAY_GAP"
	// CodeNoExec: there is no command of that name, or not any more. CodeExecExists: the name was used for another one.
	CodeNoExec     Code = "EXEC_NOT_FOUND"
	CodeExecExists Code = "EXEC_EXISTS"
	// CodeExecEnded: the command has ended. CodeInputClosed: its standard input was closed. CodeInputTaken: another writes to it.
	CodeExecEnded   Code = "EXEC_ENDED"
	CodeInputClosed Code = "EXEC_INPUT_CLOSED"
	CodeInputTaken  Code = "EXEC_INPUT_TAKEN"
	// CodeOffset: the offset asked for was never reached.
	CodeOffset Code = "INVALID_RESUME_OFFSET"
	// CodeInternal: the shim could not do its part.
	CodeInternal Code = "INTERNAL"
)

// Error is the payload of an Error frame.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Path, Size and Limit: file operations.
	Path  string `json:"path,omitempty"`
	Size  int64  `json:"size,omitempty"`
	Limit int64  `json:"limit,omitempty"`
}

// Error returns code and message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf returns an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

const unknownOperation = "unknown operation "

// UnknownOperation is what shims and inits of all versions say of an operation that they do not know.
func UnknownOperation(op Op) *Error { return Errorf(CodeInvalid, unknownOperation+"%q", op) }

// IsUnknownOperation recognises it by its message.
func IsUnknownOperation(message string) bool { return strings.HasPrefix(message, unknownOperation) }

// Stream says where output came from.
type Stream uint8

// The streams.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Output is one piece of the main process's output, as kept in the spool.
type Output struct {
	// Offset counts all bytes of both streams before this piece, from the sandbox's start.
	Offset int64
	Time   time.Time
	Stream Stream
	Data   []byte
}

// AppendOutput appends the payload of an Output frame: stream, seven zero bytes, time (Unix nanoseconds), offset, data.
func AppendOutput(b []byte, o Output) []byte {
	var h [OutputHeader]byte
	h[0] = byte(o.Stream)
	binary.BigEndian.PutUint64(h[8:], uint64(o.Time.UnixNano()))
	binary.BigEndian.PutUint64(h[16:], uint64(o.Offset))
	return append(append(b, h[:]...), o.Data...)
}

// ParseOutput reads the payload of an Output frame. Data points into it.
func ParseOutput(p []byte) (Output, error) {
	if len(p) < OutputHeader {
		return Output{}, fmt.Errorf("%w: output of %d bytes", ErrMalformed, len(p))
	}
	o := Output{
		Stream: Stream(p[0]),
		Time:   time.Unix(0, int64(binary.BigEndian.Uint64(p[8:]))),
		Offset: int64(binary.BigEndian.Uint64(p[16:])),
		Data:   p[OutputHeader:],
	}
	if (o.Stream != Stdout && o.Stream != Stderr) || o.Offset < 0 {
		return Output{}, fmt.Errorf("%w: output of stream %d at %d", ErrMalformed, o.Stream, o.Offset)
	}
	return o, nil
}

// Uint32 returns the payload of a Credit frame, or the two halves of a Resize frame (width << 16 | height).
func (f Frame) Uint32() (uint32, error) {
	if len(f.Payload) != 4 {
		return 0, fmt.Errorf("%w: type %d with %d bytes, want 4", ErrMalformed, f.Type, len(f.Payload))
	}
	return binary.BigEndian.Uint32(f.Payload), nil
}

// Int64 returns the payload of a Received frame.
func (f Frame) Int64() (int64, error) {
	if len(f.Payload) != 8 {
		return 0, fmt.Errorf("%w: type %d with %d bytes, want 8", ErrMalformed, f.Type, len(f.Payload))
	}
	return int64(binary.BigEndian.Uint64(f.Payload)), nil
}

// AppendReceived appends a Received frame to b.
func AppendReceived(b []byte, offset int64) []byte {
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], uint64(offset))
	return Append(b, TypeReceived, p[:])
}

// AppendUint32 appends a Credit or Resize frame to b.
func AppendUint32(b []byte, t Type, v uint32) []byte {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], v)
	return Append(b, t, p[:])
}
