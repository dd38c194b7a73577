package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *session) forkCmd() *cobra.Command {
	var tags []string
	var lifetime time.Duration
	c := s.outputFlag(&cobra.Command{
		Use: "fork SANDBOX", Short: "Launch a sandbox that begins as a running one is: memory, processes, files", Args: args(1, 1, "the id of a sandbox"),
		Long: `Launch a sandbox that begins as a running one is, with its memory, processes and files, and print its id. The profile of today decides, as
for any launch. Both have the same past: what the first held in memory, keys and random states included, the fork holds too. Commands that
run in the first end in an error. It needs a runtime that can save sandboxes (berm runner describe shows checkpoint).`,
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			if lifetime < 0 || lifetime%time.Second != 0 {
				return fault.Invalidf("USAGE", "--lifetime %v: want whole seconds", lifetime)
			}
			r, err := c.Checkpoints().ForkSandbox(ctx, &bermv1.ForkSandboxRequest{SandboxId: a[0], MaxLifetimeSeconds: int32(min(lifetime/time.Second, 1<<30)), Tags: tags})
			if err != nil {
				return err
			}
			if s.output == "json" || s.output == "yaml" {
				return s.emit(r, nil)
			}
			if r.GetStatus() == "FAILED" {
				return fault.Preconditionf(r.GetStatus(), "sandbox %s could not begin as %s: %s", r.GetSandboxId(), a[0], r.GetStatusReason())
			}
			fmt.Fprintln(s.Out, r.GetSandboxId())
			return nil
		}),
	})
	c.Flags().StringArrayVar(&tags, "tag", nil, "label of the fork, repeatable (default: those of the other sandbox)")
	c.Flags().DurationVar(&lifetime, "lifetime", 0, "how long the fork may live (default: as the other was asked for, counted anew)")
	return c
}
