package control

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// MaxFilterValues is how many values one field of a filter may have.
const MaxFilterValues = 64

// SandboxView is a sandbox as it is now.
type SandboxView struct {
	// Sandbox has the live status: CREATING and TERMINATING are known in memory only.
	Sandbox *core.Sandbox
	// Usage is nil unless the sandbox runs and its runner could measure it.
	Usage *core.Amounts
	// GroupID is that of the runner as it is configured now, empty when it is gone. Isolation is what separates the sandbox
	// from the machine, in words.
	GroupID, Isolation string
}

// Get returns a sandbox, running or ended.
func (s *Service) Get(ctx context.Context, p core.Principal, id string) (*SandboxView, error) {
	if err := s.allow(p, "Get"); err != nil {
		return nil, err
	}
	row, err := s.row(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	view := &SandboxView{Sandbox: s.overlay(row), Isolation: backendAttr(row, attrIsolation)}
	cfg, err := s.config(ctx, p.OrgID, false)
	if err != nil {
		return nil, err
	}
	if r := cfg.find(row.RunnerUUID); r != nil {
		view.GroupID = r.runner.GroupID
	}
	link, _ := s.contacts.linkOf(row.RunnerUUID)
	if link == nil || view.Sandbox.Status != core.StatusRunning {
		return view, nil
	}
	if usage, err := link.Usage(ctx, id); err == nil {
		view.Usage = &usage
	}
	return view, nil
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
	if err := s.allow(p, "List"); err != nil {
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
	var out []*core.Sandbox
	want := sp.Size
	for {
		var rows []*core.Sandbox
		err := s.store.View(ctx, func(r store.Reader) error {
			var err error
			rows, sp.After, err = r.Sandboxes(ctx, q.filter(p.OrgID), sp)
			return err
		})
		if err != nil {
			return nil, "", err
		}
		for _, row := range rows {
			if now := s.overlay(row); len(q.Statuses) == 0 || slices.Contains(q.Statuses, now.Status) {
				out = append(out, now)
			}
		}
		// What is filtered by live status alone leaves pages short; they are filled up.
		if sp.After == "" || len(out) >= want {
			return out, c.token(sp.After), nil
		}
		sp.Size = want - len(out)
	}
}

// filter is the part of a query that the store can answer: live statuses are widened to the written ones behind them.
func (q SandboxQuery) filter(orgID string) store.SandboxFilter {
	f := store.SandboxFilter{OrgID: orgID, Tags: q.Tags, ProfileNames: q.Profiles, RunnerIDs: q.RunnerIDs, IncludeEnded: q.IncludeEnded}
	add := func(statuses ...core.Status) {
		for _, st := range statuses {
			if !slices.Contains(f.Statuses, st) {
				f.Statuses = append(f.Statuses, st)
			}
		}
	}
	for _, st := range q.Statuses {
		switch st {
		case core.StatusCreating:
			add(core.StatusPending)
		case core.StatusTerminating:
			add(core.StatusPending, core.StatusRunning, core.StatusTerminating)
		case core.StatusPending, core.StatusRunning, core.StatusPaused, core.StatusCompleted, core.StatusFailed:
			add(st)
		}
		f.IncludeEnded = f.IncludeEnded || st.Terminal()
	}
	return f
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
