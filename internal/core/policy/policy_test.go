package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/policyfile"
)

const (
	agentID = "0f0e0d0c-0b0a-4908-8706-050403020100"
	otherID = "1f0e0d0c-0b0a-4908-8706-050403020101"
)

// world is two runners that bind the profile agent: east twice, once with an override, and not as its default; west as its default. A
// third one, north, does not bind it.
type world struct {
	testing.TB
	zone, agent, override string
	// change, when not nil, changes the runners.
	change func(map[string]*plan.Runner)
}

func newWorld(t testing.TB) *world {
	return &world{
		TB: t, zone: `{"guardrails":{"resources":{"max_cpu":"8"}}}`,
		agent:    `{"container_image":"host","resource_defaults":{"cpu_limit":"2","memory_limit":"1Gi"},"tags":["a","b"],"network":{"egress":{"default":"none","modes":{"none":{"type":"none"},"web":{"type":"internet"}}}},"guardrails":{"resources":{"max_memory":"4Gi"}}}`,
		override: `{"resource_defaults":{"memory_limit":"2Gi"},"tags":null}`,
	}
}

func (w *world) layer(text string) *spec.Layer {
	w.Helper()
	l, err := spec.ParseLayer([]byte(text))
	if err != nil {
		w.Fatal(err)
	}
	return l
}

func meta(id string) core.Meta {
	return core.Meta{ID: id, OrgID: "org", Revision: 3, UpdatedBy: "token:ops", UpdatedAt: time.Unix(1, 0)}
}

func (w *world) fleet() *policy.Fleet {
	w.Helper()
	zone := &core.Zone{Meta: meta("z"), Name: "eu", Defaults: w.layer(w.zone)}
	agent := &core.Profile{Meta: meta(agentID), DisplayName: "agent", Spec: w.layer(w.agent)}
	other := &core.Profile{Meta: meta(otherID), DisplayName: "other", Spec: w.layer(`{"resource_defaults":{"cpu_limit":"1"}}`)}
	runner := func(id string, bindings ...core.Binding) *plan.Runner {
		r := &core.Runner{Meta: meta("uuid-" + id), RunnerID: id, Zone: "eu", Bindings: bindings}
		out := &plan.Runner{Runner: r, Zone: zone}
		for _, b := range bindings {
			p := agent
			if b.ProfileID == otherID {
				p = other
			}
			folded, err := plan.NewBinding(r, zone, p, b, nil)
			if err != nil {
				w.Fatal(err)
			}
			out.Bindings = append(out.Bindings, folded)
		}
		return out
	}
	runners := map[string]*plan.Runner{
		"east":  runner("east", core.Binding{ProfileID: otherID, Default: true}, core.Binding{ProfileID: agentID}, core.Binding{ProfileID: agentID, Alias: "big", Overrides: w.layer(w.override)}),
		"west":  runner("west", core.Binding{ProfileID: agentID, Default: true}),
		"north": runner("north", core.Binding{ProfileID: otherID, Default: true}),
	}
	if w.change != nil {
		w.change(runners)
	}
	s := &plan.Snapshot{OrgID: "org", Now: time.Unix(2, 0)}
	for _, id := range []string{"east", "north", "west"} {
		if runners[id] != nil {
			s.Runners = append(s.Runners, runners[id])
		}
	}
	return policy.NewFleet(s, agentID)
}

// run returns a line for each case, and one for each failure.
func (w *world) run(text string) string {
	w.Helper()
	tests, err := policyfile.Parse([]byte(text))
	if err != nil {
		w.Fatal(err)
	}
	stored, err := policy.Marshal(tests)
	if err != nil {
		w.Fatal(err)
	}
	if tests, err = policy.Unmarshal(stored); err != nil { // what is kept means the same
		w.Fatal(err)
	}
	fleet := w.fleet()
	cases := fleet.Cases(tests)
	var b strings.Builder
	for i := range cases {
		r := fleet.Run(&cases[i])
		fmt.Fprintf(&b, "%s %s\n", r.Outcome, r.Where())
		for _, f := range r.Failures {
			fmt.Fprintf(&b, "  %s\n", f)
		}
	}
	return b.String()
}

// one is a file of one test.
func one(body string) string { return "tests:\n- {name: t, " + body + "}\n" }

