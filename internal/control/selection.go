package control

import (
	"context"
	"encoding/json"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// maxSelector is the longest label selector that is read, in bytes.
const maxSelector = 4096

// ProfileSelection selects profiles. Empty fields select all.
type ProfileSelection struct {
	// Labels is a selector in the syntax of Kubernetes, such as "team=ml,stage!=old".
	Labels string
}

// RunnerSelection selects runners. Empty fields select all.
type RunnerSelection struct {
	// Labels is a selector of the labels of the runner's deployment.
	Labels string
	Zone   string
	// Profile selects runners that bind a profile, by its UUID or display name.
	Profile    string
	Install    InstallStatus
	Connection ConnectionStatus
}

// selector reads a label selector, nil for none.
func selector(text string) (labels.Selector, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxSelector {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid filter").
			WithField("label_selector", "has %d bytes, the most is %d", len(text), maxSelector)
	}
	sel, err := labels.Parse(text)
	if err != nil {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid filter").
			WithField("label_selector", "cannot be read: %v", err).
			WithHint("write it as in Kubernetes: team=ml, stage!=old, tier in (a,b), team, !team; a comma means and")
	}
	return sel, nil
}

// selects reports whether a selector, nil for all, selects a set of labels.
func selects(sel labels.Selector, set map[string]string) bool {
	return sel == nil || sel.Matches(labels.Set(set))
}

// listPage returns one page of a kind in a transaction of its own, by name, of those that keep accepts. filter is what keep goes by.
func listPage[T any](
	ctx context.Context, s *Service, kind store.Kind, orgID string, page Page, filter string, from func(*store.Object) (*T, error), keep func(*T) bool,
) (all []*T, token string, err error) {
	c := scope{orgID: orgID, kind: string(kind), filter: filter}
	sp, err := c.page(page, DefaultPage)
	if err != nil {
		return nil, "", err
	}
	var next string
	err = s.store.View(ctx, func(r store.Reader) (err error) {
		all, next, err = listObjects(ctx, r, kind, orgID, sp, from, keep)
		return err
	})
	return all, c.token(next), err
}

// listObjects returns one page of a kind, by name, of those that keep accepts: all without it.
func listObjects[T any](
	ctx context.Context, r store.Reader, kind store.Kind, orgID string, p store.Page, from func(*store.Object) (*T, error), keep func(*T) bool,
) (page []*T, after string, err error) {
	chunk, last := p, ""
	if keep != nil {
		chunk.Size = store.MaxPage
	}
	for {
		objects, next, err := r.Objects(ctx, kind, orgID, chunk)
		if err != nil {
			return nil, "", err
		}
		for _, o := range objects {
			v, err := from(o)
			if err != nil {
				return nil, "", err
			}
			if keep != nil && !keep(v) {
				continue
			}
			if len(page) == p.Size {
				return page, last, nil
			}
			page, last = append(page, v), o.Name
		}
		if keep == nil || next == "" {
			return page, next, nil
		}
		chunk.After = next
	}
}

// runnerSelection returns what decides whether a runner is selected, nil for all.
func (s *Service) runnerSelection(ctx context.Context, r store.Reader, orgID string, f RunnerSelection) (func(*core.Runner) bool, error) {
	if f == (RunnerSelection{}) {
		return nil, nil
	}
	sel, err := selector(f.Labels)
	if err != nil {
		return nil, err
	}
	profileID := ""
	if f.Profile != "" {
		profile, err := readProfile(ctx, r, orgID, f.Profile)
		if err != nil {
			return nil, err
		}
		profileID = profile.ID
	}
	return func(runner *core.Runner) bool {
		if f.Zone != "" && runner.Zone != f.Zone || profileID != "" && !binds(runner, profileID) || !selects(sel, deploymentLabels(runner)) {
			return false
		}
		if f.Install == "" && f.Connection == "" {
			return true
		}
		status := s.statusOf(runner)
		return (f.Install == "" || status.Install == f.Install) && (f.Connection == "" || status.Connection == f.Connection)
	}, nil
}

func binds(runner *core.Runner, profileID string) bool {
	return slices.ContainsFunc(runner.Bindings, func(b core.Binding) bool { return b.ProfileID == profileID })
}

// deploymentLabels returns the labels among the deployment overrides of a runner.
func deploymentLabels(runner *core.Runner) map[string]string {
	var overrides struct{ Labels map[string]string }
	if runner.Managed.OverridesJSON == "" || json.Unmarshal([]byte(runner.Managed.OverridesJSON), &overrides) != nil {
		return nil
	}
	return overrides.Labels
}
