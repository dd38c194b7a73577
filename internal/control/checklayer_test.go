package control_test

import (
	"testing"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestLayersMakeAPod: a pod fragment that Kubernetes would not take is refused when it is written, in each layer, and nothing changes.
func TestLayersMakeAPod(t *testing.T) {
	w := newWorldWith(t, control.Config{CheckSpec: kube.CheckSpec}, fake.Config{}, "r1=us")
	const good, bad, misspelt = `{"pod":{"spec":{"hostNetwork":null,"priorityClassName":"low"}}}`, `{"pod":{"spec":{"hostNetwrk":true}}}`, "pod.spec.hostNetwrk"

	_, err := w.svc.CreateProfile(w.ctx(), w.admin, control.ProfileInput{DisplayName: "a", Spec: w.layer(bad)})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldUnknown, "spec."+misspelt, "hostNetwork")
	p := w.newProfile("a", good)

	_, _, err = w.svc.UpdateProfile(w.ctx(), w.admin, "a", control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(bad)}})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldUnknown, "spec."+misspelt)
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{Defaults: w.layer(bad)})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldUnknown, "defaults."+misspelt)
	err = w.bind("r1", core.Binding{ProfileID: p.ID, Default: true, Overrides: w.layer(bad)})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldUnknown, "profile_bindings[0].overrides_json."+misspelt)

	now, err := w.svc.GetProfile(w.ctx(), w.user, "a")
	w.must(err)
	r, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	if now.Revision != 1 || r.Runner.Revision != 1 {
		t.Errorf("profile at revision %d, runner at %d: something was written", now.Revision, r.Runner.Revision)
	}
	w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true, Overrides: w.layer(good)}))
}
