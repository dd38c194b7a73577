package control

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

const (
	// MaxFilterValues is how many values one field of a filter may have.
	MaxFilterValues = store.MaxAlternatives
	// MaxListScan is after how many sandboxes a page is returned although it is not full. The next one goes on from there.
	MaxListScan = 5000
	// StartWait is how long after its launch a sandbox may keep GetStarted waiting.
	StartWait = time.Second
)

// SandboxView is a sandbox as it is now.
type SandboxView struct {
	// Sandbox has the live status: CREATING and TERMINATING are known in memory only.
	Sandbox *core.Sandbox
	// Usage is nil unless the sandbox runs, or is paused, and its runner could measure it.
	Usage *core.Usage
	// GroupID is that of the runner as it is configured now, empty when it is gone. Isolation is what separates the sandbox
	// from the machine, in words.
	GroupID, Isolation string
}

// Get returns a sandbox, running or ended.
func (s *Service) Get(ctx context.Context, p core.Principal, id string) (*SandboxView, error) {
	if err := s.allow(ctx, p, "Get"); err != nil {
		return nil, err
	}
	row, err := s.row(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	view := &SandboxView{Sandbox: s.overlay(row), Isolation: rememberedAttrs(row)[attrIsolation]}
	cfg, err := s.config(ctx, p.OrgID, false)
	if err != nil {
		return nil, err
	}
	if r := cfg.find(row.RunnerUUID); r != nil {
		view.GroupID = r.runner.GroupID
	}
	link, _ := s.contacts.linkOf(row.RunnerUUID)
	if link == nil || view.Sandbox.Status != core.StatusRunning && view.Sandbox.Status != core.StatusPaused {
		return view, nil
	}
	if usage, err := link.Usage(ctx, id); err == nil {
		view.Usage = &usage
	}
	return view, nil
}

// GetStarted is Get, but of a sandbox that is starting it waits until that is over, for as long as the sandbox is not older than StartWait:
// whoever asks right after the launch would ask again a moment later, and the published clients let 200 ms pass before they do.
func (s *Service) GetStarted(ctx context.Context, p core.Principal, id string) (*SandboxView, error) {
	v, err := s.Get(ctx, p, id)
	if err != nil || !starting(v.Sandbox.Status) || v.Sandbox.Observation == core.ObservationUnknown {
		return v, err
	}
	most := min(v.Sandbox.CreatedAt.Add(StartWait).Sub(s.now()), StartWait)
	if end, limited := ctx.Deadline(); limited { // an answer that it is still starting is better than none
		most = min(most, time.Until(end)/2)
	}
	if most <= 0 { // Clients poll for as long as an image is pulled, and each time that is read once.
		return v, nil
	}
	s.waitStarted(ctx, id, most)
	return s.Get(ctx, p, id)
}

func starting(s core.Status) bool { return s == core.StatusPending || s == core.StatusCreating }

// waitStarted returns when a sandbox is not starting any more, as far as this server knows, or after most.
func (s *Service) waitStarted(ctx context.Context, id string, most time.Duration) {
	enough := time.NewTimer(most)
	defer enough.Stop()
	for {
		var changed chan struct{}
		s.live.look(id, func(e *liveSandbox) {
			if starting(statusNow(e.row.Status, e)) {
				changed = e.changed
			}
		})
		if changed == nil {
			return
		}
		select {
		case <-changed:
		case <-enough.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// SandboxQuery selects sandboxes. Empty fields select all; values of a field are alternatives, tags are all required.
type SandboxQuery struct {
	Tags     []string
	Statuses []core.Status
	// Profiles are binding names, or UUIDs of profiles.
	Profiles  []string
	RunnerIDs []string
	// IncludeEnded also selects those that have ended. A final status among Statuses does that by itself.
	IncludeEnded bool
	Page         Page
}

// List lists sandboxes, newest first.
func (s *Service) List(ctx context.Context, p core.Principal, q SandboxQuery) ([]*core.Sandbox, string, error) {
	if err := s.allow(ctx, p, "List"); err != nil {
		return nil, "", err
	}
	if err := checkQuery(q); err != nil {
		return nil, "", err
	}
	c := scope{orgID: p.OrgID, kind: "sandbox", filter: q.text()}
	sp, err := c.page(q.Page, DefaultSandboxPage)
	if err != nil {
		return nil, "", err
	}
	filter, match := q.split(p.OrgID)
	var out []*core.Sandbox
	for want, scanned := sp.Size, 0; ; sp.Size = want - len(out) {
		var rows []*core.Sandbox
		err := s.store.View(ctx, func(r store.Reader) error {
			var err error
			rows, sp.After, err = r.Sandboxes(ctx, filter, sp)
			return err
		})
		if err != nil {
			return nil, "", err
		}
		for _, row := range rows {
			if now := s.overlay(row); match(now) {
				out = append(out, now)
			}
		}
		// Where memory filters too, a page comes out short. It is filled up, but not at any price; and a store that looked at so many
		// rows that it cut a page short has paid it already.
		if scanned += len(rows); sp.After == "" || len(out) >= want || len(rows) < sp.Size || scanned >= MaxListScan {
			return out, c.token(sp.After), nil
		}
	}
}

// split returns the part of a query that the store can answer and the whole of it as a test. Live statuses are widened to
// the written ones behind them; profiles by UUID are left to the test.
func (q SandboxQuery) split(orgID string) (store.SandboxFilter, func(*core.Sandbox) bool) {
	f := store.SandboxFilter{OrgID: orgID, Tags: q.Tags, RunnerIDs: q.RunnerIDs, IncludeEnded: q.IncludeEnded}
	if !slices.ContainsFunc(q.Profiles, spec.IsUUIDShaped) {
		f.ProfileNames = q.Profiles
	}
	for _, st := range q.Statuses {
		for _, written := range writtenFor(st) {
			if !slices.Contains(f.Statuses, written) {
				f.Statuses = append(f.Statuses, written)
			}
		}
		f.IncludeEnded = f.IncludeEnded || st.Terminal()
	}
	return f, func(sb *core.Sandbox) bool {
		named := func(p string) bool { return p == sb.ProfileName || strings.EqualFold(p, sb.ProfileID) }
		return (len(q.Statuses) == 0 || slices.Contains(q.Statuses, sb.Status)) && (len(q.Profiles) == 0 || slices.ContainsFunc(q.Profiles, named))
	}
}

// writtenFor returns the statuses under which a sandbox of this live status may be written.
func writtenFor(st core.Status) []core.Status {
	switch st {
	case core.StatusCreating:
		return []core.Status{core.StatusPending}
	case core.StatusTerminating:
		return []core.Status{core.StatusPending, core.StatusRunning, core.StatusPaused, core.StatusTerminating}
	case core.StatusRunning, core.StatusPaused:
		return []core.Status{core.StatusRunning, core.StatusPaused}
	case core.StatusPending, core.StatusCompleted, core.StatusFailed:
	}
	return []core.Status{st}
}

func (q SandboxQuery) text() string {
	statuses := make([]string, len(q.Statuses))
	for i, st := range q.Statuses {
		statuses[i] = string(st)
	}
	return filterText(
		strings.Join(q.Tags, "\x1e"), strings.Join(statuses, "\x1e"), strings.Join(q.Profiles, "\x1e"), strings.Join(q.RunnerIDs, "\x1e"),
		strconv.FormatBool(q.IncludeEnded),
	)
}

func checkQuery(q SandboxQuery) error {
	e := fault.Invalidf(fault.ReasonInvalidRequest, "invalid list request")
	for _, f := range []struct {
		path string
		n    int
	}{{"tags", len(q.Tags)}, {"status", len(q.Statuses)}, {"profile_names", len(q.Profiles)}, {"runner_ids", len(q.RunnerIDs)}} {
		if f.n > MaxFilterValues {
			e.WithField(f.path, "%d values, the limit is %d", f.n, MaxFilterValues)
		}
	}
	return orNil(e)
}
