package control_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// names lists the bindings of a runner, the default one marked.
func names(v *control.RunnerView) string {
	out := make([]string, len(v.BindingNames))
	for i, name := range v.BindingNames {
		if out[i] = name; v.Runner.Bindings[i].Default {
			out[i] += "*"
		}
	}
	return strings.Join(out, " ")
}

func TestEditOneBinding(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", `{"resource_defaults":{"memory_limit":"1Gi"}}`)
	var none control.EditState
	is := func(want string) func(*control.RunnerView, []string, error) *control.RunnerView {
		return func(v *control.RunnerView, _ []string, err error) *control.RunnerView {
			t.Helper()
			w.must(err)
			if got := names(v); got != want {
				t.Errorf("bindings %q, want %q", got, want)
			}
			return v
		}
	}
	is("default* agent")(w.svc.AddBinding(w.ctx(), w.admin, "r1", core.Binding{ProfileID: agent.ID}, none))
	is("default agent big*")(w.svc.AddBinding(w.ctx(), w.admin, "r1", core.Binding{
		ProfileID: agent.ID, Alias: "big", Default: true, Overrides: w.layer(`{"resource_defaults":{"memory_limit":"2Gi"}}`),
	}, control.EditState{Reason: "more room"}))
	if sb := w.launch(nil); sb.ProfileName != "big" {
		t.Errorf("the next launch ran under %s", sb.ProfileName)
	}
	is("default agent* big")(w.svc.SetDefaultBinding(w.ctx(), w.admin, "r1", "agent", none))
	v := is("default agent* large")(w.svc.UpdateBinding(w.ctx(), w.admin, "r1", "big",
		control.BindingPatch{Mask: []string{"profile_name", "overrides_json", "warm"}, Binding: core.Binding{Alias: "large", Warm: 2}}, none))
	if b := v.Runner.Bindings[2]; b.Overrides != nil || b.Warm != 2 || b.ProfileID != agent.ID {
		t.Errorf("%+v", b)
	}
	was := v.Runner.Revision
	v = is("default agent* large")(w.svc.UpdateBinding(w.ctx(), w.admin, "r1", "large", control.BindingPatch{Mask: []string{"warm"}, Binding: core.Binding{Warm: 2}}, none))
	if v.Runner.Revision != was {
		t.Error("an edit that changes nothing made a revision")
	}
	is("default agent large*")(w.svc.UpdateBinding(w.ctx(), w.admin, "r1", "large", control.BindingPatch{Mask: []string{"is_default"}, Binding: core.Binding{Default: true}}, none))
	is("default* agent")(w.svc.RemoveBinding(w.ctx(), w.admin, "r1", "large", "default", none))
	is("default*")(w.svc.RemoveBinding(w.ctx(), w.admin, "r1", "agent", "", none))
	revisions, _, err := w.svc.RunnerRevisions(w.ctx(), w.admin, "r1", control.Page{})
	w.must(err)
	if revisions[len(revisions)-3].Runner.Reason != "more room" {
		t.Errorf("the reason is not kept: %+v", revisions[len(revisions)-3].Runner.Meta)
	}
}

func TestEditOneBindingRefuses(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", `{"guardrails":{"resources":{"max_memory":"1Gi"}}}`)
	var none control.EditState
	refused := func(code fault.Code, reason string, parts ...string) func(*control.RunnerView, []string, error) {
		return func(_ *control.RunnerView, _ []string, err error) {
			t.Helper()
			wantFault(t, err, code, reason, parts...)
		}
	}
	before, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	refused(fault.Denied, fault.ReasonRoleMissing)(w.svc.AddBinding(w.ctx(), w.user, "r1", core.Binding{ProfileID: agent.ID}, none))
	refused(fault.NotFound, fault.ReasonRunnerNotFound)(w.svc.AddBinding(w.ctx(), w.admin, "r2", core.Binding{ProfileID: agent.ID}, none))
	refused(fault.Conflict, fault.ReasonEtagMismatch)(w.svc.AddBinding(w.ctx(), w.admin, "r1", core.Binding{ProfileID: agent.ID}, control.EditState{Etag: "old"}))
	refused(fault.Invalid, fault.ReasonBindingsInvalid, "binding.profile_name", "also the name of")(w.svc.AddBinding(w.ctx(), w.admin, "r1", core.Binding{ProfileID: w.profile.ID}, none))
	refused(fault.Invalid, fault.ReasonBindingsInvalid, "binding.profile_template_id", "UUID")(w.svc.AddBinding(w.ctx(), w.admin, "r1", core.Binding{}, none))
	refused(fault.Invalid, "OVERRIDE_WIDENS", "binding.overrides_json")(w.svc.AddBinding(w.ctx(), w.admin, "r1",
		core.Binding{ProfileID: agent.ID, Overrides: w.layer(`{"guardrails":{"resources":{"max_memory":"2Gi"}}}`)}, none))
	refused(fault.NotFound, fault.ReasonBindingNotFound, "its bindings are default")(w.svc.SetDefaultBinding(w.ctx(), w.admin, "r1", "agent", none))
	refused(fault.NotFound, fault.ReasonBindingNotFound)(w.svc.UpdateBinding(w.ctx(), w.admin, "r1", "agent", control.BindingPatch{}, none))
	refused(fault.Invalid, fault.ReasonMaskInvalid)(w.svc.UpdateBinding(w.ctx(), w.admin, "r1", "default", control.BindingPatch{Mask: []string{"x"}}, none))
	refused(fault.Invalid, fault.ReasonBindingsInvalid, "only one")(w.svc.RemoveBinding(w.ctx(), w.admin, "r1", "default", "", none))
	refused(fault.Invalid, fault.ReasonBindingsInvalid, "must have one")(w.svc.UpdateBinding(w.ctx(), w.admin, "r1", "default", control.BindingPatch{Mask: []string{"is_default"}}, none))
	after, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	if after.Runner.Revision != before.Runner.Revision {
		t.Errorf("a refused edit wrote revision %d", after.Runner.Revision)
	}
	_, _, err = w.svc.AddBinding(w.ctx(), w.admin, "r1", core.Binding{ProfileID: agent.ID}, none)
	w.must(err)
	refused(fault.Invalid, fault.ReasonBindingsInvalid, "becomes the default", "agent")(w.svc.RemoveBinding(w.ctx(), w.admin, "r1", "default", "", none))
	refused(fault.Invalid, fault.ReasonFieldInvalid, "new_default")(w.svc.RemoveBinding(w.ctx(), w.admin, "r1", "default", "default", none))
}

// TestConcurrentSingleBindings: a hundred who add, without having seen each other's, all find theirs in the list.
func TestConcurrentSingleBindings(t *testing.T) {
	w := newWorld(t)
	var group sync.WaitGroup
	for i := range editors {
		group.Go(func() {
			b := core.Binding{ProfileID: w.profile.ID, Alias: fmt.Sprintf("b%d", i), Default: true}
			if _, _, err := w.svc.AddBinding(w.ctx(), w.admin, "r1", b, control.EditState{}); err != nil {
				t.Errorf("binding %d: %v", i, err)
			}
		})
	}
	group.Wait()
	v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	if len(v.Runner.Bindings) != editors+1 || strings.Count(names(v), "*") != 1 {
		t.Errorf("%d bindings: %s", len(v.Runner.Bindings), names(v))
	}
}
