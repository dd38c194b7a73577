package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *session) leaseCmd() *cobra.Command {
	c := noun("lease", "Leases: sandboxes that are stopped when their owner is gone", s.leaseHoldCmd(), s.leaseCreateCmd(), s.leaseListCmd(), s.leaseGetCmd(), s.leaseRenewCmd(), s.leaseReleaseCmd())
	c.Long = `A lease keeps any number of sandboxes alive for as long as its holder says that it is there: those that were launched with its id.
When it was not renewed for its TTL it is LOST, which its sandboxes say. When it was not renewed for the grace after that either, it
has EXPIRED, and they are stopped with the reason LEASE_EXPIRED.

"berm lease hold -- COMMAND" does all of that for a program, "berm run --lease TTL" for one sandbox.`
	return c
}

// leaseFlags are what makes a lease.
type leaseFlags struct {
	ttl, grace time.Duration
	purpose    string
}

func (l *leaseFlags) bind(c *cobra.Command) {
	f := c.Flags()
	f.DurationVar(&l.ttl, "ttl", core.DefaultLeaseTTL, "within which time it is to be renewed")
	f.DurationVar(&l.grace, "grace", core.DefaultLeaseGrace, "how much longer its sandboxes stay when it is not")
	f.StringVar(&l.purpose, "purpose", "", "what it is for, in your words")
}

func (l *leaseFlags) request() (*bermv1.CreateLeaseRequest, error) {
	ttl, err := wholeSeconds("--ttl", l.ttl)
	if err != nil {
		return nil, err
	}
	req := &bermv1.CreateLeaseRequest{TtlSeconds: proto.Int32(ttl), GraceSeconds: proto.Int32(0), Purpose: l.purpose}
	if l.grace != 0 {
		grace, err := wholeSeconds("--grace", l.grace)
		if err != nil {
			return nil, err
		}
		req.GraceSeconds = proto.Int32(grace)
	}
	return req, nil
}

func (s *session) leaseCreateCmd() *cobra.Command {
	var l leaseFlags
	c := s.outputFlag(&cobra.Command{
		Use: "create", Short: "Make a lease, which you then renew", Args: args(0, 0, "no arguments"),
		Example: "  id=$(berm lease create --ttl 2m --purpose 'run 17')\n  berm run --in-lease $id -d -- python train.py\n  berm lease renew $id",
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			req, err := l.request()
			if err != nil {
				return err
			}
			lease, err := c.Leases().CreateLease(ctx, req)
			if err != nil {
				return err
			}
			if s.output == "table" {
				_, err := s.Out.Write([]byte(lease.GetLeaseId() + "\n"))
				return err
			}
			return s.emitLeases(lease, lease)
		}),
	})
	l.bind(c)
	return c
}

func (s *session) leaseListCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List leases that have not ended", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			req := &bermv1.ListLeasesRequest{PageSize: 1000}
			var all []*bermv1.Lease
			for len(all) <= maxListed {
				page, err := c.Leases().ListLeases(ctx, req)
				if err != nil {
					return err
				}
				all = append(all, page.GetLeases()...)
				switch next := page.GetNextPageToken(); next {
				case "":
					return s.emitLeases(messages(all), all...)
				case req.GetPageToken():
					return fault.Internalf(nil, "the server gives the same page again and again")
				default:
					req.PageToken = next
				}
			}
			return tooLong()
		}),
	})
}

func (s *session) leaseGetCmd() *cobra.Command {
	return s.leaseCall("get LEASE", "Show a lease", func(ctx context.Context, c *client.Client, id string) (*bermv1.Lease, error) {
		return c.Leases().GetLease(ctx, &bermv1.GetLeaseRequest{LeaseId: id})
	})
}

func (s *session) leaseRenewCmd() *cobra.Command {
	return s.leaseCall("renew LEASE", "Say that the holder of a lease is there", func(ctx context.Context, c *client.Client, id string) (*bermv1.Lease, error) {
		return c.Leases().RenewLease(ctx, &bermv1.RenewLeaseRequest{LeaseId: id})
	})
}

func (s *session) leaseReleaseCmd() *cobra.Command {
	var keep bool
	c := s.leaseCall("release LEASE", "Give a lease back, and stop its sandboxes", func(ctx context.Context, c *client.Client, id string) (*bermv1.Lease, error) {
		return c.Leases().ReleaseLease(ctx, &bermv1.ReleaseLeaseRequest{LeaseId: id, KeepSandboxes: keep})
	})
	c.Flags().BoolVar(&keep, "keep", false, "let its sandboxes go on without a lease")
	return c
}

func (s *session) leaseCall(use, short string, call func(context.Context, *client.Client, string) (*bermv1.Lease, error)) *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: use, Short: short, Args: args(1, 1, "the id of a lease"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			l, err := call(ctx, c, a[0])
			if err != nil {
				return err
			}
			return s.emitLeases(l, l)
		}),
	})
}

func (s *session) emitLeases(v any, leases ...*bermv1.Lease) error {
	return s.emit(v, func() table {
		t := table{head: []string{"LEASE", "STATE", "OWNER", "PURPOSE", "SANDBOXES", "EXPIRES"}, wide: []string{"TTL", "GRACE", "CREATED", "RENEWED", "ENDED"}}
		for _, l := range leases {
			t.rows = append(t.rows, []string{
				l.GetLeaseId(), strings.ToLower(strings.TrimPrefix(l.GetState().String(), "LEASE_STATE_")), l.GetCreatedBy(), l.GetPurpose(),
				strconv.Itoa(int(l.GetSandboxes())), clock(l.GetExpiresAt()), wholeDuration(l.GetTtlSeconds()), wholeDuration(l.GetGraceSeconds()),
				clock(l.GetCreatedAt()), clock(l.GetRenewedAt()), clock(l.GetEndedAt()),
			})
		}
		return t
	})
}

func wholeDuration(seconds int32) string { return (time.Duration(seconds) * time.Second).String() }
