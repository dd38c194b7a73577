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

// maxScan is how many rows of each alternative are walked for one page where other filters are checked row by row. Two filters
// that many rows pass and few pass both would else be checked against all of them: such a page comes out short instead, and
// the next one goes on from there.
const maxScan = 5000

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
	q := &listQuery{orgID: f.OrgID, size: p.Size + 1, position: position{at: math.MaxInt64}}
	if p.After != "" {
		if q.position, err = parsePosition(p.After); err != nil {
			return nil, "", err
		}
	}
	if err := r.chooseDriver(ctx, q, filters); err != nil {
		return nil, "", err
	}
	text, args := q.text()
	all, err := r.sandboxes(ctx, text, args...)
	if err != nil {
		return nil, "", err
	}
	end, err := r.windowEnd(ctx, q, len(all) > p.Size)
	if err != nil {
		return nil, "", err
	}
	if end != nil { // what is older may have others before it that were not walked to
		all = slices.DeleteFunc(all, func(s *core.Sandbox) bool { return positionOf(s).before(*end) })
	}
	switch {
	case len(all) > p.Size:
		all = all[:p.Size]
		return all, positionOf(all[p.Size-1]).key(), nil
	case end != nil:
		return all, end.key(), nil
	}
	return all, "", nil
}

// windowEnd returns the position to which all walks of a query have come, nil when nothing cut them short. A page that one walk
// alone has filled needs none.
func (r *reader) windowEnd(ctx context.Context, q *listQuery, filled bool) (*position, error) {
	if q.window == 0 || filled && (q.driver == nil || q.byTag() || len(q.driver.values) == 1) {
		return nil, nil //nolint:nilnil // no end is what there is to say
	}
	var end position
	text, args := q.bound()
	found, err := r.one(ctx, text, args, &end.at, &end.id)
	if err != nil || !found {
		return nil, err
	}
	return &end, nil
}

func positionOf(s *core.Sandbox) position { return position{nanos(s.CreatedAt), s.ID} }

// before reports whether p is older than other, so later in the list.
func (p position) before(other position) bool {
	return p.at < other.at || p.at == other.at && p.id < other.id
}

// key is the position as pages are asked for by it: behind a sandbox that was made then and has this id.
func (p position) key() string { return strconv.FormatInt(p.at, 10) + "/" + p.id }

func parsePosition(key string) (position, error) {
	at, id, ok := strings.Cut(key, "/")
	n, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || id == "" || len(id) > store.MaxText || strconv.FormatInt(n, 10) != at || checkArgs([]any{id}) != nil {
		return position{}, badPageKey()
	}
	return position{n, id}, nil
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

// chooseDriver takes the filter with the fewest matches out of filters, as the one whose index is walked, and bounds the walk
// where it could be long.
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
		c := &listQuery{orgID: q.orgID, position: q.position, size: scanEnough, driver: &filters[i]}
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
	if len(q.rest) > 0 && fewest >= scanEnough {
		q.window = maxScan
	}
	return nil
}