func TestRun(t *testing.T) {
	const everywhere = "passed east/agent\npassed east/big\npassed west/agent\n"
	for name, c := range map[string]struct{ test, want string }{
		"admitted everywhere": {`expect: {verdict: admitted}`, everywhere},
		"one runner":          {`runner: west, expect: {verdict: admitted, values: {resource_defaults.memory_limit: 1Gi}}`, "passed west/agent\n"},
		"an amount in other words": {
			`runner: west, expect: {verdict: admitted, values: {resource_defaults.memory_limit: 1024Mi, resource_defaults.cpu_limit: 2000m}}`, "passed west/agent\n",
		},
		"a number for a text": {`runner: west, expect: {verdict: admitted, values: {resource_defaults.cpu_limit: 2}}`, "passed west/agent\n"},
		"another value": {`expect: {verdict: admitted, values: {resource_defaults.memory_limit: 1Gi}}`, `passed east/agent
failed east/big
  value of resource_defaults.memory_limit: expected 1Gi, is 2Gi (binding east/big revision 3, over 1Gi of profile agent revision 3)
passed west/agent
`},
		"cleared": {`runner: east, expect: {verdict: admitted, values: {tags: null}}`, `failed east/agent
  value of tags: expected no value, is ["a","b"] (profile agent revision 3)
passed east/big
`},
		"not there":                  {`runner: west, expect: {verdict: admitted, values: {runtime_class: gvisor, pod.spec.nodeName: null}}`, "failed west/agent\n  value of runtime_class: expected gvisor, is no value\n"},
		"list":                       {`runner: west, expect: {verdict: admitted, values: {tags: [a, b]}}`, "passed west/agent\n"},
		"a field that needs another": {`runner: west, expect: {verdict: admitted, values: {namespace.strategy: static}}`, "failed west/agent\n  value of namespace.strategy: expected static, is no value\n"},
		"no mode selected":           {`runner: west, expect: {verdict: admitted, values: {network.ingress.selected: null, network.egress.selected: all}}`, "failed west/agent\n  value of network.egress.selected: expected all, is no value\n"},
		"order counts":               {`runner: west, expect: {verdict: admitted, values: {tags: [b, a]}}`, "failed west/agent\n  value of tags: expected [\"b\",\"a\"], is [\"a\",\"b\"] (profile agent revision 3)\n"},
		"an entry of a map": {
			`runner: west, expect: {verdict: admitted, values: {"network.egress.modes[web]": {type: internet}, "network.egress.modes[all]": null}, origins: {"network.egress.modes[web]": profile}}`,
			"passed west/agent\n",
		},
		"guardrails in force": {
			`runner: west, expect: {verdict: admitted, values: {guardrails.resources.max_cpu: 8, guardrails.resources.max_memory: 4096Mi, guardrails.ports.max_count: null}, origins: {guardrails.resources.max_cpu: zone, guardrails.resources.max_memory: profile}}`,
			"passed west/agent\n",
		},
		"origins": {`runner: east, request: {resources: {cpu: "1", memory: 512Mi}}, expect: {verdict: admitted, origins: {resource_defaults.memory_limit: request, tags: profile, runtime_class: zone}}`, `failed east/agent
  origin of runtime_class: expected zone, is no layer
failed east/big
  origin of tags: expected profile, is override (binding east/big revision 3, over ["a","b"] of profile agent revision 3)
  origin of runtime_class: expected zone, is no layer
`},
		"the mode that a request selects": {`runner: west, request: {network: {egress_mode: web}}, expect: {verdict: admitted, values: {network.egress.selected: web}, origins: {network.egress.selected: request}}`, "passed west/agent\n"},
		"refused by the profile":          {`request: {resources: {cpu: "1", memory: 8Gi}}, expect: {verdict: refused, code: FAILED_PRECONDITION, reason: GUARDRAIL_VIOLATED, path: resource_limits.memory, layer: profile}`, everywhere},
		"the name that a request uses":    {`runner: west, request: {resources: {cpu: "1", memory: 8Gi}}, expect: {verdict: refused, path: resources.memory}`, "passed west/agent\n"},
		"reason of the answer":            {`request: {resources: {cpu: "1", memory: 8Gi}}, expect: {verdict: refused, reason: CWSANDBOX_PROFILE_MISMATCH}`, everywhere},
		"refused by another layer": {`runner: west, request: {resources: {cpu: "1", memory: 8Gi}}, expect: {verdict: refused, layer: zone}`, `failed west/agent
  refusal: expected layer zone, is GUARDRAIL_VIOLATED of resource_defaults.memory_limit by layer profile: memory limit 8Gi (request) is above the maximum 4Gi (profile agent, revision 3)
`},
		"not refused": {`runner: west, request: {network: {egress_mode: web}}, expect: {verdict: refused}`, "failed west/agent\n  verdict: expected refused, is admitted on west/agent\n"},
		"not admitted": {`runner: west, request: {resources: {cpu: "16", memory: 1Gi}}, expect: {verdict: admitted}`, `failed west/agent
  verdict of resource_defaults.cpu_limit: expected admitted, is refused: profile agent cannot serve the request: west/agent: CPU limit 16 (request) is above the default and ceiling 2 (profile agent, revision 3)
`},
		"another code":                   {`runner: west, request: {resources: {cpu: "1", memory: 8Gi}}, expect: {verdict: refused, code: RESOURCE_EXHAUSTED}`, "CODE"},
		"a request that is wrong":        {`runner: west, request: {resources: {cpu: lots}}, expect: {verdict: refused, code: INVALID_ARGUMENT, path: resource_limits.cpu}`, "PATH"},
		"no profile named":               {`unnamed: true, expect: {verdict: admitted}`, "failed east\n  verdict: expected admitted under this profile, is the default binding is other of profile other\npassed west\n"},
		"a runner without it":            {`runner: north, expect: {verdict: admitted}`, "failed north\n  runner: expected north with the profile, is no runner of that id binds the profile\n"},
		"a name that begins like a word": {`runner: anywhere, expect: {verdict: admitted}`, "failed anywhere\n  runner: expected anywhere with the profile, is no runner of that id binds the profile\n"},
		"any":                            {`runner: any, expect: {verdict: admitted, placed: [east, west]}`, "passed any runner\n"},
		"any is each that may be drawn":  {`runner: any, expect: {verdict: admitted, placed: west}`, "failed any runner\n  placed: expected west, is may be east\n"},
		"any refused":                    {`runner: any, request: {resources: {cpu: "1", memory: 8Gi}}, expect: {verdict: refused, path: resource_defaults.memory_limit}`, "passed any runner\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := newWorld(t).run(one(c.test))
			switch c.want {
			case "CODE":
				if !strings.HasPrefix(got, "failed west/agent\n  code: expected RESOURCE_EXHAUSTED, is FAILED_PRECONDITION: ") {
					t.Error(got)
				}
			case "PATH":
				if got != "passed west/agent\n" && !strings.Contains(got, "resource_limits.cpu") {
					t.Error(got)
				}
			default:
				if got != c.want {
					t.Errorf("got\n%swant\n%s", got, c.want)
				}
			}
		})
	}
}

