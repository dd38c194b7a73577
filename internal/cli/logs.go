package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/cli/visible"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// A followed stream that breaks off is taken up again, at first after the shorter of these, and given up after this many
// attempts in a row that brought nothing.
const (
	minResume      = 250 * time.Millisecond
	maxResume      = 4 * time.Second
	resumeAttempts = 8
)

func (s *session) logsCmd() *cobra.Command {
	var l logsFlags
	c := &cobra.Command{
		Use:   "logs [flags] SANDBOX",
		Short: "Show what a sandbox's main process printed",
		Long: `Show what a sandbox's main process printed, of a sandbox that runs or has ended, as long as its output is kept. What it wrote to
standard output goes to standard output, what it wrote to standard error to standard error. What is not there any more is told on
standard error. A followed stream that breaks off goes on where it was.

On a terminal, control characters are shown as text, so that a sandbox cannot play tricks on whoever looks; --raw writes what was
printed as it is.`,
		Args: args(1, 1, "the id of a sandbox"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			req, err := l.request(a[0], time.Now())
			if err != nil {
				return err
			}
			return s.logs(ctx, c, req, l)
		}),
	}
	f := c.Flags()
	f.BoolVarP(&l.follow, "follow", "f", false, "go on until the sandbox ends")
	f.Int64VarP(&l.tail, "tail", "n", -1, "begin at the last lines (default: all)")
	f.StringVar(&l.since, "since", "", "begin at a time ago (5m, 2h) or at a time (2006-01-02T15:04:05Z)")
	f.BoolVar(&l.timestamps, "timestamps", false, "put the time in front of every line")
	f.BoolVar(&l.raw, "raw", false, "do not make control characters visible on a terminal")
	return c
}

type logsFlags struct {
	follow, timestamps, raw bool
	tail                    int64
	since                   string
}

func (l *logsFlags) request(id string, now time.Time) (*bermv1.StreamLogsRequest, error) {
	req := &bermv1.StreamLogsRequest{SandboxId: id, Follow: l.follow}
	switch {
	case l.tail >= 0:
		req.TailLines = &l.tail
	case l.tail < -1:
		return nil, fault.Invalidf("USAGE", "--tail %d is negative", l.tail)
	}
	if l.since == "" {
		return req, nil
	}
	if d, err := time.ParseDuration(l.since); err == nil {
		if d < 0 {
			return nil, fault.Invalidf("USAGE", "--since %s lies in the future", l.since)
		}
		req.Since = timestamppb.New(now.Add(-d))
		return req, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, l.since, time.Local); err == nil {
			req.Since = timestamppb.New(t)
			return req, nil
		}
	}
	return nil, fault.Invalidf("USAGE", "--since %q is neither a time ago nor a time", l.since).WithHint("Use 90s, 5m, 2h, or 2006-01-02T15:04:05Z.")
}

// logs shows the output, and takes a followed stream up again where it broke off.
func (s *session) logs(ctx context.Context, c *client.Client, req *bermv1.StreamLogsRequest, flags logsFlags) error {
	out := s.logWriter(flags)
	for attempt, wait := 0, minResume; ; attempt++ {
		got, err := s.streamLogs(ctx, c, req, out)
		if got {
			attempt, wait = 0, minResume
		}
		if err == nil || !req.GetFollow() || !fault.Is(err, fault.Unavailable) || attempt >= resumeAttempts || (attempt == 0 && !got && req.GetSession() == "") {
			return errors.Join(err, out.flush())
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, maxResume)
	}
}

// streamLogs shows one stream, and notes in the request where the next one has to begin. It reports whether anything came.
func (s *session) streamLogs(ctx context.Context, c *client.Client, req *bermv1.StreamLogsRequest, out *logWriter) (got bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Logs().StreamLogs(ctx, req)
	if err != nil {
		return false, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, client.FromRPC(err)
		}
		got = true
		switch e := m.GetEvent().(type) {
		case *bermv1.StreamLogsResponse_Gap:
			fmt.Fprintf(s.Err, "berm: %d bytes of output are not there any more\n", e.Gap.GetBytes())
		case *bermv1.StreamLogsResponse_Output:
			if err := out.write(e.Output); err != nil {
				return got, fault.New(fault.Canceled, "OUTPUT_CLOSED", "cannot write the output: %v", err)
			}
			req.Session, req.Offset = e.Output.GetSession(), e.Output.GetOffset()+int64(len(e.Output.GetData()))
			req.TailLines, req.Since = nil, nil
		}
	}
}

// logWriter keeps the two streams apart.
type logWriter struct {
	streams    map[bermv1.LogOutput_Stream]*logLines
	timestamps bool
}

type logLines struct {
	w      io.Writer
	inLine bool
}

func (s *session) logWriter(flags logsFlags) *logWriter {
	safe := func(w io.Writer) io.Writer {
		if f, ok := w.(*os.File); ok && isTerminal(f) && !flags.raw {
			return visible.New(w)
		}
		return w
	}
	return &logWriter{timestamps: flags.timestamps, streams: map[bermv1.LogOutput_Stream]*logLines{
		bermv1.LogOutput_STREAM_STDOUT: {w: safe(s.Out)}, bermv1.LogOutput_STREAM_STDERR: {w: safe(s.Err)},
	}}
}

func (l *logWriter) write(o *bermv1.LogOutput) error {
	to := l.streams[o.GetStream()]
	if to == nil {
		to = l.streams[bermv1.LogOutput_STREAM_STDOUT]
	}
	data := o.GetData()
	if l.timestamps {
		data = to.stamped(data, o.GetTime().AsTime())
	}
	_, err := to.w.Write(data)
	return err
}

// stamped puts the time in front of every line.
func (l *logLines) stamped(data []byte, at time.Time) []byte {
	var out []byte
	for line := range bytes.Lines(data) {
		if !l.inLine {
			out = append(at.UTC().AppendFormat(out, "2006-01-02T15:04:05.000000Z"), ' ')
		}
		out = append(out, line...)
		l.inLine = line[len(line)-1] != '\n'
	}
	return out
}

func (l *logWriter) flush() (err error) {
	for _, to := range l.streams {
		if v, ok := to.w.(*visible.Writer); ok {
			err = errors.Join(err, v.Flush())
		}
	}
	return err
}
