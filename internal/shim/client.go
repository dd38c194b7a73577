package shim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/shim/wire"
)

// readBuffer is the client's read buffer of a connection, in bytes: enough for a small frame; large payloads bypass it.
const readBuffer = 4 << 10

// Client talks to the shim of one sandbox. Its methods are safe for concurrent use, and each takes a connection of its
// own, so that a slow one delays no other. Errors are faults, with the reasons of the published API.
type Client struct {
	dir string
	// over, when not nil, opens connections in place of the socket in dir: to an init that has no shim.
	over func(context.Context) (net.Conn, error)
	// beginning lets one Begin at a time write down what it is to be.
	beginning sync.Mutex
}

// Connect returns a client for the shim of a state directory; it waits for one that was forked and does not listen yet. It
// fails with Precondition, CWSANDBOX_SANDBOX_NOT_RUNNING when there is none; Inspect says why.
func Connect(ctx context.Context, dir string) (*Client, error) {
	c := &Client{dir: dir}
	for {
		_, err := c.Info(ctx)
		if err == nil {
			return c, nil
		}
		st, ierr := Inspect(dir)
		if ierr != nil || st.Status != StatusStarting || !pause(ctx, lockPoll) {
			return nil, err
		}
	}
}

// Over returns a client of an init without a shim, which serves commands, files, output and stats alone. open makes a connection for
// one request.
func Over(open func(context.Context) (net.Conn, error)) *Client { return &Client{over: open} }

// Dir returns the state directory.
func (c *Client) Dir() string { return c.dir }

// Info returns the shim's record of its sandbox. While it is being paused or resumed it waits for the outcome.
func (c *Client) Info(ctx context.Context) (Record, error) {
	var r Record
	err := c.call(ctx, wire.Request{Op: wire.OpInfo}, &r)
	return r, err
}

// Wait blocks until the sandbox has ended and returns how. If the shim dies first, it returns what the state directory
// tells: the recorded end, or an Exit with ReasonLost together with ErrLost.
func (c *Client) Wait(ctx context.Context) (Exit, error) {
	var e Exit
	err := c.call(ctx, wire.Request{Op: wire.OpWait}, &e)
	if err == nil || ctx.Err() != nil {
		return e, err
	}
	return waitRecord(ctx, c.dir, err)
}

// Stop asks the main process to end (SIGTERM) and makes the shim kill the whole sandbox after the grace. It returns once
// that is under way; an ended sandbox is a success. A second Stop can only shorten the grace.
func (c *Client) Stop(ctx context.Context, grace time.Duration) error {
	err := c.call(ctx, wire.Request{Op: wire.OpStop, Grace: max(grace, 0)}, nil)
	if err != nil && ctx.Err() == nil {
		// A shim with nothing left to do goes, and gives no answer to who comes at that moment. The end was on disk before.
		if e, unread := ReadExit(c.dir); unread == nil && e != nil {
			return nil
		}
	}
	return err
}

// StopFor asks the init of a pod, which has no shim, for the same, and says why; it writes that down.
func (c *Client) StopFor(ctx context.Context, grace time.Duration, why string) error {
	return c.call(ctx, wire.Request{Op: wire.OpStop, Grace: max(grace, 0), Why: why}, nil)
}

// Pause freezes every process of the sandbox and returns when all stand still; one that is paused already is a success. A
// paused sandbox serves no commands and files, and a stop lets it go on first.
func (c *Client) Pause(ctx context.Context) error {
	return c.call(ctx, wire.Request{Op: wire.OpPause}, nil)
}

// Checkpoint saves a running sandbox in a directory, absolute, which it makes with mode 0700, and lets it go on; it stands still
// meanwhile. Commands that run are ended, and their callers get an error. Config.Restore of another sandbox takes the directory. A
// disk, nil for none, is copied to DiskFile(dir); when that cannot be done, nothing is saved and the sandbox goes on.
func (c *Client) Checkpoint(ctx context.Context, dir string, disk *wire.Disk) error {
	return c.call(ctx, wire.Request{Op: wire.OpCheckpoint, Path: dir, Disk: disk}, nil)
}

// Suspend saves a running sandbox in its state directory and ends its processes; it is paused then, without using memory, until
// Resume or a stop. Commands that run are ended, and their callers get an error.
func (c *Client) Suspend(ctx context.Context) error {
	return c.call(ctx, wire.Request{Op: wire.OpSuspend}, nil)
}

// Resume lets a paused sandbox go on.
func (c *Client) Resume(ctx context.Context) error {
	return c.call(ctx, wire.Request{Op: wire.OpResume}, nil)
}

// Signal sends a signal to the main process.
func (c *Client) Signal(ctx context.Context, signal int) error {
	return c.call(ctx, wire.Request{Op: wire.OpSignal, Signal: signal}, nil)
}