// TestStateOfMachines: what a runner told of itself counts, whether it is there, in service or full does not.
func TestStateOfMachines(t *testing.T) {
	w := newWorld(t)
	w.change = func(m map[string]*plan.Runner) {
		for _, r := range m {
			r.Kind, r.Capacity, r.Used = "fake", core.Amounts{CPUMillis: 4000, MemoryBytes: 4 << 30, Sandboxes: 1}, core.Amounts{CPUMillis: 4000, Sandboxes: 1}
			r.Cordoned, r.Unable, r.RuntimeClasses = true, "broken", []string{"runc"}
		}
	}
	if got := w.run(one(`runner: west, expect: {verdict: admitted}`)); got != "passed west/agent\n" {
		t.Error(got)
	}
	w.agent = `{"resource_defaults":{"cpu_limit":"8","memory_limit":"1Gi"}}`
	if got := w.run(one(`runner: west, expect: {verdict: refused, reason: TOO_LARGE}`)); got != "passed west/agent\n" {
		t.Error(got)
	}
	w.agent = `{"runtime_class":"gvisor"}`
	if got := w.run(one(`runner: west, expect: {verdict: refused, reason: RUNTIME_CLASS, path: runtime_class}`)); got != "passed west/agent\n" {
		t.Error(got)
	}
}

func TestNoRunner(t *testing.T) {
	w := newWorld(t)
	w.change = func(m map[string]*plan.Runner) {
		delete(m, "east")
		now := time.Unix(3, 0)
		m["west"].Runner.DeletingSince = &now
	}
	if got := w.run(one(`expect: {verdict: refused}`)); got != "skipped any runner\n" {
		t.Error(got)
	}
	if got := w.run(one(`runner: any, expect: {verdict: admitted}`)); !strings.HasPrefix(got, "failed any runner\n  runner: expected a runner with the profile") {
		t.Error(got)
	}
}

// TestManyFailures: of one case a bounded number of differences is told.
func TestManyFailures(t *testing.T) {
	var b strings.Builder
	for i := range policy.MaxExpected {
		fmt.Fprintf(&b, "pod.spec.x%d: 1, ", i)
	}
	got := newWorld(t).run(one(`runner: west, expect: {verdict: admitted, values: {` + strings.TrimSuffix(b.String(), ", ") + `}}`))
	if n := strings.Count(got, "\n  value of"); n != policy.MaxFailures {
		t.Errorf("%d failures\n%s", n, got)
	}
}
