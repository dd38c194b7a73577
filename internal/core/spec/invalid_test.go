package spec_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

// render returns a fault as a reader sees it: the reason, then one line per violation with its position.
func render(err error) string {
	var e *fault.Error
	if !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	lines := []string{e.Reason}
	for _, f := range e.Fields {
		lines = append(lines, fmt.Sprintf("%d:%d %s: %s", f.Line, f.Column, f.Path, f.Description))
	}
	return strings.Join(lines, "\n")
}

// TestInvalid shows every kind of mistake with the whole of what its author is told.
func TestInvalid(t *testing.T) {
	deep := strings.Repeat("[", 45) + strings.Repeat("]", 45)
	for text, want := range map[string]string{
		// Names.
		`{"container_imge":"x"}`:   "FIELD_UNKNOWN\n" + `1:2 container_imge: unknown field "container_imge"; did you mean "container_image"?`,
		`{"containerImag":"x"}`:    "FIELD_UNKNOWN\n" + `1:2 containerImag: unknown field "containerImag"; did you mean "containerImage"?`,
		`{"cpu_limit":"1"}`:        "FIELD_UNKNOWN\n" + `1:2 cpu_limit: unknown field "cpu_limit"; did you mean "resource_defaults.cpu_limit"?`,
		`{"maxVcpuHoursPerDay":1}`: "FIELD_UNKNOWN\n" + `1:2 maxVcpuHoursPerDay: unknown field "maxVcpuHoursPerDay"; known are container_image, runtime_class, resource_defaults, instance_types, node_selector, tags, namespace, network, pod, guardrails, image_sources, placement`,
		"{\n \"resource_defaults\": {\n  \"cpu_limt\": \"1\"}}": "FIELD_UNKNOWN\n" +
			`3:3 resource_defaults.cpu_limt: unknown field "cpu_limt"; did you mean "cpu_limit"?`,
		`{"pod":{"nodeSelector":{"a":"b"}}}`: "FIELD_UNKNOWN\n" +
			`1:9 pod.nodeSelector: unknown field "nodeSelector"; did you mean "node_selector"?`,
		`{"pod":{"hostNetwork":true}}`: "FIELD_UNKNOWN\n" +
			`1:9 pod.hostNetwork: unknown field "hostNetwork"; known are metadata, spec; other keys belong under pod.spec`,
		`{"containerImage":"a","container_image":"b"}`: "FIELD_INVALID\n1:41 container_image: given twice, as \"containerImage\" and as \"container_image\"",
		// Types.
		`[]`:                        "FIELD_INVALID\n1:1 : expected an object, got a list",
		`{"resource_defaults":"2"}`: "FIELD_INVALID\n1:22 resource_defaults: expected an object, got a string",
		`{"tags":"ci"}`:             "FIELD_INVALID\n1:9 tags: expected a list, got a string",
		`{"tags":["a",null,"",3]}`: "FIELD_INVALID\n1:14 tags[1]: null is not allowed in a list; leave it out\n" +
			"1:22 tags[3]: expected a string, got a number (3); write it in quotes\n1:19 tags[2]: an element is empty",
		`{"nodeSelector":{"a":null}}`:        "FIELD_INVALID\n1:22 node_selector[a]: null is not allowed in a map: a map is one value, write out all of it",
		`{"namespace":{"autoCreate":"yes"}}`: "FIELD_INVALID\n1:28 namespace.auto_create: expected true or false, got a string (\"yes\")",
		`{"pod":{"spec":[]}}`:                "FIELD_INVALID\n1:16 pod.spec: expected an object, got a list",
		`{"pod":{"spec":{"":1}}}`:            "FIELD_INVALID\n1:20 pod.spec: a key is empty",
		// Quantities.
		`{"resourceDefaults":{"cpuLimit":"1e9Gi"}}`:  "FIELD_INVALID\n" + `1:33 resource_defaults.cpu_limit: "1e9Gi" is not a quantity; give CPUs such as "2" or "2.5", or thousandths of one such as "500m"`,
		`{"resourceDefaults":{"memoryLimit":"NaN"}}`: "FIELD_INVALID\n" + `1:36 resource_defaults.memory_limit: "NaN" is not a quantity; give bytes, with a suffix such as in "512Mi" or "4Gi"`,
		`{"resourceDefaults":{"memoryLimit":"-1Gi","cpuRequest":"-1"}}`: "FIELD_INVALID\n" +
			`1:36 resource_defaults.memory_limit: "-1Gi" is negative` + "\n" + `1:56 resource_defaults.cpu_request: "-1" is negative`,
		`{"resourceDefaults":{"cpuLimit":"2","cpuRequest":"2001m"}}`: "FIELD_INVALID\n1:50 resource_defaults.cpu_request: 2001m is above cpu_limit, which is 2",
		`{"resourceDefaults":{"gpu":{"count":1}}}`:                   "FIELD_OUTPUT_ONLY\n1:28 resource_defaults.gpu: computed when a sandbox is launched; leave it out",
		// Guardrails.
		`{"guardrails":null}`: "FIELD_INVALID\n1:15 guardrails: a guardrail cannot be cleared: every layer's bounds hold; change the layer that sets it",
		`{"guardrails":{"fields":{"locked":["containr_image","guardrails.images"]}}}`: "FIELD_INVALID\n" +
			`1:36 guardrails.fields.locked[0]: "containr_image" is no field of a spec; did you mean "container_image"?` + "\n" +
			`1:53 guardrails.fields.locked[1]: "guardrails.images" is a guardrail, which no request can reach`,
		`{"guardrails":{"lifetime":{"maxSeconds":-1},"ports":{"maxCount":65}}}`: "FIELD_INVALID\n" +
			"1:41 guardrails.lifetime.max_seconds: -1 is negative\n1:65 guardrails.ports.max_count: 65 is above the largest allowed, 64",
		// Modes.
		`{"network":{"egress":{"modes":{"x":{"cidrs":["10.0.0.0/8"]}}}}}`: "FIELD_INVALID\n" +
			"1:36 network.egress.modes[x].type: must be given: one of none, internet, allowlist, user, org, profile\n" +
			"1:45 network.egress.modes[x].cidrs: has a meaning only when type is allowlist",
		`{"network":{"egress":{"modes":{"x y":{"type":"intrenet"}}}}}`: "FIELD_INVALID\n" +
			`1:38 network.egress.modes[x y]: the key "x y" is no mode name: 1 to 63 of A-Z, a-z, 0-9, ., _ and -` + "\n" +
			`1:46 network.egress.modes[x y].type: "intrenet" is none of none, internet, allowlist, user, org, profile; did you mean "internet"?`,
		`{"network":{"egress":{"selected":"x"}}}`: "FIELD_OUTPUT_ONLY\n1:34 network.egress.selected: computed when a sandbox is launched; leave it out",
		`{"network":{"ingress":{"public":{"scope":"any"},"modes":{}}}}`: "FIELD_INVALID\n" +
			`1:33 network.ingress.public: give entries either in "modes" or directly, not both`,
		`{"network":{"ingress":{"public":{"scoep":"any"}}}}`: "FIELD_UNKNOWN\n" +
			`1:34 network.ingress.modes[public].scoep: unknown field "scoep"; did you mean "scope"?`,
		// The wire form.
		`{"networkConfigJson":"{","network":{}}`: "FIELD_INVALID\n" +
			"1:22 network: not valid JSON at line 1, column 2: expected a key in double quotes, got the end of the text\n" +
			`1:36 network: given twice, as "networkConfigJson" and as "network"`,
		`{"network_config_json":"{\"egress\":{\"defalt\":\"x\"}}"}`: "FIELD_UNKNOWN\n" +
			`1:24 network.egress.defalt: unknown field "defalt"; did you mean "default"?`,
		`{"networkConfigJson":{}}`: "FIELD_INVALID\n1:22 network: expected JSON text in a string, got an object",
		// Limits.
		`{"pod":{"spec":{"x":` + deep + `}}}`:                          "LIMIT_EXCEEDED",
		`{"pod":{"spec":{"x":"` + strings.Repeat("y", 70_000) + `"}}}`: "LIMIT_EXCEEDED\n1:16 pod.spec: 70008 bytes as JSON, the limit is 65536",
		`{"tags":["a` + strings.Repeat(`","a`, 64) + `"]}`:             "LIMIT_EXCEEDED\n1:9 tags: 65 elements, the limit is 64",
		// Texts.
		`{"runtime_class":"Kata_Qemu"}`:        "FIELD_INVALID\n" + `1:18 runtime_class: "Kata_Qemu" is not made of at most 63 of a-z, 0-9 and -, the first and the last no -; did you mean "kata-qemu"?`,
		`{"container_image":""}`:               "FIELD_INVALID\n1:20 container_image: is empty; leave the field out to inherit, or give null to clear it",
		`{"container_image":"a\u0001b"}`:       "FIELD_INVALID\n" + `1:20 container_image: holds the control character '\x01'`,
		`{"namespace":{"strategy":"perUser"}}`: "FIELD_INVALID\n" + `1:26 namespace.strategy: "perUser" is none of per-user, per-org, per-profile, static; did you mean "per-user"?`,
	} {
		_, err := spec.ParseLayer([]byte(text))
		if diff := cmp.Diff(want, render(err)); diff != "" {
			t.Errorf("%.80s\n%s", text, diff)
		}
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%.80s: %v is not Invalid", text, err)
		}
	}
}

