package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

func TestCreateProfile(t *testing.T) {
	w := newWorld(t)
	in := control.ProfileInput{DisplayName: "agent", Description: "d", Labels: map[string]string{"team": "ml"}, Spec: w.layer(`{"tags":null}`), Reason: "because"}
	p, err := w.svc.CreateProfile(w.ctx(), w.admin, in)
	w.must(err)
	if !spec.IsUUIDShaped(p.ID) || p.Revision != 1 || p.OrgID != w.admin.OrgID || p.UpdatedBy != w.admin.Actor || p.Reason != "because" {
		t.Errorf("%+v", p)
	}
	for _, ref := range []string{p.ID, "agent"} {
		got, err := w.svc.GetProfile(w.ctx(), w.user, ref)
		w.must(err)
		if got.ID != p.ID || got.Spec.String() != `{"tags":null}` || got.Labels["team"] != "ml" {
			t.Errorf("by %s: %+v", ref, got)
		}
	}
	_, err = w.svc.CreateProfile(w.ctx(), w.admin, in)
	wantFault(t, err, fault.Exists, fault.ReasonProfileExists, "agent")
}

func TestCreateProfileRefuses(t *testing.T) {
	w := newWorld(t)
	tooMany := map[string]string{}
	for i := range control.MaxLabels + 1 {
		tooMany[fmt.Sprint(i)] = ""
	}
	for name, tt := range map[string]struct {
		in   control.ProfileInput
		path string
	}{
		"no name":        {control.ProfileInput{Spec: w.layer(`{}`)}, "display_name"},
		"long name":      {control.ProfileInput{DisplayName: strings.Repeat("a", 64), Spec: w.layer(`{}`)}, "display_name"},
		"UUID as name":   {control.ProfileInput{DisplayName: "6f1c1a52-8c1a-4a7e-9d6c-0d8f5a1b2c3d", Spec: w.layer(`{}`)}, "display_name"},
		"odd name":       {control.ProfileInput{DisplayName: "a b", Spec: w.layer(`{}`)}, "display_name"},
		"no spec":        {control.ProfileInput{DisplayName: "a"}, "spec"},
		"long text":      {control.ProfileInput{DisplayName: "a", Spec: w.layer(`{}`), Description: strings.Repeat("a", control.MaxDescription+1)}, "description"},
		"bad text":       {control.ProfileInput{DisplayName: "a", Spec: w.layer(`{}`), Description: "a\x00b"}, "description"},
		"many labels":    {control.ProfileInput{DisplayName: "a", Spec: w.layer(`{}`), Labels: tooMany}, "labels"},
		"empty label":    {control.ProfileInput{DisplayName: "a", Spec: w.layer(`{}`), Labels: map[string]string{"": "v"}}, "labels"},
		"long reason":    {control.ProfileInput{DisplayName: "a", Spec: w.layer(`{}`), Reason: strings.Repeat("r", control.MaxReason+1)}, "reason"},
		"63 is the most": {control.ProfileInput{DisplayName: strings.Repeat("a", 63), Spec: w.layer(`{}`)}, ""},
	} {
		_, err := w.svc.CreateProfile(w.ctx(), w.admin, tt.in)
		if tt.path == "" {
			w.must(err)
			continue
		}
		if !fault.Is(err, fault.Invalid) || !hasField(err, tt.path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListProfilesPages(t *testing.T) {
	w := newWorld(t)
	for i := range 7 {
		w.newProfile(fmt.Sprintf("p%d", i), `{}`)
	}
	var names []string
	token := ""
	for {
		page, next, err := w.svc.ListProfiles(w.ctx(), w.user, control.ProfileSelection{}, control.Page{Size: 3, Token: token})
		w.must(err)
		for _, p := range page {
			names = append(names, p.DisplayName)
		}
		if token = next; token == "" {
			break
		}
	}
	if want := []string{"default", "p0", "p1", "p2", "p3", "p4", "p5", "p6"}; !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	_, next, err := w.svc.ListProfiles(w.ctx(), w.user, control.ProfileSelection{}, control.Page{Size: 3})
	w.must(err)
	other := w.otherOrg("acme")
	_, _, err = w.svc.ListProfiles(w.ctx(), other, control.ProfileSelection{}, control.Page{Size: 3, Token: next})
	wantFault(t, err, fault.Invalid, fault.ReasonPageTokenInvalid)
	_, _, err = w.svc.ListRunners(w.ctx(), w.user, control.RunnerSelection{}, control.Page{Size: 3, Token: next})
	wantFault(t, err, fault.Invalid, fault.ReasonPageTokenInvalid)
}

func TestUpdateProfile(t *testing.T) {
	w := newWorld(t)
	p := w.newProfile("agent", `{"tags":["a"],"resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"}}`)
	update := func(patch control.ProfilePatch) (*core.Profile, error) {
		got, _, err := w.svc.UpdateProfile(w.ctx(), w.admin, "agent", patch)
		return got, err
	}
	got, err := update(control.ProfilePatch{Mask: []string{"description", "labels"}, Profile: control.ProfileInput{Description: "new", Reason: "r2"}})
	w.must(err)
	if got.Revision != 2 || got.Description != "new" || got.Reason != "r2" || got.Spec.String() != p.Spec.String() || !got.CreatedAt.Equal(p.CreatedAt) {
		t.Errorf("%+v", got)
	}
	got, err = update(control.ProfilePatch{Mask: []string{"spec.resource_defaults.cpu_limit", "spec.tags"}, Profile: control.ProfileInput{
		Spec: w.layer(`{"resource_defaults":{"cpu_limit":"2","memory_limit":"9Gi"}}`),
	}})
	w.must(err)
	if want := `{"resourceDefaults":{"cpuLimit":"2","memoryLimit":"1Gi"}}`; got.Spec.String() != want {
		t.Errorf("a deeper mask: %s, want %s", got.Spec, want)
	}
	got, err = update(control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(`{}`)}})
	w.must(err)
	if got.Revision != 4 || got.Spec.String() != `{}` {
		t.Errorf("%+v", got)
	}
	same, err := update(control.ProfilePatch{Mask: []string{"spec", "description"}, Profile: control.ProfileInput{Description: "new", Spec: w.layer(`{}`)}})
	w.must(err)
	if same.Revision != 4 {
		t.Errorf("a patch that changes nothing wrote revision %d", same.Revision)
	}
	_, err = update(control.ProfilePatch{Mask: []string{"display_name"}, Profile: control.ProfileInput{DisplayName: "other"}})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldImmutable, "agent", "other")
	_, err = update(control.ProfilePatch{Mask: []string{"display_name"}, Profile: control.ProfileInput{DisplayName: "agent"}})
	w.must(err)
	_, err = update(control.ProfilePatch{Mask: []string{"nonsense"}})
	wantFault(t, err, fault.Invalid, fault.ReasonMaskInvalid, "nonsense")
	_, err = update(control.ProfilePatch{Mask: []string{"spec"}})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid)
	_, _, err = w.svc.UpdateProfile(w.ctx(), w.admin, "nobody", control.ProfilePatch{Mask: []string{"description"}})
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)

	revisions, _, err := w.svc.ProfileRevisions(w.ctx(), w.user, "agent", control.Page{})
	w.must(err)
	if len(revisions) != 4 || revisions[0].Profile.Revision != 4 || revisions[3].Profile.Spec.String() != p.Spec.String() {
		t.Errorf("revisions: %+v", revisions)
	}
}

