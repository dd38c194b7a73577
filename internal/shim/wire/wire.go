// Package wire is the protocol of a sandbox's shim: how the server talks to the shim, and the shim to the init inside.
//
// Both hops carry the same frames, over a unix socket to the shim and over yamux streams from the shim to the init. A
// connection (or stream) carries one request and ends with it; closing it early abandons the request. Version 1:
//
//	offset 0  uint32  length of the payload, big endian
//	offset 4  uint8   type
//	offset 5  [3]byte zero, reserved
//	offset 8  payload
//
// The first frame is a Request with JSON in it. What follows depends on the operation:
//
//	exec        Started, then Stdout and Stderr as produced, and last exactly one Exit or Error. The other way Stdin,
//	            CloseStdin, Resize and Signal in any order. At most StdinWindow bytes of Stdin may be outstanding;
//	            Credit gives back what the process has taken, so Resize and Signal never wait behind unread input.
//	exec_create, exec_signal, exec_resize
//	            OK with ExecState, or Error. exec_delete: OK or Error. exec_list: an OK for each command, then End; or Error.
//	exec_attach OK with ExecState, then Output, and Credit for input that the process took, 0 when it was
//	            closed; last Exit with ExecState, or without
//	            follow End when there is no more now, or Error. The other way Received, which says up to which offset
//	            the caller has the output, Stdin and CloseStdin. Whoever hangs up leaves the command running.
//	read_file   OK with FileInfo, then Data, then End; or Error at any time.
//	write_file  OK once the file can be written; then Data and End the other way; then OK when it is in place. Error at
//	            any time. A connection that ends without End leaves what was there before.
//	read_archive, write_archive
//	            as read_file and write_file, with an archive for content.
//	read_from, write_from
//	            as read_file and write_file, from an offset on. A write_from that ends without End leaves what came, for
//	            another one to go on with, beside what was there before.
//	dial        Started once a program has accepted the connection. Then both ways Data and, when a half ends, End; at most
//	            PipeWindow bytes of Data may be outstanding, and Credit gives back what was taken. OK when both halves have
//	            ended; Error at any time. A caller that hangs up before has cut the connection.
//	output      OK with OutputInfo, then Output frames; End when no more will come.
//	others      OK or Error.
//
// Payloads larger than the limits below end the connection. JSON members that a reader does not know are ignored, so
// that members can be added; a change of meaning takes a new Version.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Version of the protocol. A request of another version is refused.
const Version = 1

// Limits.
const (
	// HeaderSize is the length of a frame's header, in bytes.
	HeaderSize = 8
	// MaxRequest is the largest Request payload, in bytes: arguments and environment of a command.
	MaxRequest = 1 << 20
	// MaxReply is the largest payload of any other JSON frame, in bytes.
	MaxReply = 64 << 10
	// MaxData is the most content that a Data, Stdin, Stdout or Stderr frame carries, in bytes.
	MaxData = 64 << 10
	// MaxChunk is the most output in one piece of what is kept: of a main process, or of a command that outlives its caller, in bytes.
	MaxChunk = 32 << 10
	// OutputHeader is what an Output frame has before its content, in bytes.
	OutputHeader = 24
	// StdinWindow is how much standard input may be on the way to a process, in bytes.
	StdinWindow = 256 << 10
)

// Type is the type of a frame.
type Type uint8

// The frame types. Numbers are never reused.
const (
	TypeRequest    Type = 1
	TypeOK         Type = 2
	TypeError      Type = 3
	TypeData       Type = 4
	TypeEnd        Type = 5
	TypeStarted    Type = 6
	TypeStdin      Type = 7
	TypeCloseStdin Type = 8
	TypeStdout     Type = 9
	TypeStderr     Type = 10
	TypeCredit     Type = 11
	TypeResize     Type = 12
	TypeSignal     Type = 13
	TypeExit       Type = 14
	TypeOutput     Type = 15
	TypeReceived   Type = 16
)

// limits says how large a payload of each type may be. A type without an entry is not part of the protocol.
var limits = [...]int{
	TypeRequest: MaxRequest, TypeOK: MaxReply, TypeError: MaxReply, TypeData: MaxData, TypeEnd: 0, TypeStarted: MaxReply,
	TypeStdin: MaxData, TypeCloseStdin: 0, TypeStdout: MaxData, TypeStderr: MaxData, TypeCredit: 4, TypeResize: 4,
	TypeSignal: 1, TypeExit: MaxReply, TypeOutput: OutputHeader + MaxData, TypeReceived: 8,
}

