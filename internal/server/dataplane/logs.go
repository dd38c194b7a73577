package dataplane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

const (
	// stampedSession ends the session names of streams with timestamps: who resumes one gets them again.
	stampedSession = ".t"
	// stampFormat is what a line begins with then, before a blank.
	stampFormat = "2006-01-02T15:04:05.000000000Z"
)

// Codes of error frames that only logs have.
const (
	codeLogsFailed         = "LOGS_FAILED"
	codeStreamBackpressure = "STREAM_BACKPRESSURE"
)

type logStream = grpc.BidiStreamingServer[v1beta2pb.LogStreamRequest, v1beta2pb.LogStreamResponse]

// errOvertaken ends a stream whose reader was too slow: output that it did not get was discarded.
var errOvertaken = errors.New("output was discarded before it was read")

// StreamLogs sends what the main process printed, both streams together, and then complete, or with follow nothing: the end
// of the stream. An error frame is the last message. Offsets count what the process printed, so they jump over what is not
// kept any more; the first message's says how much that is.
func (s *streaming) StreamLogs(stream logStream) error {
	init, q, stamped, err := firstLogInit(stream)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer s.onDrain(func() { cancel(errDraining) })()
	go func() { cancel(awaitClose(stream)) }()
	l := &logSender{stream: stream, stamped: stamped, lineStart: true}
	if q.Session != "" && stamped && q.Offset > 0 {
		q.Offset-- // the byte before says whether a line begins
		l.skip = 1
	}
	r, err := s.control.Logs(ctx, edge.Principal(ctx), init.GetSandboxId(), q)
	if err == nil {
		err = l.run(r)
		_ = r.Close() // what was read is sent
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errClosed):
		return nil
	case cause != nil && stream.Context().Err() == nil:
		err = cause
	}
	switch {
	case err != nil:
		return s.finishLogs(ctx, stream, err)
	case init.GetFollow():
		return nil
	}
	return stream.Send(&v1beta2pb.LogStreamResponse{Response: &v1beta2pb.LogStreamResponse_Complete{Complete: &v1beta2pb.LogStreamComplete{}}})
}

// firstLogInit reads and checks the first message.
func firstLogInit(stream logStream) (init *v1beta2pb.LogStreamInit, q backend.LogQuery, stamped bool, err error) {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, q, false, badStream("the stream ended before its first message, init")
	}
	if err != nil {
		return nil, q, false, err
	}
	if init = first.GetInit(); init == nil {
		return nil, q, false, badStream("the first message is not init")
	}
	q = backend.LogQuery{Follow: init.GetFollow()}
	if init.GetResumeSessionId() != "" {
		q.Session, stamped = strings.CutSuffix(init.GetResumeSessionId(), stampedSession)
		q.Offset = int64(min(init.GetResumeOffset(), math.MaxInt64)) //nolint:gosec // bounded
	} else {
		stamped = init.GetTimestamps()
	}
	if f := checkLogInit(init, stamped); len(f.Fields) > 0 {
		return nil, q, false, f
	}
	if n := int64(init.GetTailLines()); n > 0 {
		q.Tail = &n
	}
	if t := init.GetSinceTime(); t != nil {
		q.Since = t.AsTime()
	}
	return init, q, stamped, nil
}

func checkLogInit(init *v1beta2pb.LogStreamInit, stamped bool) *fault.Error {
	f := badStream("invalid init")
	if t := init.GetSinceTime(); t != nil && t.CheckValid() != nil {
		f.WithField("init.since_time", "is no time")
	}
	if init.GetTailLines() < 0 {
		f.WithField("init.tail_lines", "%d is negative; 0 asks for all", init.GetTailLines())
	}
	switch {
	case init.GetResumeSessionId() == "":
		if init.GetResumeOffset() != 0 {
			f.WithField("init.resume_offset", "needs resume_session_id")
		}
	case !init.GetFollow() || init.GetTailLines() != 0 || init.GetSinceTime() != nil:
		f.WithField("init.resume_session_id", "needs follow, and excludes tail_lines and since_time")
	case init.GetTimestamps() && !stamped: // the published client repeats the flag of the stream that it resumes
		f.WithField("init.timestamps", "the session to resume has none")
	}
	return f
}

var errClosed = errors.New("the client closed the stream")

// awaitClose returns errClosed when the client has enough, nil when the call is over; the end of its side alone says nothing.
func awaitClose(stream logStream) error {
	m, err := stream.Recv()
	switch {
	case fault.Is(err, fault.Invalid): // it does not decode
		return err
	case err != nil:
		<-stream.Context().Done()
		return nil //nolint:nilerr // the call goes on, or is over, and its context says why
	case m.GetClose() != nil:
		return errClosed
	}
	return badStream("only close may follow init")
}

