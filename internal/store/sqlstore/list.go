package sqlstore

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// A list walks one index in the order of the list and checks the other filters row by row. So that a filter which few rows
// pass is not checked against all the others' rows, the index walked is that of the filter with the fewest matches:
// matches are counted up to scanEnough, beyond which rows that pass come soon, or the walk is as long as any.
const scanEnough = 4000

// filter is one filter of a list: a column with its alternatives, or one tag.
type filter struct {
	column string
	values []string
	// tag is set instead of column.
	tag string
	// live is the filter for what has not ended, which has no values.
	live bool
}

// Sandboxes implements store.Reader.
func (r *reader) Sandboxes(ctx context.Context, f store.SandboxFilter, p store.Page) ([]*core.Sandbox, string, error) {
	if err := checkPage(p); err != nil {
		return nil, "", err
	}
	filters, err := filtersOf(f)
	if err != nil {
		return nil, "", err
	}
	q := &listQuery{orgID: f.OrgID, size: p.Size + 1, at: math.MaxInt64}
	if p.After != "" {
		if q.at, q.id, err = parseSandboxKey(p.After); err != nil {
			return nil, "", err
		}
	}
	if err := r.chooseDriver(ctx, q, filters); err != nil {
		return nil, "", err
	}
	text, args := q.text()
	all, err := r.sandboxes(ctx, text, args...)
	if err != nil || len(all) <= p.Size {
		return all, "", err
	}
	all = all[:p.Size]
	last := all[p.Size-1]
	return all, sandboxKey(last), nil
}

// sandboxKey names a position in the list: when the sandbox before it was made, and its id.
func sandboxKey(s *core.Sandbox) string {
	return strconv.FormatInt(nanos(s.CreatedAt), 10) + "/" + s.ID
}

func parseSandboxKey(key string) (int64, string, error) {
	at, id, ok := strings.Cut(key, "/")
	n, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || id == "" || len(id) > store.MaxText || strconv.FormatInt(n, 10) != at || checkArgs([]any{id}) != nil {
		return 0, "", badPageKey()
	}
	return n, id, nil
}

func filtersOf(f store.SandboxFilter) ([]filter, error) {
	bad := fault.Invalidf(fault.ReasonLimitExceeded, "invalid filter")
	if f.OrgID == "" {
		bad.WithField("org_id", "is empty")
	}
	var all []filter
	tags := slices.Compact(slices.Sorted(slices.Values(f.Tags)))
	if len(tags) > store.MaxAlternatives {
		bad.WithField("tags", "has %d values, the limit is %d", len(tags), store.MaxAlternatives)
	}
	for _, tag := range tags {
		all = append(all, filter{tag: tag})
	}
	column := func(path, column string, values []string) {
		values = slices.Compact(slices.Sorted(slices.Values(values)))
		if len(values) > store.MaxAlternatives {
			bad.WithField(path, "has %d values, the limit is %d", len(values), store.MaxAlternatives)
		}
		if len(values) > 0 {
			all = append(all, filter{column: column, values: values})
		}
	}
	if f.RunnerUUID != "" {
		column("runner_uuid", "runner_uuid", []string{f.RunnerUUID})
	}
	column("runner_ids", "runner_id", f.RunnerIDs)
	column("profile_names", "profile_name", f.ProfileNames)
	statuses := make([]string, len(f.Statuses))
	for i, s := range f.Statuses {
		statuses[i] = string(s)
	}
	column("statuses", "status", statuses)
	if !f.IncludeEnded {
		all = append(all, filter{live: true})
	}
	if len(bad.Fields) > 0 {
		return nil, bad
	}
	return all, nil
}

// chooseDriver takes the filter with the fewest matches out of filters, as the one whose index is walked.
func (r *reader) chooseDriver(ctx context.Context, q *listQuery, filters []filter) error {
	best := -1
	for i, fewest := 0, int64(math.MaxInt64); i < len(filters) && len(filters) > 1; i++ {
		c := &listQuery{orgID: q.orgID, at: q.at, id: q.id, size: scanEnough, driver: &filters[i]}
		text, args := c.count()
		var n int64
		if _, err := r.one(ctx, text, args, &n); err != nil {
			return err
		}
		if n < fewest {
			best, fewest = i, n
		}
	}
	if len(filters) == 1 {
		best = 0
	}
	if best >= 0 {
		q.driver = &filters[best]
		q.rest = append(slices.Clone(filters[:best]), filters[best+1:]...)
	}
	return nil
}