// TestManyProblems: the list is cut, the count is not.
func TestManyProblems(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `"x%d":1,`, i)
	}
	_, err := spec.ParseLayer([]byte("{" + strings.TrimSuffix(b.String(), ",") + "}"))
	e := fault.From(err)
	if n := len(e.Fields); n != 65 || e.Fields[64].Description != "and 36 more problems" {
		t.Errorf("%d violations, the last %v", n, e.Fields[n-1])
	}
}

// TestLayerLimit: fields that each keep their limits do not add up to a text without bound.
func TestLayerLimit(t *testing.T) {
	doc := func(modes int) string {
		names := strings.TrimPrefix(strings.Repeat(fmt.Sprintf(`,"%s.example"`, strings.Repeat("a", 60)), 200), ",")
		var all []string
		for i := range modes {
			all = append(all, fmt.Sprintf(`"m%d":{"dnsNames":[%s],"type":"allowlist"}`, i, names))
		}
		return `{"network":{"egress":{"modes":{` + strings.Join(all, ",") + `}}}}`
	}
	layer(t, doc(18))
	_, err := spec.ParseLayer([]byte(doc(19)))
	if !fault.HasReason(err, fault.ReasonLimitExceeded) || !strings.Contains(render(err), "the limit is 262144") {
		t.Errorf("%v", err)
	}
}

// TestPrefix: paths start with where the fragment stands.
func TestPrefix(t *testing.T) {
	_, err := spec.Profile().DecodeLayer(parse(t, `{"tags":1}`), "profile_template.spec")
	if got := render(err); got != "FIELD_INVALID\n1:9 profile_template.spec.tags: expected a list, got a number" {
		t.Error(got)
	}
}
