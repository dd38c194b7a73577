package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *session) auditCmd() *cobra.Command {
	return noun("audit", "Who did what, and was refused what", s.auditListCmd(), s.auditVerifyCmd(), s.auditExportCmd())
}

// auditFlags say which chain.
type auditFlags struct {
	org          string
	installation bool
}

func (a *auditFlags) add(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.org, "org", "", "organization, by name; default: your own")
	c.Flags().BoolVar(&a.installation, "installation", false, "what belongs to no organization: organizations, callers without a valid token (the server's operator only)")
	return c
}

func (s *session) auditListCmd() *cobra.Command {
	var (
		a            auditFlags
		since, until string
		limit        int
		req          bermv1.ListAuditRequest
	)
	c := s.outputFlag(a.add(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List who did what and was refused what, newest first", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) (err error) {
			if limit < 1 {
				return fault.Invalidf("USAGE", "--limit %d is not positive", limit)
			}
			req.Org, req.Installation = a.org, a.installation
			now := time.Now()
			if req.Since, err = timeFlag("--since", since, now); err != nil {
				return err
			}
			if req.Until, err = timeFlag("--until", until, now); err != nil {
				return err
			}
			rows, err := auditRows(ctx, c, &req, limit)
			if err != nil {
				return err
			}
			return s.emitAudit(rows)
		}),
	}))
	f := c.Flags()
	f.StringVar(&since, "since", "", "from a time ago (5m, 2h) or a time (2006-01-02T15:04:05Z) on")
	f.StringVar(&until, "until", "", "before a time ago or a time")
	f.StringVar(&req.Actor, "actor", "", "of this actor alone: token:NAME")
	f.StringVar(&req.Method, "method", "", "of this method alone: UpdateProfile")
	f.StringVar(&req.ObjectId, "object", "", "about the object with this id alone")
	f.StringVar(&req.Outcome, "outcome", "", "with this outcome alone: done, refused, failed, omitted, lost or pruned")
	f.IntVarP(&limit, "limit", "n", 100, "how many at most")
	return c
}

// timeFlag reads a time, or a time ago; nil for "".
func timeFlag(name, text string, now time.Time) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return timestamppb.New(now.Add(-d)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, fault.Invalidf("USAGE", "%s %q is neither a time ago nor a time", name, text).WithHint("Use 90s, 5m, 2h, or 2006-01-02T15:04:05Z.")
}

// auditRows asks for pages until there are enough rows. A page may be empty and have a next one.
func auditRows(ctx context.Context, c *client.Client, req *bermv1.ListAuditRequest, limit int) ([]*bermv1.AuditRow, error) {
	var all []*bermv1.AuditRow
	for {
		req.PageSize = int32(min(limit-len(all), 1000)) //nolint:gosec // bounded
		resp, err := c.Audit().ListAudit(ctx, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetRows()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" || len(all) >= limit {
			return all, nil
		}
	}
}

func (s *session) emitAudit(rows []*bermv1.AuditRow) error {
	all := messages(rows)
	return s.emit(all, func() table {
		t := table{head: []string{"SEQ", "TIME", "ACTOR", "METHOD", "OBJECT", "OUTCOME", "REASON"}}
		for _, r := range rows {
			object := strings.TrimSpace(r.GetKind() + " " + cmp.Or(r.GetObjectName(), r.GetObjectId()))
			outcome := r.GetOutcome()
			if r.GetErrorReason() != "" {
				outcome += " " + r.GetErrorReason()
			}
			if r.GetCount() > 0 {
				outcome += fmt.Sprintf(" %d", r.GetCount())
			}
			t.rows = append(t.rows, []string{fmt.Sprint(r.GetSeq()), clock(r.GetAt()), r.GetActor(), r.GetMethod(), object, outcome, r.GetReason()})
		}
		return t
	})
}

func (s *session) auditVerifyCmd() *cobra.Command {
	var a auditFlags
	var head, file string
	c := s.outputFlag(a.add(&cobra.Command{
		Use: "verify", Short: "Prove that nobody changed the audit afterwards",
		Long: `Prove that nobody changed the audit afterwards: every row has the hash of the row before it. The exit code is 10 when a row is not as it was
written, and the first such row is named.

Rows that are cut off the end, and a chain that was made anew as a whole, do not show in the chain itself. Write the head down
elsewhere that this command prints, and give it later with --head: then everything up to it is proven to be what it was.
With --file an export is verified, without a server.`,
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, rest []string) error {
			if file != "" {
				return s.verifyFile(file, head)
			}
			return s.with(func(ctx context.Context, c *client.Client, _ []string) error {
				got, err := c.Audit().VerifyAudit(ctx, &bermv1.VerifyAuditRequest{Org: a.org, Installation: a.installation, Head: head})
				if err != nil {
					return err
				}
				return s.emitVerified(got)
			})(cmd, rest)
		},
	}))
	c.Flags().StringVar(&head, "head", "", "a head that was written down, HASH@SEQ")
	c.Flags().StringVar(&file, "file", "", "verify what berm audit export wrote, - for standard input")
	return c
}

// verifyFile verifies an export.
func (s *session) verifyFile(name, head string) error {
	var want *audit.Head
	if head != "" {
		h, err := audit.ParseHead(head)
		if err != nil {
			return err
		}
		want = &h
	}
	in := s.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fault.Invalidf("FILE_UNREADABLE", "cannot read %s", name).WithCause(err)
		}
		defer f.Close()
		in = f
	}
	got, err := audit.VerifyExport(in, want)
	if err != nil {
		return err
	}
	out := &bermv1.VerifyAuditResponse{Rows: got.Rows, BadSeq: got.BadSeq, Bad: got.Bad}
	if got.Head.Seq > 0 {
		out.Head = got.Head.String()
	}
	return s.emitVerified(out)
}

func (s *session) emitVerified(r *bermv1.VerifyAuditResponse) error {
	if s.output == "json" || s.output == "yaml" {
		if err := s.emit(r, nil); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(s.Out, "%d rows verified\n", r.GetRows())
		if r.GetBad() == "" && r.GetHead() != "" {
			fmt.Fprintf(s.Out, "head %s\n", r.GetHead())
		}
	}
	if r.GetBad() == "" {
		return nil
	}
	fmt.Fprintln(s.Err, clean(fmt.Sprintf("row %d is not as it was written: %s", r.GetBadSeq(), r.GetBad())))
	return &exitError{exitFindings}
}

func (s *session) auditExportCmd() *cobra.Command {
	var a auditFlags
	c := a.add(&cobra.Command{
		Use: "export", Short: "Write the audit as lines of JSON, to be kept and verified elsewhere",
		Long: `Write the audit as lines of JSON: first one with the chain, where it begins and ends, then one for each row, oldest first, as it was
hashed. berm audit verify --file proves it, without a server.`,
		Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			stream, err := c.Audit().ExportAudit(ctx, &bermv1.ExportAuditRequest{Org: a.org, Installation: a.installation})
			if err != nil {
				return err
			}
			return s.writeExport(stream.Recv)
		}),
	})
	return c
}

func (s *session) writeExport(recv func() (*bermv1.ExportAuditResponse, error)) error {
	out := audit.NewExporter(s.Out)
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		if c := m.GetChain(); c != nil {
			if err := out.Begin(c.GetName(), c.GetAnchor(), c.GetHead()); err != nil {
				return err
			}
		}
		for _, r := range m.GetRecords() {
			if err := out.Row(r.GetHash(), r.GetRecord()); err != nil {
				return err
			}
		}
	}
}
