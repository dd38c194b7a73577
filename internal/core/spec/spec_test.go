package spec_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

func parse(t *testing.T, text string) *tree.Node {
	t.Helper()
	n, err := tree.ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return n
}

func layer(t *testing.T, text string) *spec.Layer {
	t.Helper()
	l, err := spec.ParseLayer([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return l
}

// TestAccepted: other spellings are accepted and become the one that is kept.
func TestAccepted(t *testing.T) {
	for text, want := range map[string]string{
		`{"resource_defaults":{"cpu_limit":2.5,"memory_limit":1073741824}}`: `{"resourceDefaults":{"cpuLimit":"2.5","memoryLimit":"1073741824"}}`,
		`{"resourceDefaults":{"cpuRequest":"1000m","cpuLimit":"1"}}`:        `{"resourceDefaults":{"cpuLimit":"1","cpuRequest":"1000m"}}`,
		`{"network":{"egress":{"modes":{"x":{"type":"runway"}}}}}`:          `{"network":{"egress":{"modes":{"x":{"type":"profile"}}}}}`,
		`{"network":{"egress":{"modes":{"x":{"type":"allowlist","dns_names":["a.example"],"cidrs":[]}}}}}`: `{"network":{"egress":{"modes":{"x":` +
			`{"dnsNames":["a.example"],"type":"allowlist"}}}}}`,
		`{"network":{"ingress":{"public":{"scope":"any"},"default":"public"}}}`: `{"network":{"ingress":{"default":"public","modes":{"public":{"scope":"any"}}}}}`,
		`{"network":{"ingress":{"default":{"scope":"any"}}}}`:                   `{"network":{"ingress":{"modes":{"default":{"scope":"any"}}}}}`,
		`{"network_config_json":"{\"egress\":{\"default\":\"x\"}}"}`:            `{"network":{"egress":{"default":"x"}}}`,
		`{"podTemplateJson":null}`:                                              `{"pod":null}`,
		`{"networkConfigJson":""}`:                                              `{}`,
		`{"guardrails":{"fields":{"locked":["containerImage","pod.spec"]}}}`:    `{"guardrails":{"fields":{"locked":["container_image","pod.spec"]}}}`,
		`{"guardrails":{"lifetime":{"maxSeconds":"60"}}}`:                       `{"guardrails":{"lifetime":{"maxSeconds":60}}}`,
		`{"guardrails":{"resources":{"maxCpu":"0","maxGpu":0}}}`:                `{"guardrails":{"resources":{"maxCpu":"0","maxGpu":0}}}`,
		`{"pod":{},"network":{"egress":{}}}`:                                    `{}`,
		`{"pod":{"spec":{"b":{"z":null,"a":1.50},"a":null}}}`:                   `{"pod":{"spec":{"a":null,"b":{"a":1.5,"z":null}}}}`,
		// A null for a message is a null for each of its fields, and the other way round.
		`{"namespace":null}`: `{"namespace":null}`,
		`{"pod":{"metadata":{"labels":null,"annotations":null},"spec":null}}`: `{"pod":null}`,
		`{"pod":{"metadata":null}}`: `{"pod":{"metadata":null}}`,
		`{"network":null}`:          `{"network":null}`,
	} {
		if got := layer(t, text).String(); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

// TestClearedMessage: a null for a message clears every field below it that people write, and no other.
func TestClearedMessage(t *testing.T) {
	var got []string
	for _, l := range layer(t, `{"network":null,"pod":null}`).Leaves() {
		if l.State != spec.Cleared {
			t.Errorf("%s is %s", l.Path(), l.State)
		}
		got = append(got, l.Path())
	}
	want := []string{
		"network.egress.default", "network.egress.modes", "network.egress.require", "network.ingress.default", "network.ingress.modes",
		"pod.metadata.annotations", "pod.metadata.labels", "pod.spec",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWireJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"network":{"ingress":{"modes":{"public":{"scope":"any"}}}}}`:     `{"networkConfigJson":"{\"ingress\":{\"public\":{\"scope\":\"any\"}}}"}`,
		`{"network":{"ingress":{"modes":{"modes":{"scope":"any"}}}}}`:      `{"networkConfigJson":"{\"ingress\":{\"modes\":{\"modes\":{\"scope\":\"any\"}}}}"}`,
		`{"network":{"ingress":{"modes":{}}}}`:                             `{"networkConfigJson":"{\"ingress\":{\"modes\":{}}}"}`,
		`{"network":{"ingress":{"default":"a","modes":{"a":{}}}}}`:         `{"networkConfigJson":"{\"ingress\":{\"default\":\"a\",\"modes\":{\"a\":{}}}}"}`,
		`{"pod":null,"namespace":{"strategy":null},"containerImage":null}`: `{"containerImage":null,"namespaceConfigJson":"{\"strategy\":null}","podTemplateJson":null}`,
		`{"guardrails":{"images":{"requireDigest":true}},"tags":[]}`:       `{"guardrails":{"images":{"requireDigest":true}},"tags":[]}`,
	} {
		l := layer(t, text)
		if got := string(l.WireJSON()); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
		if again := layer(t, string(l.WireJSON())); again.Digest() != l.Digest() {
			t.Errorf("%s reads back as %s", text, again)
		}
	}
}

// TestNodeStyle: names as in the examples of the design.
func TestNodeStyle(t *testing.T) {
	l := layer(t, `{"resourceDefaults":{"cpuLimit":"1"},"namespace":{"namespacePrefix":"a-"},"containerImage":"a",`+
		`"guardrails":{"resources":{"maxCpu":"1"}},"network":{"egress":{"modes":{"a":{"type":"allowlist","dnsNames":["b.example"]}}}}}`)
	var names []string
	var walk func(n *tree.Node)
	walk = func(n *tree.Node) {
		for _, k := range n.Keys {
			names = append(names, k.Name)
			walk(k.Value)
		}
	}
	walk(l.Node())
	want := []string{
		"container_image", "resource_defaults", "cpu_limit", "namespace", "namespacePrefix", "network", "egress", "modes", "a",
		"dnsNames", "type", "guardrails", "resources", "max_cpu",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// TestLayer: a nil layer is the empty one; values come in all their forms.
func TestLayer(t *testing.T) {
	var none *spec.Layer
	if !none.IsEmpty() || none.String() != "{}" || none.Message() == nil || len(none.Leaves()) != 0 {
		t.Errorf("nil layer: %s", none)
	}
	if _, ok := none.Get("tags"); ok {
		t.Error("nil layer has tags")
	}
	l := layer(t, `{"resourceDefaults":{"cpuLimit":"1500m"},"tags":["a","b"],`+
		`"nodeSelector":{"k":"v"},"guardrails":{"resources":{"maxGpu":3}},"pod":{"spec":{"x":{"y":[1,"z",null]}}}}`)
	for path, want := range map[string]any{
		"resource_defaults.cpu_limit": "1500m", "tags": []string{"a", "b"}, "nodeSelector": map[string]string{"k": "v"},
		"guardrails.resources.max_gpu": int64(3), "pod.spec.x": map[string]any{"y": []any{int64(1), "z", nil}},
	} {
		leaf, ok := l.Get(path)
		if diff := cmp.Diff(want, leaf.Any()); !ok || diff != "" {
			t.Errorf("%s: %v %s", path, ok, diff)
		}
	}
	leaf, _ := l.Get("resource_defaults.cpu_limit")
	if a, ok := leaf.Amount(); !ok || a != 1500 || leaf.String() != "1500m" || string(leaf.JSON()) != `"1500m"` {
		t.Errorf("%s: %d %v %s", leaf, a, ok, leaf.JSON())
	}
	if leaf, ok := l.Get("container_image"); ok || leaf.State != spec.Absent || leaf.Any() != nil || len(leaf.JSON()) != 0 {
		t.Errorf("absent leaf: %v %v", leaf, ok)
	}
}

// TestMessage: what comes out is the caller's own.
func TestMessage(t *testing.T) {
	l := layer(t, `{"tags":["a"],"nodeSelector":{},"pod":{"spec":{"hostPID":true,"x":null}},"namespace":null}`)
	m := l.Message()
	m.Tags[0] = "changed"
	m.Pod.Spec.Fields["hostPID"] = nil
	again := l.Message()
	if again.GetTags()[0] != "a" || !again.GetPod().GetSpec().GetFields()["hostPID"].GetBoolValue() {
		t.Errorf("the layer changed with its message: %v", again)
	}
	if len(again.GetPod().GetSpec().GetFields()) != 1 || again.GetNamespace() != nil || again.GetNodeSelector() != nil {
		t.Errorf("cleared and empty values are in the message: %v", again)
	}
}

// TestStored: what was accepted once stays readable, and derived fields may occur.
func TestStored(t *testing.T) {
	const old = `{"network":{"egress":{"modes":{"x":{"type":"gone"}},"selected":"x"}},"resourceDefaults":{"cpuLimit":"nonsense"}}`
	l, err := spec.ParseStored([]byte(old))
	if err != nil || l.String() != old {
		t.Errorf("%s, %v", l, err)
	}
	if _, err := spec.ParseStored([]byte(`{"gone":1}`)); err == nil {
		t.Error("an unknown field was read")
	}
	for range 2 { // what cannot be read is not remembered, nor does what was read once make it valid for people
		if _, err := spec.ParseStored([]byte(`{"resourceDefaults":{"cpuLimit":[]}}`)); err == nil {
			t.Error("a list was read as a quantity")
		}
		if _, err := spec.ParseLayer([]byte(`{"resourceDefaults":{"cpuLimit":"nonsense"}}`)); err == nil {
			t.Error("a quantity that is none was accepted")
		}
	}
}

func TestValidateLeaves(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "", `{"namespace":{"strategy":"static","staticNamespace":"a"}}`: "", `{"namespace":{"strategy":"per-org"}}`: "",
		`{"namespace":{"strategy":"static"}}`:                                 "namespace.static_namespace must be given when strategy is static",
		`{"namespace":{"strategy":"static","staticNamespace":null}}`:          "namespace.static_namespace must be given when strategy is static",
		`{"resourceDefaults":{"memoryRequest":"2Gi","memoryLimit":"1024Mi"}}`: "resource_defaults.memory_request 2Gi is above memory_limit, which is 1024Mi",
		`{"resourceDefaults":{"memoryRequest":"1Gi","memoryLimit":"1024Mi"}}`: "",
		`{"resourceDefaults":{"memoryRequest":"1Gi","memoryLimit":null}}`:     "",
	} {
		l, err := spec.ParseStored([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, p := range spec.ValidateLeaves(l.Leaves()) {
			got += p.Leaf.Path() + " " + p.Message
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
