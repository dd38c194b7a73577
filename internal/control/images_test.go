package control_test

import (
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestOnlyZonesSayWhereImagesComeFrom: who writes a profile or an override does not decide where content comes from; explain shows that
// the zone does.
func TestOnlyZonesSayWhereImagesComeFrom(t *testing.T) {
	w := newWorld(t, "r1=us")
	const sources = `{"image_sources": {"aliases": {"python:3.11": "mirror.example/python:3.11"}}}`
	const path = "image_sources.aliases"
	_, err := w.svc.CreateProfile(w.ctx(), w.admin, control.ProfileInput{DisplayName: "a", Spec: w.layer(sources)})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid, "spec."+path, "berm zone put")
	p := w.newProfile("a", `{"container_image": "python:3.11"}`)
	_, _, err = w.svc.UpdateProfile(w.ctx(), w.admin, "a", control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(sources)}})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid, "spec."+path)
	err = w.bind("r1", core.Binding{ProfileID: p.ID, Default: true, Overrides: w.layer(sources)})
	wantFault(t, err, fault.Invalid, fault.ReasonBindingsInvalid, "profile_bindings[0].overrides_json."+path)
	w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true}))

	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{Defaults: w.layer(sources)})
	w.must(err)
	sb := w.launch(&specpb.Launch{})
	e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "")
	w.must(err)
	found := false
	for _, f := range e.Fields {
		if f.Path == path {
			found = f.Layer == "zone" && strings.Contains(f.Object, "us")
		}
	}
	if !found {
		t.Errorf("explain does not say that the zone gives the alias: %+v", e.Fields)
	}
}

// TestAliasesAreNoWayAroundGuardrails: the reference that was asked for is judged, whatever it stands for.
func TestAliasesAreNoWayAroundGuardrails(t *testing.T) {
	w := newWorld(t, "r1=us")
	p := w.newProfile("a", `{"guardrails": {"images": {"allowed": ["registry.example/**"], "require_digest": true}}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true}))
	digest := "@sha256:" + strings.Repeat("a", 64)
	_, _, err := w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{Defaults: w.layer(`{"image_sources": {
		"aliases": {"evil.example/x:1": "registry.example/good` + digest + `", "registry.example/tag:1": "registry.example/good` + digest + `"},
		"mirrors": {"evil.example": {"hosts": ["registry.example/evil"]}}}}`)})
	w.must(err)
	for image, word := range map[string]string{"evil.example/x:1": "evil.example", "registry.example/tag:1": "digest", "evil.example/y" + digest: "evil.example"} {
		_, _, err := w.svc.Launch(w.ctx(), w.user, &specpb.Launch{ContainerImage: image})
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", image, err)
		}
	}
	w.launch(&specpb.Launch{ContainerImage: "registry.example/good" + digest})
}

// TestImagesOfARunnerThatKeepsNone: a runner whose images something else keeps says so.
func TestImagesOfARunnerThatKeepsNone(t *testing.T) {
	w := newWorld(t, "r1=us")
	_, err := w.svc.ListImages(w.ctx(), w.admin, "r1")
	wantFault(t, err, fault.Precondition, fault.ReasonBackendUnsupported, "keeps no images")
	_, err = w.svc.ListImages(w.ctx(), w.admin, "nobody")
	wantFault(t, err, fault.NotFound, fault.ReasonRunnerNotFound, "nobody")
	_, err = w.svc.PullImage(w.ctx(), w.admin, "r1", backend.ImagePull{}, nil)
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid, "image")
}