// Forget lets the shim of an ended sandbox go, and returns when nothing of the sandbox is left but its state directory. It
// fails with Precondition while the sandbox runs.
func (c *Client) Forget(ctx context.Context) error {
	return c.call(ctx, wire.Request{Op: wire.OpForget}, nil)
}

// Stats is what a sandbox uses now.
type Stats struct {
	cgroup.Stats
	// OutputBytes is what the main process printed so far.
	OutputBytes int64 `json:"output_bytes"`
}

// Stats samples the sandbox's control group.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := c.call(ctx, wire.Request{Op: wire.OpStats}, &s)
	return s, err
}

// call makes a request whose answer is one OK frame.
func (c *Client) call(ctx context.Context, req wire.Request, reply any) error {
	conn, err := c.open(ctx, req)
	if err != nil {
		return err
	}
	defer conn.abandon()
	f, err := conn.expect(wire.TypeOK)
	if err != nil {
		return err
	}
	if reply == nil {
		return nil
	}
	if err := f.Decode(reply); err != nil {
		return errInterrupted(err)
	}
	return nil
}

// conn is one request's connection. It is closed when the request's context ends.
type conn struct {
	net.Conn
	frames *wire.Reader
	ctx    context.Context //nolint:containedctx // the connection lives as long as the request
	stop   func() bool
}

// open connects and sends the request.
func (c *Client) open(ctx context.Context, req wire.Request) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, contextFault(err)
	}
	texts := slices.Concat(req.Argv, req.Env, []string{req.Dir, req.Path, req.Name}, req.Skip)
	for _, b := range req.Begun {
		texts = append(texts, b.Name)
	}
	if err := checkStrings(texts); err != nil {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "%v", err)
	}
	if err := checkEnv(req.Env); err != nil {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "%v", err)
	}
	nc, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	cn := &conn{Conn: nc, frames: wire.NewReader(bufio.NewReaderSize(nc, readBuffer)), ctx: ctx}
	cn.stop = context.AfterFunc(ctx, func() { nc.Close() }) // Before the first write: a shim may be stopped, and reads nothing.
	req.Version = wire.Version
	if err := wire.WriteJSON(nc, wire.TypeRequest, req); err != nil {
		cn.abandon()
		if errors.Is(err, wire.ErrMalformed) {
			return nil, fault.Invalidf(fault.ReasonInvalidRequest, "arguments and environment together exceed %d bytes", wire.MaxRequest)
		}
		return nil, cn.fail(err)
	}
	return cn, nil
}

// Close abandons the request if it is not over.
func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

func (c *conn) abandon() { _ = c.Close() }

// expect reads one frame, which must have the type or be an error.
func (c *conn) expect(t wire.Type) (wire.Frame, error) {
	f, err := c.frames.Read()
	if err != nil {
		return wire.Frame{}, c.fail(err)
	}
	switch f.Type {
	case t:
		return f, nil
	case wire.TypeError:
		return wire.Frame{}, errorFrame(f)
	default:
		return wire.Frame{}, errInterrupted(fmt.Errorf("%w: type %d, want %d", wire.ErrMalformed, f.Type, t))
	}
}

// fail says why reading or writing failed: the caller's context, or the shim.
func (c *conn) fail(err error) error {
	if ctxErr := c.ctx.Err(); ctxErr != nil {
		return contextFault(ctxErr)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return errInterrupted(err)
}

// errorFrame returns the fault of an Error frame.
func errorFrame(f wire.Frame) error {
	var e wire.Error
	if err := f.Decode(&e); err != nil {
		return errInterrupted(err)
	}
	return faultOf(&e)
}

func contextFault(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "the deadline passed before the sandbox answered").WithCause(err)
	}
	return fault.New(fault.Canceled, "CANCELED", "the request was cancelled").WithCause(err)
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	if c.over != nil {
		return c.over(ctx)
	}
	nc, err := dial(ctx, c.dir)
	if err != nil {
		return nil, errNotRunning(err)
	}
	return nc, nil
}

// dial connects to the socket of a state directory, however long its path: a socket address has 108 bytes.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", socketPath(d))
}

// socketPath returns a short path of the socket in an open state directory, valid while it is open.
func socketPath(dir *os.File) string {
	return filepath.Join("/proc/self/fd", fmt.Sprint(dir.Fd()), socketName)
}

// checkEnv refuses what is no setting of a variable, rather than to drop it later.
func checkEnv(env []string) error {
	for _, e := range env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return fmt.Errorf("environment entry %q: want NAME=value", e)
		}
	}
	return nil
}

// checkStrings refuses what JSON or exec would change or cut off.
func checkStrings(list []string) error {
	for _, s := range list {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("%q contains a zero byte", s)
		}
		if !utf8.ValidString(s) {
			return fmt.Errorf("%q is not valid UTF-8", s)
		}
	}
	return nil
}
