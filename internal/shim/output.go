package shim

import (
	"context"
	"fmt"
	"io"

	"github.com/bermhq/berm/internal/shim/spool"
	"github.com/bermhq/berm/internal/shim/wire"
)

// Output is a stream of what the main process printed.
type Output struct {
	conn *conn
	// Session names the run; offsets of another session mean nothing.
	Session string
	// End is how much had been printed when the stream began.
	End int64
}

// Output opens the main process's output at an offset, -1 for the oldest that is kept. It fails with OutOfRange and reason
// REPLAY_GAP when output at the offset was discarded, and Invalid when the offset was never reached. With follow it goes on
// until the sandbox ends.
func (c *Client) Output(ctx context.Context, offset int64, follow bool) (*Output, error) {
	conn, err := c.open(ctx, wire.Request{Op: wire.OpOutput, Offset: offset, Follow: follow})
	if err != nil {
		return nil, err
	}
	var info wire.OutputInfo
	f, err := conn.expect(wire.TypeOK)
	if err == nil {
		err = f.Decode(&info)
	}
	if err != nil {
		conn.abandon()
		return nil, err
	}
	return &Output{conn: conn, Session: info.Session, End: info.End}, nil
}

// Recv returns the next piece; its data is valid until the next call. io.EOF means that there is no more, an error that the
// end is not known.
func (o *Output) Recv() (wire.Output, error) {
	f, err := o.conn.frames.Read()
	if err != nil {
		return wire.Output{}, o.conn.fail(err)
	}
	switch f.Type {
	case wire.TypeOutput:
		out, err := wire.ParseOutput(f.Payload)
		if err != nil {
			return wire.Output{}, errInterrupted(err)
		}
		return out, nil
	case wire.TypeEnd:
		return wire.Output{}, io.EOF
	case wire.TypeError:
		return wire.Output{}, errorFrame(f)
	default:
		return wire.Output{}, errInterrupted(fmt.Errorf("%w: type %d in output", wire.ErrMalformed, f.Type))
	}
}

// Close ends the stream.
func (o *Output) Close() error { return o.conn.Close() }

// OpenOutput reads the output from the state directory, without a shim, from an offset on (-1 for the oldest kept).
func OpenOutput(dir string, offset int64) (*spool.Reader, error) {
	return spool.Open(OutputDir(dir), offset)
}
