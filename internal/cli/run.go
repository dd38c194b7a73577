package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// stopTimeout bounds the stop at the end of `berm run`, which goes on when the user has already interrupted.
const stopTimeout = 30 * time.Second

// startTimeout bounds a launch, which is not given up on Ctrl-C: the server may have made the sandbox already, and only its answer
// has the id to stop.
const startTimeout = 2 * time.Minute

// endGrace is how long what the command left running may take to end, in seconds.
const endGrace = 5

func (s *session) runCmd() *cobra.Command {
	var l launchFlags
	var x execFlags
	var detach, keep, rm bool
	var ttl time.Duration
	c := s.outputFlag(&cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Launch a sandbox, run a command in it, stop it",
		Long: `Launch a sandbox and run a command in it. Output streams as it is produced, and the exit code is the command's own: 128+n when signal n
ended it, 124 when --timeout passed, 125 when Berm failed (the message says how).

The sandbox has no main process of its own: the command that its image names is not started. With --detach the command, or that of the
image when none is given, becomes the sandbox's main process, the id is printed and the sandbox lives until that process ends or
it is stopped. With --keep the sandbox stays when the command has ended. Otherwise it is stopped; --rm also removes its remains.
The detach keys leave a terminal: the command ends then, the sandbox stays, and its id is printed.`,
		RunE: func(cmd *cobra.Command, a []string) error {
			_, argv, err := command(cmd, a, 0)
			if err != nil {
				return err
			}
			if len(argv) == 0 && !detach {
				return fault.Invalidf("USAGE", "no command was given").WithHint("Put it behind --, as in: berm run -- python3 -c 'print(1)'. Or use --detach.")
			}
			if err := x.check(); err != nil {
				return err
			}
			s.flags = l.flagNames()
			req, err := l.request(s)
			if err != nil {
				return err
			}
			if req.LeaseId == "" {
				req.LeaseId = s.Getenv("BERM_LEASE")
			}
			return asRun(s.with(func(ctx context.Context, c *client.Client, _ []string) error {
				if detach {
					return s.detach(ctx, c, req, argv)
				}
				req.Idle = true
				if ttl == 0 {
					return s.launchAndExec(ctx, c, req, argv, x, keep, rm)
				}
				return s.underLease(ctx, c, ttl, req.GetPurpose(), func(ctx context.Context, lease string) error {
					req.LeaseId = lease
					return s.launchAndExec(ctx, c, req, argv, x, keep, rm)
				})
			})(cmd, a))
		},
	})
	l.bind(c)
	x.bind(c, false)
	f := c.Flags()
	f.BoolVarP(&detach, "detach", "d", false, "print the sandbox's id and return")
	f.BoolVar(&keep, "keep", false, "leave the sandbox running when the command has ended")
	f.BoolVar(&rm, "rm", false, "remove the sandbox's remains when the command has ended")
	f.SetInterspersed(false)
	exclusive(c, "detach", "timeout", "interactive", "tty", "detach-keys", "rm", "keep")
	f.DurationVar(&ttl, "lease", 0, "stop the sandbox when this command was not heard of for so long, and as long again; it says by itself that it is there")
	exclusive(c, "keep", "rm")
	exclusive(c, "lease", "detach", "keep", "in-lease")
	return c
}

func launch(ctx context.Context, c *client.Client, req *v1beta2pb.StartSandboxRequest) (*v1beta2pb.StartSandboxResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	started, err := c.Start(ctx, req)
	if err != nil {
		return nil, &runError{err}
	}
	return started, nil
}

func (s *session) detach(ctx context.Context, c *client.Client, req *v1beta2pb.StartSandboxRequest, argv []string) error {
	if len(argv) > 0 {
		req.Command, req.Args = argv[0], argv[1:]
	}
	started, err := launch(ctx, c, req)
	if err != nil {
		return err
	}
	if s.output == "table" {
		fmt.Fprintln(s.Out, started.GetSandboxId())
		return nil
	}
	return s.emit(started, func() table {
		return table{head: []string{"SANDBOX", "RUNNER", "PROFILE"}, rows: [][]string{{started.GetSandboxId(), started.GetRunnerId(), started.GetProfileId()}}}
	})
}

func (s *session) launchAndExec(ctx context.Context, c *client.Client, req *v1beta2pb.StartSandboxRequest, argv []string, x execFlags, keep, rm bool) error {
	started, err := launch(ctx, c, req)
	if err != nil {
		return err
	}
	id := started.GetSandboxId()
	// A reader of the output that goes away ends the command, not this process before it has stopped the sandbox.
	piped := make(chan os.Signal, 1)
	signal.Notify(piped, syscall.SIGPIPE)
	defer signal.Stop(piped)
	result := s.exec(ctx, c, id, argv, x)
	if errors.Is(result, errDetached) {
		result = s.detached(id, result)
		fmt.Fprintln(s.Out, id)
		return result
	}
	if keep {
		fmt.Fprintf(s.Err, "sandbox %s goes on\n", id)
		return result
	}
	// The caller may have gone (Ctrl-C): the sandbox is stopped all the same.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if rm {
		_, err = c.Gateway().Delete(end, &v1beta2pb.DeleteSandboxRequest{SandboxId: id})
	} else {
		_, err = c.Gateway().Stop(end, &v1beta2pb.StopSandboxRequest{SandboxId: id, GracefulShutdownSeconds: endGrace})
	}
	if err != nil {
		fmt.Fprintf(s.Err, "warning: sandbox %s was not stopped: %s\n", id, clean(fault.From(err).Message))
	}
	return result
}
