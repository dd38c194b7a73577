package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
)

func (s *session) portLinkCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "port-link SANDBOX PORT", Short: "Make a link that lets a browser in to a port of a sandbox",
		Long: `Print a link that lets a browser in to a port of a sandbox which speaks HTTP, at the port's own host. It can be followed once, within
a minute; the browser may come for twelve hours then, as the token that the link was made with, and no longer than that is valid.
Whoever has the link can follow it. It needs a server whose ports have hosts that browsers trust: berm serve --ports-url https://…, or
one on a loopback address.`,
		Example: `  xdg-open "$(berm port-link SANDBOX 8080)"`,
		Args:    args(2, 2, "the id of a sandbox and a port"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			p, err := parsePair(a[1])
			if err != nil {
				return err
			}
			resp, err := c.Ports().CreatePortLink(ctx, &bermv1.CreatePortLinkRequest{SandboxId: a[0], Port: int32(p.remote)})
			if err != nil {
				return err
			}
			if s.output != "table" {
				return s.emit(resp, nil)
			}
			fmt.Fprintln(s.Out, clean(resp.GetUrl()))
			return nil
		}),
	})
}