// logSender writes frames of output as messages.
type logSender struct {
	stream  logStream
	stamped bool
	session string
	// skip is how many bytes are looked at and not sent; lineStart says that the next byte begins a line.
	skip      int
	lineStart bool
	sent      bool
	// lost is how much was not kept before whatever comes next.
	lost int64
}

// run sends what a reader gives, to its end.
func (l *logSender) run(r backend.LogReader) error {
	for {
		f, err := r.Recv()
		if errors.Is(err, io.EOF) && l.lost > 0 { // and no message tells of it
			return fault.New(fault.OutOfRange, fault.ReasonOutputNotKept, "the last %d bytes of the output were not kept: the disk may have been full", l.lost)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		l.session = r.Session()
		if l.stamped {
			l.session += stampedSession
		}
		if f.Kind == backend.LogGap {
			if l.sent {
				return errOvertaken
			}
			l.lost += f.Lost
			continue // the offsets of the first message tell
		}
		l.lost = 0
		if err := l.send(f); err != nil {
			return err
		}
	}
}

// maxLog is the most output in one message of a log, in bytes. grpc-go's buffers have 32 KiB or 1 MiB, and it clears the larger ones as a
// whole: messages that fit into the smaller ones take a quarter less CPU.
const maxLog = 32<<10 - 64

func (l *logSender) send(f backend.LogFrame) error {
	for chunk := range slices.Chunk(f.Data, maxLog) {
		end := f.Offset + int64(len(chunk))
		f.Offset = end
		data := l.stamp(chunk, f.At)
		if len(data) == 0 {
			continue
		}
		l.sent = true
		err := l.stream.Send(&v1beta2pb.LogStreamResponse{Response: &v1beta2pb.LogStreamResponse_Data{Data: &v1beta2pb.LogStreamData{
			Data: data, Timestamp: wire.Time(f.At), SessionId: l.session, Offset: uint64(end), //nolint:gosec // offsets count up from 0
		}}})
		if err != nil {
			return err
		}
	}
	return nil
}

// stamp puts the time in front of every line.
func (l *logSender) stamp(data []byte, at time.Time) []byte {
	if l.skip > 0 {
		l.lineStart = data[0] == '\n'
		data, l.skip = data[1:], 0
	}
	if !l.stamped {
		return data
	}
	out := make([]byte, 0, len(data)+len(stampFormat)+1)
	for len(data) > 0 {
		if l.lineStart {
			out = append(at.UTC().AppendFormat(out, stampFormat), ' ')
		}
		n := bytes.IndexByte(data, '\n') + 1
		if l.lineStart = n > 0; n == 0 {
			n = len(data)
		}
		out = append(out, data[:n]...)
		data = data[n:]
	}
	return out
}

// finishLogs ends a stream with an error frame and OK, or with a status where the call itself is at fault or over.
func (s *streaming) finishLogs(ctx context.Context, stream logStream, err error) error {
	if stream.Context().Err() != nil {
		return timedOut(stream.Context())
	}
	code := logCode(err)
	var text string
	switch code {
	case "":
		return err
	case codeRunnerDraining:
		text = "the server is shutting down; the output goes on"
	case codeStreamBackpressure:
		text = "some of the output is not there any more: it was not read as fast as it was printed, or the disk where it is kept was full"
	default:
		text = wire.Text(err, edge.RequestID(ctx))
	}
	edge.Note(ctx, err)
	return stream.Send(&v1beta2pb.LogStreamResponse{Response: &v1beta2pb.LogStreamResponse_Error{
		Error: &v1beta2pb.LogStreamError{Code: code, Message: text},
	}})
}

// logCode returns the code of an error frame, "" for what is told as a status.
func logCode(err error) string {
	switch {
	case errors.Is(err, errOvertaken):
		return codeStreamBackpressure
	case fault.HasReason(err, fault.ReasonResumeOffset):
		return fault.ReasonResumeOffset
	}
	switch f := fault.From(err); f.Code {
	case fault.OutOfRange: // discarded, or not kept any more
		return f.Reason
	case fault.Precondition:
		if f.Reason == fault.ReasonStreamTruncated {
			return f.Reason
		}
	case fault.NotFound, fault.Denied, fault.Unavailable, fault.Invalid, fault.Unauthenticated, fault.Unimplemented, fault.Deadline, fault.Canceled:
		return frameCode(err)
	case fault.Internal, fault.Exhausted, fault.Exists, fault.Conflict:
	}
	if errors.Is(err, errDraining) {
		return codeRunnerDraining
	}
	return codeLogsFailed
}
