package server_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/cli"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
	"github.com/bermhq/berm/internal/core/tree"
)

// said is what a command line left behind.
type said struct {
	code     int
	out, err string
}

// berm runs a command line against the server.
func (w *world) berm(token, stdin string, args ...string) said {
	w.Helper()
	env := map[string]string{"BERM_URL": w.url, "BERM_TOKEN": token, "HOME": w.TempDir()}
	var out, errs bytes.Buffer
	code := cli.Main(w.ctx(), args, cli.Stdio{In: strings.NewReader(stdin), Out: &out, Err: &errs, Getenv: func(k string) string { return env[k] }})
	return said{code, out.String(), errs.String()}
}

// want fails the test unless the exit code is this one.
func (s said) want(t testing.TB, code int) said {
	t.Helper()
	if s.code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", s.code, code, s.out, s.err)
	}
	return s
}

// awkward are texts that a careless writer of YAML spoils.
var awkward = []string{
	"", "plain", "yes", "null", "~", "123", "1e3", "0x1F", "2026-01-01", ".inf", "a: b", "# c", "- x", "!t", "&a", "*a", "---", "...", "'", `"`, `\`, "%Y", "@x", "{", "[",
	"two\nlines", "end\n", "\nbegin", "\n", " lead", "trail ", "tab\there", "crlf\r\n", "bell\a", "nel\u0085x", "ls\u2028x", "bom\ufeffx", "é…😀", "x: |\n  y\n   z\n",
}

// generated is a configuration made of choices.
type generated struct {
	*world
	token string
	pick  spectest.Choice
	made  int
}

func (g *generated) text() string { return awkward[g.pick(len(awkward))] }

// layer has about a tenth of the fields that an object of this kind may state, or most of them.
func (g *generated) layer(kind string) string {
	doc := &tree.Node{Kind: tree.Object}
	some := []int{10, 10, 10, 2}[g.pick(4)]
	for _, f := range spec.Profile().Fields() {
		if f.Derived || kind != "zone" && f.ZoneOnly || kind != "profile" && f.ProfileOnly || g.pick(some) > 0 {
			continue
		}
		empty, canBeEmpty := spectest.Empty(f)
		switch state := g.pick(4); {
		case state == 0 && !f.Guardrail:
			spectest.Put(doc, f.JSONPath, &tree.Node{Kind: tree.Null})
		case state == 1 && canBeEmpty:
			spectest.Put(doc, f.JSONPath, empty)
		default:
			n := spectest.Value(f, g.pick)
			if f.Open {
				n = &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: spectest.Key(g.pick), Value: n}}}
			}
			spectest.Put(doc, f.JSONPath, n)
		}
	}
	return string(doc.JSON())
}

// make asks for an object until one is taken: what the generator makes of fields one by one may contradict itself as a whole, or no launch
// can use it.
func (g *generated) make(method, path string, body func() string) {
	g.Helper()
	for range 100 {
		if a := g.call(g.token, method, path, body()); a.status == http.StatusOK {
			g.made++
			return
		}
	}
}

func (g *generated) fill() {
	g.Helper()
	for _, zone := range []string{"z1", "z2"} {
		g.make(http.MethodPut, "/berm/v1/zones/"+zone, func() string { return `{"zone": {"defaults": ` + g.layer("zone") + `}}` })
	}
	ids := []string{}
	for i := range 4 {
		name := fmt.Sprintf("p%d", i)
		g.make(http.MethodPost, "/v1beta2/sandbox/profile-templates", func() string {
			labels := fmt.Sprintf(`{"a": %s, %s: "x"}`, tree.AppendString(nil, g.text()), tree.AppendString(nil, "k"+g.text()))
			return fmt.Sprintf(`{"profileTemplate": {"displayName": %q, "description": %s, "labels": %s, "spec": %s}}`, name, tree.AppendString(nil, g.text()), labels, g.layer("profile"))
		})
		if a := g.call(g.token, http.MethodGet, "/v1beta2/sandbox/profile-templates/"+name, nil); a.status == http.StatusOK {
			ids = append(ids, a.text("id"))
		}
	}
	for i := range 3 {
		g.make(http.MethodPost, "/v1beta2/sandbox/managed-runners", func() string { return g.runner(fmt.Sprintf("r%d", i), ids) })
	}
}

// managedParts are all fields that an operator sets of a runner.
var managedParts = []string{
	`"releaseChannel": "RELEASE_CHANNEL_RAPID"`, `"allowPrivilegedProfileAnnotations": true`, `"enforceResourceLimits": true`,
	`"maintenancePolicy": {"windows": [{"cron": "0 2 * * SAT", "durationSeconds": 7200}], "exclusions": [{"startTime": "2026-12-24T00:00:00Z", "endTime": "2026-12-27T00:00:00Z", "reason": "feast: yes"}]}`,
	`"overrides": {"nodeSelector": {"a": "1"}, "tolerations": [{"key": "k", "operator": "Equal", "value": "true", "effect": "NoSchedule"}], "resources": {"cpuRequest": "1", "memoryRequest": "1Gi", "cpuLimit": "2", "memoryLimit": "2Gi"},
	  "annotations": {"x/y": "0"}, "labels": {"l": "no"}, "env": {"E": "~"}, "args": ["--a", "1"], "scaling": {"replicas": 2, "autoscalingEnabled": true, "minReplicas": 1, "maxReplicas": 3}, "cpuRuntimeClass": "gvisor", "gpuRuntimeClass": "nvidia"}`,
}

func (g *generated) runner(name string, ids []string) string {
	var managed, bindings []string
	for _, part := range managedParts {
		if g.pick(3) > 0 && !(strings.Contains(part, "enforceResourceLimits") && g.pick(4) > 0) { // most profiles have no limits
			managed = append(managed, part)
		}
	}
	first := g.pick(len(ids))
	for i := range 1 + g.pick(len(ids)) {
		b := fmt.Sprintf(`{"profileTemplateId": %q, "isDefault": %t`, ids[(first+i)%len(ids)], i == 0)
		if g.pick(2) > 0 {
			b += fmt.Sprintf(`, "profileName": %q`, []string{fmt.Sprintf("alias%d", i), fmt.Sprintf("p%d", (first+i)%len(ids))}[g.pick(2)])
		}
		if g.pick(2) > 0 {
			o, err := tree.ParseJSON([]byte(g.layer("override")))
			g.must(err)
			b += fmt.Sprintf(`, "overridesJson": %s`, tree.AppendString(nil, string(o.JSON())))
		}
		if g.pick(3) == 0 {
			b += `, "warm": {"size": 2}`
		}
		bindings = append(bindings, b+"}")
	}
	group := ""
	if g.pick(2) > 0 {
		group = `, "runnerGroupId": "g1"`
	}
	cluster := []string{"clusterName", "clusterId"}[g.pick(2)]
	return fmt.Sprintf(`{"runnerId": %q, "runner": {"displayName": %s, "identity": {"zone": %q, %q: "c-%s"%s}, "managedSpec": {%s}, "profileBindings": [%s]}}`,
		name, tree.AppendString(nil, g.text()), []string{"z1", "z2", "nowhere"}[g.pick(3)], cluster, name, group, strings.Join(managed, ", "), strings.Join(bindings, ", "))
}

// TestExportIsWhatApplyMakes: whatever is configured, applying what was exported changes nothing there, and makes the same where nothing
// is: exported from there it is the same, byte by byte.
func TestExportIsWhatApplyMakes(t *testing.T) {
	w := newWorld(t)
	made := 0
	const seeds = 12
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 35)) //nolint:gosec // a test that can be repeated
		g := &generated{world: w, token: w.newOrg(fmt.Sprintf("from%d", seed)), pick: r.IntN}
		g.fill()
		made += g.made
		to := w.newOrg(fmt.Sprintf("to%d", seed))
		text := w.berm(g.token, "", "export").want(t, 0).out
		if again := w.berm(g.token, text, "apply", "-f", "-", "--plan", "--exit-code", "-o", "wide"); again.code != 0 || again.out != fmt.Sprintf("%d unchanged\n", g.made) {
			t.Fatalf("seed %d: exit %d\n%s%s\n%s", seed, again.code, again.out, again.err, text)
		}
		w.berm(to, text, "apply", "-f", "-", "--yes").want(t, 0)
		if got := w.berm(to, "", "export").want(t, 0).out; got != text {
			t.Fatalf("seed %d: applied elsewhere it is\n%s\nand was\n%s", seed, got, text)
		}
		// As files, and as JSON, it is the same again.
		dir := filepath.Join(t.TempDir(), "fleet")
		w.berm(g.token, "", "export", "--dir", dir).want(t, 0)
		w.berm(to, "", "apply", "-f", dir, "--plan", "--exit-code").want(t, 0)
		w.must(os.WriteFile(filepath.Join(dir, "all.json"), []byte(w.berm(g.token, "", "export", "-o", "json").want(t, 0).out), 0o600))
		w.berm(to, "", "apply", "-f", filepath.Join(dir, "all.json"), "--plan", "--exit-code").want(t, 0)
	}
}

// TestEveryFieldComesBack: each field of a spec, set, cleared and empty, in an object of its own.
func TestEveryFieldComesBack(t *testing.T) {
	w := newWorld(t)
	from, to := w.newOrg("from"), w.newOrg("to")
	for i, f := range spec.Profile().Fields() {
		if f.Derived {
			continue
		}
		values := []*tree.Node{}
		for nth := range 3 {
			n := spectest.Value(f, spectest.Nth(nth))
			if f.Open {
				n = &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: spectest.Key(spectest.Nth(nth)), Value: n}}}
			}
			values = append(values, n)
		}
		if !f.Guardrail {
			values = append(values, &tree.Node{Kind: tree.Null})
		}
		if empty, ok := spectest.Empty(f); ok {
			values = append(values, empty)
		}
		stored := 0
		for j, n := range values {
			name, text := fmt.Sprintf("f%d-%d", i, j), string(spectest.Document(f, n).JSON())
			method, path, body := http.MethodPost, "/v1beta2/sandbox/profile-templates", fmt.Sprintf(`{"profileTemplate": {"displayName": %q, "spec": %s}}`, name, text)
			if f.ZoneOnly {
				method, path, body = http.MethodPut, "/berm/v1/zones/"+name, `{"zone": {"defaults": `+text+`}}`
			}
			if a := w.call(from, method, path, body); a.status == http.StatusOK {
				stored++
			}
		}
		if stored < 2 {
			t.Errorf("%s: %d of %d values were taken", f.Path, stored, len(values))
		}
	}
	text := w.berm(from, "", "export").want(t, 0).out
	w.berm(to, text, "apply", "-f", "-", "--yes").want(t, 0)
	if got := w.berm(to, "", "export").want(t, 0).out; got != text {
		t.Error("applied elsewhere it is not the same")
	}
	for _, list := range []string{"/v1beta2/sandbox/profile-templates?pageSize=1000", "/berm/v1/zones?pageSize=1000"} {
		if a, b := specsOf(w.call(from, http.MethodGet, list, nil)), specsOf(w.call(to, http.MethodGet, list, nil)); a != b || len(a) < 10 {
			t.Errorf("%s:\n%s\n%s", list, a, b)
		}
	}
}

// specsOf is what profiles or zones say, as the API has it.
func specsOf(a *answer) string {
	var b strings.Builder
	for _, key := range []string{"profileTemplates", "zones"} {
		list, _ := a.at(key).([]any)
		for _, item := range list {
			o, _ := item.(object)
			fmt.Fprintln(&b, o["displayName"], o["name"], o["spec"], o["defaults"])
		}
	}
	return b.String()
}
