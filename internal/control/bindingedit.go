package control

import (
	"context"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// BindingPaths is what a mask of one binding may name, in the form of spec.ParseMask.
func BindingPaths() []string {
	return []string{"profile_template_id", "profile_name", "is_default", "overrides_json", "warm"}
}

// BindingPatch replaces the fields of one binding that Mask names, snake_case paths of BindingPaths.
type BindingPatch struct {
	Mask    []string
	Binding core.Binding
}

// EditState is the state of an object that an edit is made for, and why it is made.
type EditState struct {
	// Etag, when not empty, is the state that the caller has seen.
	Etag   string
	Reason string
}

// AddBinding attaches a profile to a runner. A default one takes that over from the one that has it. The second result holds
// warnings. Each of these edits is one revision of the runner, checked as a whole list is.
func (s *Service) AddBinding(ctx context.Context, p core.Principal, ref string, b core.Binding, st EditState) (*RunnerView, []string, error) {
	return s.editBindings(ctx, p, "AddBinding", ref, st, func(l *bindingList) error {
		if b.Default {
			l.clearDefault()
		}
		l.bindings = append(l.bindings, b)
		l.edited = len(l.bindings) - 1
		return nil
	})
}

// UpdateBinding changes the binding of a name. That it be the default may be set, and is taken back only by setting it elsewhere.
func (s *Service) UpdateBinding(ctx context.Context, p core.Principal, ref, name string, patch BindingPatch, st EditState) (*RunnerView, []string, error) {
	return s.editBindings(ctx, p, "UpdateBinding", ref, st, func(l *bindingList) error {
		i, err := l.find(name)
		if err != nil {
			return err
		}
		l.edited = i
		return l.patch(i, patch)
	})
}

// RemoveBinding detaches the profile of a name. The last binding is refused; so is the default one, unless newDefault names the one
// that becomes it. Sandboxes that run go on.
func (s *Service) RemoveBinding(ctx context.Context, p core.Principal, ref, name, newDefault string, st EditState) (*RunnerView, []string, error) {
	return s.editBindings(ctx, p, "RemoveBinding", ref, st, func(l *bindingList) error { return l.remove(name, newDefault) })
}

// SetDefaultBinding makes the binding of a name that of launches that name no profile.
func (s *Service) SetDefaultBinding(ctx context.Context, p core.Principal, ref, name string, st EditState) (*RunnerView, []string, error) {
	return s.editBindings(ctx, p, "SetDefaultBinding", ref, st, func(l *bindingList) error {
		i, err := l.find(name)
		if err == nil {
			l.setDefault(i)
		}
		return err
	})
}

// editBindings makes one change of a runner's list from the list that is there then, so that of two at once neither is lost.
func (s *Service) editBindings(
	ctx context.Context, p core.Principal, method, ref string, st EditState, change func(*bindingList) error,
) (*RunnerView, []string, error) {
	if err := s.allow(ctx, p, method, audit.Target{Kind: string(store.KindRunner), Ref: ref, Reason: st.Reason}); err != nil {
		return nil, nil, err
	}
	var l *bindingList
	view, warnings, err := s.updateRunner(ctx, p, ref, func(tx store.Tx, current *core.Runner) (RunnerPatch, error) {
		patch := RunnerPatch{Mask: []string{"profile_bindings"}, Etag: st.Etag}
		if err := checkEtag(st.Etag, "runner "+current.RunnerID, current.Meta); err != nil {
			return patch, err
		}
		names, err := s.bindingNames(ctx, tx, current)
		if err != nil {
			return patch, err
		}
		l = &bindingList{runner: current, bindings: slices.Clone(current.Bindings), names: names, edited: -1}
		err = change(l)
		patch.Runner = RunnerInput{Bindings: l.bindings, Reason: st.Reason}
		return patch, err
	})
	return view, warnings, l.explain(err)
}

// bindingList is the list of a runner while one of it is changed. edited is the position of that one, -1 when it is gone.
type bindingList struct {
	runner   *core.Runner
	bindings []core.Binding
	names    []string
	edited   int
}

func (l *bindingList) find(name string) (int, error) {
	if i := slices.Index(l.names, name); i >= 0 {
		return i, nil
	}
	return 0, fault.NotFoundf(fault.ReasonBindingNotFound, "runner %s has no binding named %.80q", l.runner.RunnerID, name).
		WithHint("its bindings are %s", strings.Join(l.names[:min(len(l.names), maxListed)], ", "))
}

func (l *bindingList) clearDefault() {
	for i := range l.bindings {
		l.bindings[i].Default = false
	}
}

func (l *bindingList) setDefault(i int) {
	l.clearDefault()
	l.bindings[i].Default = true
}

func (l *bindingList) patch(i int, patch BindingPatch) error {
	b, in := &l.bindings[i], patch.Binding
	for _, path := range patch.Mask {
		switch path {
		case "profile_template_id":
			b.ProfileID = in.ProfileID
		case "profile_name":
			b.Alias = in.Alias
		case "overrides_json":
			b.Overrides = in.Overrides
		case "warm":
			b.Warm = in.Warm
		case "is_default":
			if !in.Default && b.Default {
				return fault.Invalidf(fault.ReasonBindingsInvalid, "binding %s is the default of runner %s, which must have one", l.names[i], l.runner.RunnerID).
					WithHint("make another binding the default: it takes that over")
			}
			if in.Default {
				l.setDefault(i)
			}
		default:
			return unknownPath(path)
		}
	}
	return nil
}

func (l *bindingList) remove(name, newDefault string) error {
	i, err := l.find(name)
	if err != nil {
		return err
	}
	if len(l.bindings) == 1 {
		return fault.Invalidf(fault.ReasonBindingsInvalid, "binding %s is the only one of runner %s, which must have one", name, l.runner.RunnerID).
			WithHint("add another binding first, or delete the runner")
	}
	if newDefault != "" {
		next, err := l.find(newDefault)
		if err != nil {
			return err
		}
		if next == i {
			return fault.Invalidf(fault.ReasonFieldInvalid, "binding %s cannot be removed and become the default", name).WithField("new_default", "names the binding that is removed")
		}
		l.setDefault(next)
	}
	if l.bindings[i].Default {
		others := slices.Delete(slices.Clone(l.names), i, i+1)
		return fault.Invalidf(fault.ReasonBindingsInvalid, "binding %s is the default of runner %s, which must have one", name, l.runner.RunnerID).
			WithHint("say which becomes the default in its place: %s", strings.Join(others[:min(len(others), maxListed)], ", "))
	}
	l.bindings = slices.Delete(l.bindings, i, i+1)
	return nil
}

// explain lets a refusal of the list speak of the binding that was changed, as its caller does, and leaves the advice about whole
// lists out.
func (l *bindingList) explain(err error) error {
	if err == nil || l == nil || !fault.Is(err, fault.Invalid) {
		return err
	}
	e := fault.From(err).Clone()
	if e.Hint == bindingHint {
		e.Hint = ""
	}
	for i, f := range e.Fields {
		if rest, ok := strings.CutPrefix(f.Path, bindingPath(l.edited)); ok {
			e.Fields[i].Path = "binding" + rest
		}
	}
	return e
}
