package bermv1

import (
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

// maxChunk is the most content in one message, in bytes: what fits, with the message around it, into the smaller buffers of
// grpc-go.
const maxChunk = 32<<10 - 128

type logService struct {
	bermv1rpc.UnsafeLogServiceServer
	*Front
}

var _ bermv1rpc.LogServiceServer = (*logService)(nil)

// StreamLogs sends what the main process of a sandbox printed.
func (s *logService) StreamLogs(r *bermv1.StreamLogsRequest, stream grpc.ServerStreamingServer[bermv1.StreamLogsResponse]) error {
	q := backend.LogQuery{Follow: r.GetFollow(), Tail: r.TailLines, Session: r.GetSession(), Offset: r.GetOffset()}
	if t := r.GetSince(); t != nil {
		if t.CheckValid() != nil {
			return fault.Invalidf(fault.ReasonInvalidRequest, "invalid request for logs").WithField("since", "is no time")
		}
		q.Since = t.AsTime()
	}
	ctx, done := s.untilDrain(stream.Context())
	defer done()
	reader, err := s.control.Logs(ctx, edge.Principal(ctx), r.GetSandboxId(), q)
	if err != nil {
		return drained(ctx, err)
	}
	defer func() { _ = reader.Close() }() // what was read is sent
	for {
		f, err := reader.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = sendLog(stream, reader.Session(), f)
		}
		if err != nil {
			return drained(ctx, err)
		}
	}
}

func sendLog(stream grpc.ServerStreamingServer[bermv1.StreamLogsResponse], session string, f backend.LogFrame) error {
	kind := bermv1.LogOutput_STREAM_STDOUT
	switch f.Kind {
	case backend.LogGap:
		return stream.Send(&bermv1.StreamLogsResponse{Event: &bermv1.StreamLogsResponse_Gap{Gap: &bermv1.LogGap{Offset: f.Offset, Bytes: f.Lost}}})
	case backend.LogStderr:
		kind = bermv1.LogOutput_STREAM_STDERR
	case backend.LogStdout:
	}
	for chunk := range slices.Chunk(f.Data, maxChunk) {
		err := stream.Send(&bermv1.StreamLogsResponse{Event: &bermv1.StreamLogsResponse_Output{Output: &bermv1.LogOutput{
			Stream: kind, Data: chunk, Time: wire.Time(f.At), Offset: f.Offset, Session: session,
		}}})
		if err != nil {
			return err
		}
		f.Offset += int64(len(chunk))
	}
	return nil
}
