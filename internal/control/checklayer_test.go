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

// TestBindingsCarryNothingPrivileged: what a pod would carry beyond a plain sandbox needs a runner that allows it, when the binding
// is written and when what it is made of is.
func TestBindingsCarryNothingPrivileged(t *testing.T) {
	w := newWorldWith(t, control.Config{CheckSpec: kube.CheckSpec, CheckCarried: kube.CheckCarried}, fake.Config{}, "r1=us")
	const carries = `{"pod":{"spec":{"hostNetwork":true},"metadata":{"annotations":{"k8s.v1.cni.cncf.io/networks":"other"}}}}`
	const network, annotation = "pod.spec.hostNetwork", "pod.metadata.annotations[k8s.v1.cni.cncf.io/networks]"
	p := w.newProfile("a", carries)
	binding := core.Binding{ProfileID: p.ID, Default: true}
	wantFault(t, w.bind("r1", binding), fault.Invalid, fault.ReasonUnresolvable,
		"profile_bindings[0]."+network, "profile_bindings[0]."+annotation, "(profile a)", "runner r1", "allow_privileged_profile_annotations")

	allow := func(yes bool) error {
		_, _, err := w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{
			Mask:   []string{"managed_spec.allow_privileged_profile_annotations"},
			Runner: control.RunnerInput{Managed: core.ManagedSpec{AllowPrivilegedProfileAnnotation: yes}},
		})
		return err
	}
	w.must(allow(true))
	w.must(w.bind("r1", binding))
	wantFault(t, allow(false), fault.Invalid, fault.ReasonUnresolvable, network)

	// Without the flag an edit of the profile or of the zone may not bring it in either.
	w.editProfile("a", `{}`)
	w.must(allow(false))
	_, _, err := w.svc.UpdateProfile(w.ctx(), w.admin, "a", control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(carries)}})
	wantFault(t, err, fault.Precondition, fault.ReasonUnresolvable, network, "binding a of runner r1")
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{Defaults: w.layer(carries)})
	wantFault(t, err, fault.Precondition, fault.ReasonUnresolvable, annotation, "(zone us)")
	_, _, err = w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{
		Mask:   []string{"profile_bindings"},
		Runner: control.RunnerInput{Bindings: []core.Binding{{ProfileID: p.ID, Default: true, Overrides: w.layer(carries)}}},
	})
	wantFault(t, err, fault.Invalid, fault.ReasonUnresolvable, "profile_bindings[0].overrides_json."+network)
}
