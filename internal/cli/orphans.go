package cli

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// listOrphans lists sandboxes whose owner seems to be gone.
func (s *session) listOrphans(ctx context.Context, c *client.Client, older time.Duration, tags, profiles, runners []string) error {
	seconds, err := wholeSeconds("--older", older)
	if err != nil {
		return err
	}
	req := &bermv1.ListOrphansRequest{OlderThanSeconds: proto.Int32(seconds), PageSize: 1000}
	var all []*bermv1.Orphan
	for len(all) <= maxListed {
		page, err := c.Leases().ListOrphans(ctx, req)
		if err != nil {
			return err
		}
		for _, o := range page.GetOrphans() {
			if selected(o, tags, profiles, runners) {
				all = append(all, o)
			}
		}
		switch next := page.GetNextPageToken(); next {
		case "":
			return s.emitOrphans(all)
		case req.GetPageToken():
			return fault.Internalf(nil, "the server gives the same page again and again")
		default:
			req.PageToken = next
		}
	}
	return tooLong()
}

// selected reports whether an orphan is one that the other flags ask for.
func selected(o *bermv1.Orphan, tags, profiles, runners []string) bool {
	for _, tag := range tags {
		if !slices.Contains(o.GetTags(), tag) {
			return false
		}
	}
	return (len(profiles) == 0 || slices.Contains(profiles, o.GetProfileName())) && (len(runners) == 0 || slices.Contains(runners, o.GetRunnerId()))
}

func (s *session) emitOrphans(all []*bermv1.Orphan) error {
	list := messages(all)
	return s.emit(list, func() table {
		t := table{head: []string{"SANDBOX", "OWNER", "PURPOSE", "CREATED", "WHY"}, wide: []string{"RUNNER", "PROFILE", "LEASE", "LAST CONTACT"}}
		for _, o := range all {
			t.rows = append(t.rows, []string{
				o.GetSandboxId(), o.GetCreatedBy(), o.GetPurpose(), clock(o.GetCreatedAt()), o.GetWhy(),
				o.GetRunnerId(), o.GetProfileName(), o.GetLeaseId(), clock(o.GetLastContactAt()),
			})
		}
		return t
	})
}
