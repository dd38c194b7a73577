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

// maxWalks is how many alternatives a filter has whose index is walked. Each is a part of the query with all the other
// filters in it, and engines take long to plan many of them: one with more alternatives is checked row by row.
const maxWalks = 8

// filter is one filter of a list: a column with its alternatives, or one tag.
type filter struct {
	column string
	values []string
	// tag is set instead of column.
	tag string
	// unindexed: there is no index to walk.
	unindexed bool
}

// liveStatuses are those that are not terminal.
func liveStatuses() []core.Status {
	return []core.Status{core.StatusPending, core.StatusCreating, core.StatusRunning, core.StatusPaused, core.StatusTerminating}
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

// filtersOf returns the filters, those first whose index tells most about the others: they win where matches are many.
func filtersOf(f store.SandboxFilter) ([]filter, error) {
	bad := fault.Invalidf(fault.ReasonLimitExceeded, "invalid filter")
	if f.OrgID == "" {
		bad.WithField("org_id", "is empty")
	}
	var all []filter
	column := func(path, column string, values []string) {
		values = slices.Compact(slices.Sorted(slices.Values(values)))
		if len(values) > store.MaxAlternatives {
			bad.WithField(path, "has %d values, the limit is %d", len(values), store.MaxAlternatives)
		}
		if len(values) > 0 {
			all = append(all, filter{column: column, values: values})
		}
	}
	if statuses, any := statusesOf(f); !any {
		column("statuses", "status", statuses)
		if len(statuses) == 0 {
			all = append(all, filter{column: "status", values: []string{""}}) // nothing has no status
		}
	}
	column("profile_names", "profile_name", f.ProfileNames)
	column("runner_ids", "runner_id", f.RunnerIDs)
	if f.RunnerUUID != "" {
		all = append(all, filter{column: "runner_uuid", values: []string{f.RunnerUUID}, unindexed: true})
	}
	tags := slices.Compact(slices.Sorted(slices.Values(f.Tags)))
	if len(tags) > store.MaxFilterTags {
		bad.WithField("tags", "has %d values, the limit is %d", len(tags), store.MaxFilterTags)
	}
	for _, tag := range tags {
		all = append(all, filter{tag: tag})
	}
	if len(bad.Fields) > 0 {
		return nil, bad
	}
	return all, nil
}

// statusesOf returns the statuses that a filter lets through; any: all of them.
func statusesOf(f store.SandboxFilter) (statuses []string, any bool) {
	wanted := f.Statuses
	switch {
	case len(wanted) == 0 && f.IncludeEnded:
		return nil, true
	case len(wanted) == 0:
		wanted = liveStatuses()
	}
	for _, s := range wanted {
		if f.IncludeEnded || !s.Terminal() {
			statuses = append(statuses, string(s))
		}
	}
	return statuses, false
}

// chooseDriver takes the filter with the fewest matches out of filters, as the one whose index is walked.
func (r *reader) chooseDriver(ctx context.Context, q *listQuery, filters []filter) error {
	best, fewest := -1, int64(math.MaxInt64)
	for i, f := range filters {
		if len(f.values) > maxWalks || f.unindexed {
			continue
		}
		if len(filters) == 1 {
			best = i
			break
		}
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
	q.rest = filters
	if best >= 0 {
		q.driver = &filters[best]
		q.rest = append(slices.Clone(filters[:best]), filters[best+1:]...)
	}
	return nil
}