// ErrMalformed is in the chain of every error about bytes that are no frame.
var ErrMalformed = errors.New("malformed frame")

// Frame is one frame. Payload is valid until the next read from the Reader that gave it.
type Frame struct {
	Type    Type
	Payload []byte
	raw     []byte
}

// Raw returns the whole frame as it was read, header included, to pass it on.
func (f Frame) Raw() []byte { return f.raw }

// Reader reads frames and never allocates more than the largest payload allowed for a type.
type Reader struct {
	r   io.Reader
	buf []byte // a header, then room for a payload
}

// NewReader returns a Reader of r, which should be buffered if its reads are system calls.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, buf: make([]byte, smallFrame)} }

// Read returns the next frame. It returns io.EOF at the end between two frames, io.ErrUnexpectedEOF within one, and an
// error with ErrMalformed for what the protocol does not allow.
func (r *Reader) Read() (Frame, error) {
	if _, err := io.ReadFull(r.r, r.buf[:HeaderSize]); err != nil {
		return Frame{}, err
	}
	n, t, err := parseHeader(r.buf)
	if err != nil {
		return Frame{}, err
	}
	if len(r.buf) < HeaderSize+n {
		r.buf = append(make([]byte, 0, roundUp(HeaderSize+n)), r.buf[:HeaderSize]...)
		r.buf = r.buf[:cap(r.buf)]
	}
	raw := r.buf[:HeaderSize+n]
	if _, err := io.ReadFull(r.r, raw[HeaderSize:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return Frame{Type: t, Payload: raw[HeaderSize:], raw: raw}, nil
}

// parseHeader returns length and type, both within the protocol.
func parseHeader(h []byte) (int, Type, error) {
	n, t := binary.BigEndian.Uint32(h[:4]), Type(h[4])
	if int(t) >= len(limits) || t == 0 {
		return 0, 0, fmt.Errorf("%w: unknown type %d", ErrMalformed, t)
	}
	if h[5] != 0 || h[6] != 0 || h[7] != 0 {
		return 0, 0, fmt.Errorf("%w: reserved bytes of type %d are not zero", ErrMalformed, t)
	}
	if int64(n) > int64(limits[t]) {
		return 0, 0, fmt.Errorf("%w: payload of %d bytes, type %d may have %d", ErrMalformed, n, t, limits[t])
	}
	return int(n), t, nil
}

// smallFrame is the size of a Reader's first buffer.
const smallFrame = 512

// roundUp keeps buffers few: small ones for control frames, one size for data.
func roundUp(n int) int {
	for _, size := range []int{4 << 10, HeaderSize + MaxChunk, HeaderSize + OutputHeader + MaxData} {
		if n <= size {
			return size
		}
	}
	return n
}

// PutHeader writes a header into the first HeaderSize bytes of b, whose payload follows there. Writing header and payload
// at once keeps a frame whole when several goroutines write.
func PutHeader(b []byte, t Type, payload int) {
	binary.BigEndian.PutUint32(b, uint32(payload))
	b[4], b[5], b[6], b[7] = byte(t), 0, 0, 0
}

// Append appends a frame to b.
func Append(b []byte, t Type, payload []byte) []byte {
	var h [HeaderSize]byte
	PutHeader(h[:], t, len(payload))
	return append(append(b, h[:]...), payload...)
}

// Write writes one frame with one call of w.Write.
func Write(w io.Writer, t Type, payload []byte) error {
	if len(payload) > limits[t] {
		return fmt.Errorf("%w: payload of %d bytes, type %d may have %d", ErrMalformed, len(payload), t, limits[t])
	}
	_, err := w.Write(Append(make([]byte, 0, HeaderSize+len(payload)), t, payload))
	return err
}

// WriteJSON writes v as the payload of a frame; nil is an empty payload.
func WriteJSON(w io.Writer, t Type, v any) error {
	if v == nil {
		return Write(w, t, nil)
	}
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return Write(w, t, payload)
}

// Decode reads a JSON payload into v.
func (f Frame) Decode(v any) error {
	if len(f.Payload) == 0 {
		return nil
	}
	if err := json.Unmarshal(f.Payload, v); err != nil {
		return fmt.Errorf("%w: type %d: %w", ErrMalformed, f.Type, err)
	}
	return nil
}