func TestProfileEtag(t *testing.T) {
	w := newWorld(t)
	p := w.newProfile("agent", `{}`)
	describe := func(etag, text string) (*core.Profile, error) {
		got, _, err := w.svc.UpdateProfile(w.ctx(), w.admin, p.ID, control.ProfilePatch{
			Mask: []string{"description"}, Profile: control.ProfileInput{Description: text}, Etag: etag,
		})
		return got, err
	}
	next, err := describe(control.Etag(p.Meta), "one")
	w.must(err)
	_, err = describe(control.Etag(p.Meta), "two")
	wantFault(t, err, fault.Conflict, fault.ReasonEtagMismatch, "revision 2")
	wantFault(t, w.svc.DeleteProfile(w.ctx(), w.admin, p.ID, control.DeleteOptions{Etag: control.Etag(p.Meta)}), fault.Conflict, fault.ReasonEtagMismatch)
	w.must(w.svc.DeleteProfile(w.ctx(), w.admin, p.ID, control.DeleteOptions{Etag: control.Etag(next.Meta)}))
}

func TestDeleteProfile(t *testing.T) {
	w := newWorld(t, "r1", "r2", "r3")
	p := w.newProfile("agent", `{"tags":["one"]}`)
	for _, r := range []string{"r1", "r3"} {
		w.must(w.bind(r, core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: p.ID}))
	}
	err := w.svc.DeleteProfile(w.ctx(), w.admin, "agent", control.DeleteOptions{})
	wantFault(t, err, fault.Precondition, fault.ReasonProfileBound, "2 runners", "r1", "r3")
	if got := fault.From(err).Meta["runners"]; got != "r1,r3" {
		t.Errorf("metadata: %q", got)
	}
	for _, r := range []string{"r1", "r3"} {
		w.must(w.bind(r, core.Binding{ProfileID: w.profile.ID, Default: true}))
	}
	w.must(w.svc.DeleteProfile(w.ctx(), w.admin, "agent", control.DeleteOptions{}))
	_, err = w.svc.GetProfile(w.ctx(), w.user, p.ID)
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)
	revisions, _, err := w.svc.ProfileRevisions(w.ctx(), w.user, p.ID, control.Page{})
	w.must(err)
	if len(revisions) != 2 || !revisions[0].Deleted || revisions[0].Profile.Spec.String() != `{"tags":["one"]}` {
		t.Errorf("the revisions of a deleted profile: %+v", revisions)
	}
	if again := w.newProfile("agent", `{}`); again.ID == p.ID || again.Revision != 1 {
		t.Errorf("the name is free again, for another profile: %+v", again)
	}
}

