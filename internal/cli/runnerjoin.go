package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
)

func (s *session) runnerJoinCmd() *cobra.Command {
	var expires time.Duration
	c := s.outputFlag(&cobra.Command{
		Use: "join RUNNER-ID", Aliases: []string{"token"}, Short: "Make a token that lets another machine be a runner, and print the command for it",
		Args: args(1, 1, "the id of a runner"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			req := &bermv1.CreateEnrolmentRequest{Runner: a[0]}
			if expires != 0 {
				seconds, err := wholeSeconds("--expires-in", expires)
				if err != nil {
					return err
				}
				req.ExpiresInSeconds = proto.Int32(seconds)
			}
			resp, err := c.Enrolments().CreateEnrolment(ctx, req)
			if err != nil {
				return err
			}
			if s.output != "table" {
				return s.emit(resp, nil)
			}
			fmt.Fprintf(s.Out, "berm runner --gateway %s --token %s\n", c.URL(), resp.GetToken())
			fmt.Fprintf(s.Err, "Run it as root on the other machine. The token is good for one use, until %s.\n", clock(resp.GetExpiresAt()))
			if strings.HasPrefix(c.URL(), "http://") {
				fmt.Fprintln(s.Err, "The server speaks plain text: another machine connects to https:// only, unless it is told --plain-text.")
			}
			return nil
		}),
	})
	c.Flags().DurationVar(&expires, "expires-in", 0, "time until the token expires, at most a day (default 1h)")
	return c
}
