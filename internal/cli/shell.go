package cli

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// shells are what is looked for in an image, the most comfortable first.
var shells = []string{"bash", "zsh", "ash", "sh"}

// shellProbe bounds the search for one shell, in seconds.
const shellProbe = 30

func (s *session) shellCmd() *cobra.Command {
	var x execFlags
	var shell string
	c := &cobra.Command{
		Use:   "shell [flags] SANDBOX",
		Short: "Open a shell in a sandbox",
		Long: `Open a shell in a sandbox: the first of bash, zsh, ash and sh that its image has, or the one of --shell. The exit code is the shell's own,
125 when Berm failed. The terminal is yours again however the shell ends. The detach keys leave it; the shell ends then.`,
		Args: args(1, 1, "the id of a sandbox"),
		RunE: func(cmd *cobra.Command, a []string) error {
			x.interactive = true
			if err := x.check(); err != nil {
				return err
			}
			in, ok := s.In.(*os.File)
			x.tty = ok && isTerminal(in)
			return asRun(s.with(func(ctx context.Context, c *client.Client, a []string) error {
				found, err := findShell(ctx, c, a[0], shell)
				if err != nil {
					return err
				}
				return s.detached(a[0], s.exec(ctx, c, a[0], []string{found}, x))
			})(cmd, a))
		},
	}
	x.bindDetachKeys(c)
	c.Flags().StringVar(&shell, "shell", "", "shell to start: a path, or a name in the sandbox's PATH")
	c.Flags().StringArrayVarP(&x.env, "env", "e", nil, "environment variable NAME=VALUE, or NAME to pass one on; repeatable")
	return c
}

// findShell returns the first shell that the sandbox's image can run, by running it.
func findShell(ctx context.Context, c *client.Client, id, wanted string) (string, error) {
	candidates := shells
	if wanted != "" {
		candidates = []string{wanted}
	}
	for _, name := range candidates {
		_, err := c.Gateway().Exec(ctx, &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{name, "-c", "exit 0"}, MaxTimeoutSeconds: shellProbe})
		if !fault.HasReason(err, fault.ReasonCommandNotFound) {
			return name, err
		}
	}
	return "", fault.Preconditionf(fault.ReasonCommandNotFound, "sandbox %s has no shell; looked for %s in its PATH", id, strings.Join(candidates, ", ")).
		WithHint("name another with --shell, or run a program of the image with: berm exec -it %s -- PROGRAM", id)
}
