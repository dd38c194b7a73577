package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// maxForwarded is how many connections a port-forward has open at once; further ones wait to be accepted.
const maxForwarded = 128

func (s *session) portForwardCmd() *cobra.Command {
	var address string
	c := &cobra.Command{
		Use: "port-forward SANDBOX [LOCAL:]PORT...", Short: "Reach ports inside a sandbox from this machine",
		Long: `Listen here, and connect whoever comes with a port inside a sandbox, until interrupted. The connection is made from within the sandbox,
so it works in every network mode, and reaches programs that listen on the sandbox's loopback address. Without LOCAL the same port is
taken here; 0 takes a free one. What is listened on is printed. A connection that fails is told on standard error and the next one is
tried; that the sandbox has ended is noticed with the next connection, and ends the command.`,
		Example: `  berm port-forward SANDBOX 8080
  berm port-forward SANDBOX 0:5432 9000:80`,
		Args: args(2, -1, "the id of a sandbox and at least one port"),
	}
	c.RunE = s.with(func(ctx context.Context, cl *client.Client, a []string) error {
		var pairs []portPair
		for _, text := range a[1:] {
			p, err := parsePair(text)
			if err != nil {
				return err
			}
			pairs = append(pairs, p)
		}
		return s.portForward(ctx, cl, a[0], address, pairs)
	})
	c.Flags().StringVar(&address, "address", "127.0.0.1", "address to listen on; with another than a loopback address, whoever reaches it reaches the sandbox")
	return c
}

// portPair is a port here, 0 for a free one, and the port of a sandbox that it leads to.
type portPair struct{ local, remote uint16 }

func parsePair(text string) (portPair, error) {
	local, remote, both := strings.Cut(text, ":")
	if !both {
		local, remote = text, text
	}
	l, err := strconv.ParseUint(local, 10, 16)
	r, err2 := strconv.ParseUint(remote, 10, 16)
	if err != nil || err2 != nil || r == 0 {
		return portPair{}, fault.Invalidf("USAGE", "%q is none of PORT, LOCAL:PORT; ports are from 1 to 65535", text)
	}
	return portPair{uint16(l), uint16(r)}, nil
}

func (s *session) portForward(ctx context.Context, c *client.Client, id, address string, pairs []portPair) error {
	if err := mayRun(ctx, c, id); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &forwarder{session: s, client: c, id: id, slots: make(chan struct{}, maxForwarded), end: cancel}
	for _, p := range pairs {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(int(p.local))))
		if err != nil {
			return cannotListen(err, p.remote)
		}
		defer func() { _ = l.Close() }() // nothing is lost
		fmt.Fprintf(s.Out, "%s -> port %d of %s\n", l.Addr(), p.remote, id)
		f.all.Go(func() { f.listen(ctx, l, p.remote) })
		context.AfterFunc(ctx, func() { _ = l.Close() })
	}
	<-ctx.Done()
	f.all.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return ctx.Err()
}

// cannotListen says what to do where another port is the remedy.
func cannotListen(err error, remote uint16) error {
	e := fault.Invalidf("USAGE", "cannot listen: %v", err)
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
		return e.WithHint("take another port here: 0:%d takes a free one", remote)
	}
	return e.WithHint("--address must be one of this machine's addresses")
}

// forwarder passes connections on.
type forwarder struct {
	*session
	client *client.Client
	id     string
	slots  chan struct{}
	// end ends all of it, with the reason.
	end context.CancelCauseFunc
	all sync.WaitGroup
}

func (f *forwarder) listen(ctx context.Context, l net.Listener, port uint16) {
	for {
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				f.end(fault.Internalf(err, "no connection can be accepted any more"))
			}
			return
		}
		f.all.Go(func() {
			defer func() { <-f.slots }()
			err := f.forward(ctx, cut{c.(*net.TCPConn)}, port)
			if err == nil {
				_ = c.Close() // both halves have ended
				return
			}
			_ = cut{c.(*net.TCPConn)}.Close()
			if ctx.Err() == nil {
				f.failed(client.FromRPC(err))
			}
		})
	}
}

// cut is a connection that is reset when it is closed: an end in order would look like that of the program.
type cut struct{ *net.TCPConn }

func (c cut) Close() error {
	_ = c.SetLinger(0) // of one that is closed already nothing is left to reset
	return c.TCPConn.Close()
}

// failed tells of a connection that failed, and ends the command when no further one can be better.
func (f *forwarder) failed(err error) {
	e := fault.From(err)
	if e.Code == fault.NotFound || e.Code == fault.Unauthenticated || e.Code == fault.Denied || e.Reason == fault.ReasonSandboxNotRunning || e.Reason == fault.ReasonBackendUnsupported {
		f.end(err)
		return
	}
	fmt.Fprintln(f.Err, clean("a connection failed: "+e.Message))
}

// mayRun refuses a sandbox that there is not, or that has ended.
func mayRun(ctx context.Context, c *client.Client, id string) error {
	sb, err := c.Gateway().Get(ctx, &v1beta2pb.GetSandboxRequest{SandboxId: id})
	if err != nil {
		return client.FromRPC(err)
	}
	switch status := sb.GetSandboxStatus(); status {
	case v1beta2pb.SandboxStatus_SANDBOX_STATUS_COMPLETED, v1beta2pb.SandboxStatus_SANDBOX_STATUS_FAILED:
		return fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %s has ended: %s", id, strings.TrimPrefix(status.String(), "SANDBOX_STATUS_"))
	default:
		return nil
	}
}

// forward passes one connection on, until it has ended on both sides.
func (f *forwarder) forward(ctx context.Context, c cut, port uint16) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	stream, err := f.client.Ports().Dial(ctx)
	if err != nil {
		return err
	}
	first := &bermv1.DialRequest{Request: &bermv1.DialRequest_Init{Init: &bermv1.DialInit{SandboxId: f.id, Port: int32(port)}}}
	if err := stream.Send(first); err != nil && !errors.Is(err, io.EOF) { // a stream that ended says why in Recv
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	return backend.Join(c, backend.Messages{
		Recv: func() ([]byte, bool, error) {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				err = fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the connection was cut")
			}
			return m.GetData(), m.GetEnd(), err
		},
		Send: func(data []byte) error {
			return stream.Send(&bermv1.DialRequest{Request: &bermv1.DialRequest_Data{Data: data}})
		},
		End: func() error { return stream.Send(&bermv1.DialRequest{Request: &bermv1.DialRequest_End{End: true}}) },
	})
}