// TestEditsThatBreakBindings: an edit that leaves a binding unresolvable is refused with the list, whichever object it is of.
func TestEditsThatBreakBindings(t *testing.T) {
	w := newWorld(t, "r1=us", "r2=eu")
	p := w.newProfile("agent", `{"network":{"egress":{"default":"index","modes":{"index":{"type":"none"}}}}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true}))
	w.must(w.bind("r2", core.Binding{ProfileID: p.ID, Default: true, Overrides: w.layer(`{"network":{"egress":{"default":"own","modes":{"own":{"type":"none"}}}}}`)},
		core.Binding{ProfileID: p.ID, Alias: "second"}))
	// Without the mode that is its default, r1/agent and r2/second name a mode that does not exist.
	edit := func(text string) ([]string, error) {
		_, warnings, err := w.svc.UpdateProfile(w.ctx(), w.admin, "agent", control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(text)}})
		return warnings, err
	}
	_, err := edit(`{"network":{"egress":{"default":"index","modes":{"none":{"type":"none"}}}}}`)
	wantFault(t, err, fault.Precondition, fault.ReasonUnresolvable, "binding agent of runner r1", "binding second of runner r2")
	if strings.Contains(err.Error(), "binding agent of runner r2") {
		t.Errorf("a binding that is fine is listed: %v", err)
	}
	got, err := w.svc.GetProfile(w.ctx(), w.user, "agent")
	w.must(err)
	if got.Revision != 1 {
		t.Errorf("the refused edit left revision %d", got.Revision)
	}
	// Layer 1 can break a binding too: the selector of the pod fragment and the zone's disagree.
	w.editProfile("agent", `{"pod":{"spec":{"nodeSelector":{"pool":"a"}}}}`)
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "eu", control.ZoneInput{Defaults: w.layer(`{"node_selector":{"pool":"b"}}`)})
	wantFault(t, err, fault.Precondition, fault.ReasonUnresolvable, "runner r2")
	if _, err := w.svc.GetZone(w.ctx(), w.user, "eu"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the refused zone is there: %v", err)
	}
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "asia", control.ZoneInput{Defaults: w.layer(`{"node_selector":{"pool":"b"}}`)})
	w.must(err)
	_, _, err = w.svc.UpdateRunner(w.ctx(), w.admin, "r2", control.RunnerPatch{Mask: []string{"identity.zone"}, Runner: control.RunnerInput{Zone: "asia"}})
	wantFault(t, err, fault.Invalid, fault.ReasonUnresolvable, "profile_bindings[0]")
}

// TestTighteningIsAcceptedAndTold: the meet holds, and the answer lists the overrides that lost their effect.
func TestTighteningIsAcceptedAndTold(t *testing.T) {
	w := newWorld(t, "r1=us")
	p := w.newProfile("agent", `{"guardrails":{"resources":{"max_cpu":"8"}}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true, Overrides: w.layer(`{"guardrails":{"resources":{"max_cpu":"4"}}}`)}))
	if warnings := w.editProfile("agent", `{"guardrails":{"resources":{"max_cpu":"6"}}}`); len(warnings) != 0 {
		t.Errorf("the override still holds: %v", warnings)
	}
	warnings := w.editProfile("agent", `{"guardrails":{"resources":{"max_cpu":"2"}}}`)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "binding agent of runner r1") || !strings.Contains(warnings[0], "max_cpu") {
		t.Errorf("warnings: %q", warnings)
	}
	w.editProfile("agent", `{"guardrails":{"resources":{"max_cpu":"8"}}}`)
	_, warnings, err := w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{Defaults: w.layer(`{"guardrails":{"resources":{"max_cpu":"1"}}}`)})
	w.must(err)
	if len(warnings) != 1 {
		t.Errorf("warnings of the zone: %q", warnings)
	}
}
