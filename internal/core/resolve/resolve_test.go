package resolve

import (
	"testing"

	"github.com/bermhq/berm/internal/core/spec"
)

func TestBuiltIn(t *testing.T) {
	in := BuiltIn()
	if in.Origin.Layer != LayerZone || in.Origin.Object != "built-in defaults" || in.Layer.String() != builtIn {
		t.Errorf("%+v says %s", in.Origin, in.Layer)
	}
}

func TestLayerNames(t *testing.T) {
	for l, want := range map[Layer]string{
		LayerZone: "zone", LayerProfile: "profile", LayerOverride: "override", LayerRequest: "request", 0: "unknown", 9: "unknown",
	} {
		if l.String() != want {
			t.Errorf("%d is %s", l, l)
		}
		if back, ok := ParseLayer(want); ok != (want != "unknown") || ok && back != l {
			t.Errorf("%s is %d, %v", want, back, ok)
		}
	}
}

func TestLookup(t *testing.T) {
	inputs := []Input{
		input(t, LayerZone, []byte(`{"tags":["a"],"pod":{"spec":{"x":1}}}`)),
		input(t, LayerProfile, []byte(`{"tags":null,"pod":{"metadata":{"annotations":{"a":"b"}}}}`)),
		input(t, LayerRequest, []byte(`{"pod":{"metadata":{"annotations":{"c":"d"}}}}`)),
	}
	f := Fold(inputs[:2])
	r := f.Overlay(inputs[2])
	for path, want := range map[string]struct {
		state  spec.State
		json   string
		origin int
	}{
		"tags": {spec.Cleared, "null", 1}, "pod.spec.x": {spec.Set, "1", 0}, "podXspec": {}, "container_image": {}, "containerImage": {},
		"pod.metadata.annotations": {spec.Set, `{"a":"b"}`, 1}, "pod.metadata.annotations[c]": {spec.Set, `"d"`, 2},
		"pod.metadata.annotations[a]": {}, "pod.spec": {}, "pod.spec.y": {},
	} {
		v, ok := r.Lookup(path)
		if ok != (want.state != spec.Absent) || v.State != want.state || string(v.JSON()) != want.json {
			t.Errorf("%s: %s %s, %v", path, v.State, v.JSON(), ok)
		}
		if ok && r.IndexOf(v.Origin) != want.origin {
			t.Errorf("%s: from %d, want %d", path, r.IndexOf(v.Origin), want.origin)
		}
	}
	if n := len(r.Inputs()); n != 3 || len(f.Inputs()) != 2 || r.Inputs()[2].Origin.Layer != LayerRequest {
		t.Errorf("%d inputs", n)
	}
	if r.IndexOf(&Origin{}) != -1 {
		t.Error("a foreign origin has an index")
	}
	inputs[0].Origin.Object = "changed"
	if v, _ := f.Lookup("pod.spec.x"); v.Origin.Object != "zone" {
		t.Error("a fold changed with its caller's slice")
	}
}

// TestDigest: it is that of the values, whoever set them.
func TestDigest(t *testing.T) {
	a := input(t, LayerProfile, []byte(`{"tags":["a"],"resourceDefaults":{"cpuLimit":"1"}}`))
	b := input(t, LayerOverride, []byte(`{"tags":["a"]}`))
	if one, two := Fold([]Input{a}).Digest(), Fold([]Input{a, b}).Digest(); one != two {
		t.Errorf("%s and %s", one, two)
	}
	c := input(t, LayerOverride, []byte(`{"resourceDefaults":{"cpuLimit":"1000m"}}`))
	if one, two := Fold([]Input{a}).Digest(), Fold([]Input{a, c}).Digest(); one == two {
		t.Error("the text of a quantity is not part of the digest")
	}
}
