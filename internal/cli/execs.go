package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *session) execsCmd() *cobra.Command {
	return noun("execs", "Commands that sandboxes keep (berm exec --detach, --keep)",
		s.execsListCmd(), s.execsGetCmd(), s.execsAttachCmd(), s.execsWaitCmd(), s.execsSignalCmd(), s.execsDeleteCmd())
}

func (s *session) execsListCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "list SANDBOX", Aliases: []string{"ls"}, Short: "List the commands of a sandbox, running and ended", Args: args(1, 1, "the id of a sandbox"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			out, err := c.Execs().ListExecs(ctx, &bermv1.ListExecsRequest{SandboxId: a[0]})
			if err != nil {
				return client.FromRPC(err)
			}
			return s.emit(messages(out.GetExecs()), func() table { return execTable(out.GetExecs()) })
		}),
	})
}

func (s *session) execsGetCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "get SANDBOX EXEC", Short: "Show how a command stands", Args: args(2, 2, "the id of a sandbox and that of a command"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			x, err := c.Execs().GetExec(ctx, &bermv1.GetExecRequest{SandboxId: a[0], ExecId: a[1]})
			if err != nil {
				return client.FromRPC(err)
			}
			return s.emit(x, func() table { return execTable([]*bermv1.Exec{x}) })
		}),
	})
}

func execTable(all []*bermv1.Exec) table {
	t := table{head: []string{"EXEC", "STATE", "STARTED", "OUTPUT", "COMMAND"}, wide: []string{"HELD FROM", "INPUT", "ENDED"}}
	for _, x := range all {
		state, ended := "running", ""
		if x.ExitCode != nil {
			state, ended = fmt.Sprintf("exit %d", x.GetExitCode()), x.GetEndedAt().AsTime().UTC().Format(time.RFC3339)
		}
		if x.GetTimedOut() {
			state = "timed out"
		}
		command := strings.Join(x.GetCommand(), " ")
		if x.GetCommandShortened() {
			command += " …"
		}
		t.rows = append(t.rows, []string{
			x.GetExecId(), state, x.GetCreatedAt().AsTime().UTC().Format(time.RFC3339), strconv.FormatInt(x.GetEndOffset(), 10), command,
			strconv.FormatInt(x.GetFirstOffset(), 10), strconv.FormatInt(x.GetStdinOffset(), 10), ended,
		})
	}
	return t
}

func (s *session) execsAttachCmd() *cobra.Command {
	var x execFlags
	var from int64
	var now bool
	c := &cobra.Command{
		Use: "attach [flags] SANDBOX EXEC", Short: "Show what a command printed and prints, to its end",
		Long: `Show what a command printed and prints, from its first byte that is held or from --from on, until it ends; the exit code is the
command's own. With -i standard input goes to it. What is not there any more is told on standard error. A connection that breaks is taken
up again where it was. Interrupting this leaves the command running.`,
		Example: `  berm execs attach SANDBOX x-0123456789ab
  berm execs attach --from 4096 --now SANDBOX build > rest.log`,
		Args: args(2, 2, "the id of a sandbox and that of a command"),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := x.check(); err != nil {
				return err
			}
			if from < 0 {
				return fault.Invalidf("USAGE", "--from %d is negative", from)
			}
			return asRun(s.with(func(ctx context.Context, c *client.Client, a []string) error {
				return s.attachExec(ctx, c, &bermv1.AttachExecInit{SandboxId: a[0], ExecId: a[1], Offset: from, Follow: !now, Stdin: x.interactive || x.tty}, x)
			})(cmd, a))
		},
	}
	f := c.Flags()
	f.BoolVarP(&x.interactive, "interactive", "i", false, "pass standard input on, behind what came before")
	f.BoolVarP(&x.tty, "tty", "t", false, "the command has a terminal: use this one for it")
	f.Int64Var(&from, "from", 0, "begin at this offset, in bytes of both streams")
	f.BoolVar(&now, "now", false, "what is there now, and no more")
	x.bindDetachKeys(c)
	exclusive(c, "now", "interactive", "tty")
	return c
}

func (s *session) execsWaitCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "wait SANDBOX EXEC", Short: "Wait for a command to end, and exit with its code",
		Long: `Wait for a command to end. The exit code is the command's own, 124 when its timeout passed, 125 when Berm failed. A command that waits for a
reader of its output does not end before it has one: see berm exec --drop-oldest.`,
		Args: args(2, 2, "the id of a sandbox and that of a command"),
		RunE: func(cmd *cobra.Command, a []string) error {
			return asRun(s.with(func(ctx context.Context, c *client.Client, a []string) error {
				x := &attachedExec{session: s, client: c, init: &bermv1.AttachExecInit{SandboxId: a[0], ExecId: a[1], Follow: true, Quiet: true}}
				err := x.run(ctx)
				if x.end != nil && s.output != "table" {
					if shown := s.emit(x.end, func() table { return execTable([]*bermv1.Exec{x.end}) }); shown != nil {
						return shown
					}
				}
				return err
			})(cmd, a))
		},
	})
}

func (s *session) execsSignalCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "signal SANDBOX EXEC [SIGNAL]", Aliases: []string{"kill"}, Short: "Send a signal to a command, TERM by default",
		Example: `  berm execs signal SANDBOX build
  berm execs signal SANDBOX build KILL`,
		Args: args(2, 3, "the id of a sandbox, that of a command, and a signal"),
		RunE: func(cmd *cobra.Command, a []string) error {
			signal, err := signalOf(append(a, "TERM")[2])
			if err != nil {
				return err
			}
			return s.with(func(ctx context.Context, c *client.Client, a []string) error {
				x, err := c.Execs().SignalExec(ctx, &bermv1.SignalExecRequest{SandboxId: a[0], ExecId: a[1], Signal: signal})
				if err != nil {
					return client.FromRPC(err)
				}
				return s.report(x, "")
			})(cmd, a)
		},
	})
}

// signalOf reads 15, TERM or SIGTERM.
func signalOf(text string) (int32, error) {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil && n >= 1 && n <= 64 {
		return int32(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if n := unix.SignalNum(name); n != syscall.Signal(0) {
		return int32(n), nil //nolint:gosec // a signal
	}
	return 0, fault.Invalidf("USAGE", "%q is no signal", text).WithHint("Use a name such as TERM, INT or KILL, or a number from 1 to 64.")
}

func (s *session) execsDeleteCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "delete SANDBOX EXEC...", Aliases: []string{"rm"}, Short: "Kill commands that run, and forget what they printed", Args: args(2, -1, "the id of a sandbox and that of a command"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			type deleted struct {
				SandboxID string `json:"sandboxId"`
				ExecID    string `json:"execId"`
			}
			var gone []deleted
			for _, id := range a[1:] {
				if _, err := c.Execs().DeleteExec(ctx, &bermv1.DeleteExecRequest{SandboxId: a[0], ExecId: id}); err != nil {
					return client.FromRPC(err)
				}
				gone = append(gone, deleted{a[0], id})
			}
			return s.report(gone, "")
		}),
	})
}
