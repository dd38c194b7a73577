package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// renewalsPerTTL is how often a lease is renewed within its TTL: two may be lost before it is.
	renewalsPerTTL = 3
	// renewTimeout bounds one renewal, renewRetry is when one that failed is tried again.
	renewTimeout = 10 * time.Second
	renewRetry   = 2 * time.Second
)

func (s *session) leaseHoldCmd() *cobra.Command {
	var l leaseFlags
	var keep bool
	c := &cobra.Command{
		Use: "hold [flags] -- COMMAND [ARG...]", Short: "Run a command here, and hold a lease for as long as it runs",
		Long: `Run a command on this machine, a trainer say, and hold a lease for as long as it runs. Then the lease is released, and the sandboxes that
were launched under it are stopped; --keep leaves them. If this machine dies, they are stopped when the lease has expired. The exit
code is the command's own: 128+n when signal n ended it, 125 when Berm failed.

The command's environment has BERM_LEASE, which "berm run" reads. CWSANDBOX_BASE_URL and CWSANDBOX_API_KEY are set to this server and to your
token with the lease behind it, so that published clients launch under the lease without being told.`,
		Example: "  berm lease hold --ttl 2m --purpose 'run 17' -- python train.py",
		RunE: func(cmd *cobra.Command, a []string) error {
			_, argv, err := command(cmd, a, 0)
			if err != nil {
				return err
			}
			if len(argv) == 0 {
				return fault.Invalidf("USAGE", "no command was given").WithHint("Put it behind --, as in: berm lease hold -- python train.py")
			}
			req, err := l.request()
			if err != nil {
				return err
			}
			cfg, err := s.server()
			if err != nil {
				return asRun(err)
			}
			return asRun(s.with(func(ctx context.Context, c *client.Client, _ []string) error {
				return s.hold(ctx, c, req, keep, func(_ context.Context, lease string) error { return s.runHere(argv, cfg, lease) })
			})(cmd, a))
		},
	}
	l.bind(c)
	f := c.Flags()
	f.BoolVar(&keep, "keep", false, "let the sandboxes go on, without a lease, when the command has ended")
	f.SetInterspersed(false)
	return c
}

// underLease runs fn under a lease of its own.
func (s *session) underLease(ctx context.Context, c *client.Client, ttl time.Duration, purpose string, fn func(ctx context.Context, lease string) error) error {
	seconds, err := wholeSeconds("--lease", ttl)
	if err != nil {
		return err
	}
	return s.hold(ctx, c, &bermv1.CreateLeaseRequest{TtlSeconds: proto.Int32(seconds), GraceSeconds: proto.Int32(seconds), Purpose: purpose}, false, fn)
}

// hold makes a lease, renews it while fn runs, and releases it, also when the user has interrupted.
func (s *session) hold(ctx context.Context, c *client.Client, req *bermv1.CreateLeaseRequest, keep bool, fn func(ctx context.Context, lease string) error) error {
	lease, err := c.Leases().CreateLease(ctx, req)
	if err != nil {
		return err
	}
	id := lease.GetLeaseId()
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.renewAll(renewing, c, id, time.Duration(req.GetTtlSeconds())*time.Second)
	}()
	result := fn(ctx, id)
	stop()
	<-done
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if _, err := c.Leases().ReleaseLease(end, &bermv1.ReleaseLeaseRequest{LeaseId: id, KeepSandboxes: keep}); err != nil {
		fmt.Fprintf(s.Err, "warning: lease %s was not released, it expires: %s\n", id, clean(fault.From(err).Message))
	}
	return result
}

// renewAll renews a lease until ctx ends, or the lease has. What keeps it from being renewed is said once.
func (s *session) renewAll(ctx context.Context, c *client.Client, id string, ttl time.Duration) {
	next, said := ttl/renewalsPerTTL, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
		once, cancel := context.WithTimeout(ctx, min(renewTimeout, ttl/renewalsPerTTL))
		_, err := c.Leases().RenewLease(once, &bermv1.RenewLeaseRequest{LeaseId: id})
		cancel()
		switch {
		case err == nil:
			next, said = ttl/renewalsPerTTL, false
			continue
		case ctx.Err() != nil:
			return
		case fault.Is(err, fault.Precondition) || fault.Is(err, fault.NotFound):
			fmt.Fprintf(s.Err, "warning: %s; its sandboxes are stopped\n", clean(fault.From(err).Message))
			return
		}
		if next = min(renewRetry, ttl/renewalsPerTTL); !said {
			said = true
			fmt.Fprintf(s.Err, "warning: lease %s cannot be renewed, trying again: %s\n", id, clean(fault.From(err).Message))
		}
	}
}

// runHere runs a command on this machine until it ends by itself. What ends this process is passed on to it.
func (s *session) runHere(argv []string, server client.Config, lease string) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	secret, _, _ := strings.Cut(server.Token, "~")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	cmd.Env = append(os.Environ(), "BERM_LEASE="+lease, "CWSANDBOX_BASE_URL="+server.URL, "CWSANDBOX_API_KEY="+secret+"~"+lease)
	if err := cmd.Start(); err != nil {
		return &runError{fault.Invalidf("COMMAND_NOT_STARTED", "%s cannot be run here: %s", argv[0], err)}
	}
	over := make(chan struct{})
	defer close(over)
	go passOn(cmd.Process, signals, s.interactive(), over)
	err := cmd.Wait()
	var exited *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exited):
		return &runError{fault.Internalf(err, "the end of %s was not seen", argv[0])}
	}
	if status, ok := exited.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return &exitError{exitSignal + int(status.Signal())}
	}
	return &exitError{exited.ExitCode()}
}

// interactive reports whether a person at a terminal started this: what they type reaches the command without us.
func (s *session) interactive() bool {
	in, ok := s.In.(*os.File)
	return ok && isTerminal(in)
}

func passOn(p *os.Process, signals <-chan os.Signal, typed bool, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case sig := <-signals:
			if sig == os.Interrupt && typed {
				continue
			}
			_ = p.Signal(sig) // it may have ended just now
		}
	}
}
