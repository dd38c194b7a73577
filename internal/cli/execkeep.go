package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// keepFlags are those of a command that outlives this program.
type keepFlags struct {
	keep, detach, drop bool
	id                 string
	limit              int64
}

func (k *keepFlags) bind(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&k.keep, "keep", false, "the command outlives this program, and a connection that breaks is taken up again")
	f.BoolVarP(&k.detach, "detach", "d", false, "start the command, print its id and leave it")
	f.StringVar(&k.id, "id", "", "name of a command that is kept; the same name and command again start nothing twice")
	f.Int64Var(&k.limit, "output-limit", 0, "how much output of a command that is kept is held, in bytes (default 512 KiB)")
	f.BoolVar(&k.drop, "drop-oldest", false, "when that is full, drop the oldest; otherwise the command waits for a reader")
	exclusive(c, "keep", "detach")
}

func (k *keepFlags) check(c *cobra.Command) error {
	if k.keep || k.detach {
		return nil
	}
	for _, flag := range []string{"id", "output-limit", "drop-oldest"} {
		if c.Flags().Changed(flag) {
			return fault.Invalidf("USAGE", "--%s is for a command that is kept", flag).WithHint("Use it with --keep or --detach.")
		}
	}
	return nil
}

// kept starts a command that is kept and, unless it is to be left at once, joins it.
func (s *session) kept(ctx context.Context, c *client.Client, id string, argv []string, x execFlags) error {
	env, err := pairs("--env", x.env, s.Getenv)
	if err != nil {
		return err
	}
	req := &bermv1.CreateExecRequest{
		SandboxId: id, ExecId: x.keep.id, Command: argv, Env: env, Tty: x.tty, Stdin: x.interactive, OutputLimit: x.keep.limit, Overflow: bermv1.Exec_OVERFLOW_WAIT,
	}
	if req.ExecId == "" { // Chosen here, so that it can be sent again.
		req.ExecId = "x-" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	}
	if x.keep.drop {
		req.Overflow = bermv1.Exec_OVERFLOW_DROP_OLDEST
	}
	if x.timeout > 0 {
		req.Timeout = durationpb.New(x.timeout)
	}
	made, err := s.createExec(ctx, c, req)
	if err != nil {
		return &runError{err}
	}
	if x.keep.detach {
		fmt.Fprintln(s.Out, made.GetExecId())
		return nil
	}
	err = s.attachExec(ctx, c, &bermv1.AttachExecInit{SandboxId: id, ExecId: made.GetExecId(), Follow: true, Stdin: x.interactive || x.tty}, x)
	if fault.Is(err, fault.Unavailable) || ctx.Err() != nil {
		fmt.Fprintf(s.Err, "berm: the command goes on: berm execs attach %s %s\n", id, made.GetExecId())
	}
	return err
}

// createExec starts it once, however often the connection breaks.
func (s *session) createExec(ctx context.Context, c *client.Client, req *bermv1.CreateExecRequest) (*bermv1.Exec, error) {
	for attempt, wait := 0, minResume; ; attempt++ {
		made, err := c.Execs().CreateExec(ctx, req)
		if err == nil {
			return made, nil
		}
		if err = client.FromRPC(err); !fault.Is(err, fault.Unavailable) || attempt >= resumeAttempts {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
		wait = min(2*wait, maxResume)
	}
}
