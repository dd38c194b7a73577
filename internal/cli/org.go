package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
)

func (s *session) orgCmd() *cobra.Command {
	create := s.outputFlag(&cobra.Command{
		Use: "create NAME", Short: "Create an organization (the server's operator only)", Args: args(1, 1, "a name"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			o, err := c.Orgs().CreateOrg(ctx, &bermv1.CreateOrgRequest{Name: a[0]})
			if err != nil {
				return err
			}
			return s.emitOrgs(o, o)
		}),
	})
	list := s.outputFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List organizations (the server's operator only)", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			resp, err := c.Orgs().ListOrgs(ctx, &bermv1.ListOrgsRequest{})
			if err != nil {
				return err
			}
			all := messages(resp.GetOrgs())
			return s.emitOrgs(all, resp.GetOrgs()...)
		}),
	})
	return noun("org", "Organizations", create, list)
}

func (s *session) emitOrgs(v any, orgs ...*bermv1.Org) error {
	return s.emit(v, func() table {
		t := table{head: []string{"NAME", "ID", "CREATED"}}
		for _, o := range orgs {
			t.rows = append(t.rows, []string{o.GetName(), o.GetId(), clock(o.GetCreatedAt())})
		}
		return t
	})
}

func (s *session) tokenCmd() *cobra.Command {
	return noun("token", "API tokens", s.tokenCreateCmd(), s.tokenListCmd(), s.tokenRevokeCmd())
}

func (s *session) tokenCreateCmd() *cobra.Command {
	var org, role, name string
	var expires time.Duration
	c := s.outputFlag(&cobra.Command{
		Use: "create --role admin|user [--org NAME] [--name NAME]", Short: "Make a token; it is shown once", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			req := &bermv1.CreateTokenRequest{Org: org, Role: role, Name: name}
			if expires != 0 {
				seconds, err := wholeSeconds("--expires-in", expires)
				if err != nil {
					return err
				}
				req.ExpiresInSeconds = proto.Int32(seconds)
			}
			resp, err := c.Tokens().CreateToken(ctx, req)
			if err != nil {
				return err
			}
			if s.output == "table" {
				fmt.Fprintln(s.Out, resp.GetToken())
				fmt.Fprintf(s.Err, "token %s of organization %s, role %s; it is not shown again\n", resp.GetId(), resp.GetOrg(), resp.GetRole())
				return nil
			}
			return s.emit(resp, nil)
		}),
	})
	f := c.Flags()
	f.StringVar(&org, "org", "", "organization, by name; default: your own")
	f.StringVar(&role, "role", "user", "admin or user")
	f.StringVar(&name, "name", "cli", "name that revisions show")
	f.DurationVar(&expires, "expires-in", 0, "time until it expires; default: never")
	return c
}

func (s *session) tokenListCmd() *cobra.Command {
	var org string
	c := s.outputFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List tokens", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			resp, err := c.Tokens().ListTokens(ctx, &bermv1.ListTokensRequest{Org: org})
			if err != nil {
				return err
			}
			all := messages(resp.GetTokens())
			return s.emit(all, func() table {
				t := table{head: []string{"ID", "NAME", "ROLE", "CREATED", "EXPIRES"}}
				for _, k := range resp.GetTokens() {
					t.rows = append(t.rows, []string{k.GetId(), k.GetName(), k.GetRole(), clock(k.GetCreatedAt()), clock(k.GetExpiresAt())})
				}
				return t
			})
		}),
	})
	c.Flags().StringVar(&org, "org", "", "organization, by name; default: your own")
	return c
}

func (s *session) tokenRevokeCmd() *cobra.Command {
	var org string
	c := s.outputFlag(&cobra.Command{
		Use: "revoke ID", Aliases: []string{"delete", "rm"}, Short: "Revoke a token", Args: args(1, 1, "the id of a token"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			_, err := c.Tokens().DeleteToken(ctx, &bermv1.DeleteTokenRequest{Id: a[0], Org: org})
			if err != nil {
				return err
			}
			return s.report(map[string]string{"id": a[0]}, "token %s revoked", a[0])
		}),
	})
	c.Flags().StringVar(&org, "org", "", "organization, by name; default: your own")
	return c
}

func (s *session) whoamiCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "whoami", Short: "Show who the token says you are, and to which server", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			w, err := c.Tokens().WhoAmI(ctx, &bermv1.WhoAmIRequest{})
			if err != nil {
				return err
			}
			return s.emit(w, func() table {
				return table{head: []string{"SERVER", "ORG", "ACTOR", "ROLE"}, rows: [][]string{{c.URL(), w.GetOrg(), w.GetActor(), w.GetRole()}}}
			})
		}),
	})
}
