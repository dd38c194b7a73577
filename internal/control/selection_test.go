package control_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestListRunnersFilters: each filter selects by one fact, together they select what all do.
func TestListRunnersFilters(t *testing.T) {
	w := newWorld(t, "here")
	other := w.newProfile("other", `{}`)
	for i, zone := range []string{"north", "north", "south"} {
		in := control.RunnerInput{RunnerID: fmt.Sprintf("r%d", i), Zone: zone, ClusterName: fmt.Sprint("c", i), Bindings: []core.Binding{{ProfileID: w.profile.ID, Default: true}}}
		if i > 0 {
			in.Bindings = append(in.Bindings, core.Binding{ProfileID: other.ID, Alias: "another-name"})
			in.Managed.OverridesJSON = fmt.Sprintf(`{"labels":{"rack":"k%d"}}`, i)
		}
		_, _, err := w.svc.CreateRunner(w.ctx(), w.admin, in)
		w.must(err)
	}
	ids := func(f control.RunnerSelection, p control.Page) (string, string) {
		t.Helper()
		list, next, err := w.svc.ListRunners(w.ctx(), w.user, f, p)
		w.must(err)
		var out []string
		for _, v := range list {
			out = append(out, v.Runner.RunnerID)
		}
		return strings.Join(out, " "), next
	}
	const mine = "here"
	for name, tt := range map[string]struct {
		filter control.RunnerSelection
		want   string
	}{
		"zone":              {control.RunnerSelection{Zone: "north"}, "r0 r1"},
		"profile by name":   {control.RunnerSelection{Profile: "other"}, "r1 r2"},
		"profile by id":     {control.RunnerSelection{Profile: other.ID}, "r1 r2"},
		"connected":         {control.RunnerSelection{Connection: control.Connected}, mine},
		"never installed":   {control.RunnerSelection{Install: control.InstallPending}, "r0 r1 r2"},
		"label":             {control.RunnerSelection{Labels: "rack in (k2, k3)"}, "r2"},
		"without label":     {control.RunnerSelection{Labels: "!rack", Zone: "north"}, "r0"},
		"all must hold":     {control.RunnerSelection{Profile: "other", Zone: "north"}, "r1"},
		"nothing has both":  {control.RunnerSelection{Connection: control.Connected, Zone: "south"}, ""},
		"zone of no runner": {control.RunnerSelection{Zone: "west"}, ""},
	} {
		if got, next := ids(tt.filter, control.Page{}); got != tt.want || next != "" {
			t.Errorf("%s: %q, want %q; next page %q", name, got, tt.want, next)
		}
	}

	// Pages hold as many as were asked for, whatever lies between, and end when nothing more is selected.
	f := control.RunnerSelection{Profile: "other"}
	first, next := ids(f, control.Page{Size: 1})
	second, end := ids(f, control.Page{Size: 1, Token: next})
	if first != "r1" || next == "" || second != "r2" || end != "" {
		t.Errorf("pages: %q, %q (%q, %q)", first, second, next, end)
	}
	_, _, err := w.svc.ListRunners(w.ctx(), w.user, control.RunnerSelection{Zone: "north"}, control.Page{Size: 1, Token: next})
	wantFault(t, err, fault.Invalid, fault.ReasonPageTokenInvalid, "same filters")
	_, _, err = w.svc.ListRunners(w.ctx(), w.user, control.RunnerSelection{Profile: "nobody"}, control.Page{})
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound, "nobody")
	_, _, err = w.svc.ListRunners(w.ctx(), w.otherOrg("acme"), control.RunnerSelection{Profile: other.ID}, control.Page{})
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound, other.ID)
}

func TestListProfilesByLabel(t *testing.T) {
	w := newWorld(t)
	for i, team := range []string{"ml", "web", "ml"} {
		_, err := w.svc.CreateProfile(w.ctx(), w.admin, control.ProfileInput{
			DisplayName: fmt.Sprint("p-", i), Spec: w.layer(`{}`), Labels: map[string]string{"team": team},
		})
		w.must(err)
	}
	list, next, err := w.svc.ListProfiles(w.ctx(), w.user, control.ProfileSelection{Labels: "team=ml"}, control.Page{Size: 1})
	w.must(err)
	if len(list) != 1 || list[0].Labels["team"] != "ml" || next == "" {
		t.Fatalf("first page: %+v, next %q", list, next)
	}
	again, next, err := w.svc.ListProfiles(w.ctx(), w.user, control.ProfileSelection{Labels: "team=ml"}, control.Page{Size: 1, Token: next})
	w.must(err)
	if len(again) != 1 || again[0].ID == list[0].ID || again[0].Labels["team"] != "ml" || next != "" {
		t.Errorf("second page: %+v, next %q", again, next)
	}
	for _, broken := range []string{"team in ml", "=x", strings.Repeat("a,", 3000)} {
		_, _, err = w.svc.ListProfiles(w.ctx(), w.user, control.ProfileSelection{Labels: broken}, control.Page{})
		wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid, "label_selector")
	}
}
