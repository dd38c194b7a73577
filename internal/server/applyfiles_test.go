package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// put writes files below a directory: NAME, TEXT, each.
func put(t testing.TB, dir string, files ...string) string {
	t.Helper()
	for i := 0; i+1 < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestApplyTenThousandFiles: so many are one apply; one more is refused by number, before anything is sent.
func TestApplyTenThousandFiles(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	for i := range 10_000 {
		put(t, dir, fmt.Sprintf("%02d/p%d.yaml", i%50, i), fmt.Sprintf("kind: profile\ndisplay_name: p%d\nspec:\n  resource_defaults: {cpu_limit: \"1\", memory_limit: 1Gi}\n  node_selector: {n: \"%d\"}\n", i, i))
	}
	if got := w.berm(w.admin, "", "apply", "-f", dir, "--owner", "many", "--yes").want(t, 0); !strings.Contains(got.err, "10000 created") {
		t.Errorf("%.300s", got.err)
	}
	if got := w.berm(w.admin, "", "export").want(t, 0); strings.Count(got.out, "kind: profile\n") != 10_001 { // and the one that is there
		t.Errorf("%d profiles were exported", strings.Count(got.out, "kind: profile\n"))
	}
	put(t, dir, "z.yaml", "kind: zone\nname: one-more\n")
	got := w.berm(w.admin, "", "apply", "-f", dir, "--yes").want(t, 2)
	if !strings.Contains(got.err, "more than 10000 files; "+filepath.Join(dir, "z.yaml")+" is one too many") {
		t.Error(got.err)
	}
	w.call(w.admin, http.MethodGet, "/berm/v1/zones/one-more", nil).want(http.StatusNotFound)
}

// TestAppliesAtOnce: of several at once each is made whole or refused whole, so that what is there is of one of them.
func TestAppliesAtOnce(t *testing.T) {
	w := newWorld(t)
	const sets, objects = 8, 12
	var group sync.WaitGroup
	codes := make([]int, sets)
	for i := range sets {
		var text strings.Builder
		for j := range objects {
			fmt.Fprintf(&text, "---\nkind: profile\ndisplay_name: p%d\nspec: {tags: [set%d]}\n", j, i)
		}
		group.Go(func() {
			got := w.berm(w.admin, text.String(), "apply", "-f", "-", "--yes")
			codes[i] = got.code
			if got.code != 0 && (got.code != 6 || !strings.Contains(got.err, "profile p0 ")) {
				t.Errorf("exit code %d: %s", got.code, got.err)
			}
		})
	}
	group.Wait()
	tags := map[string]bool{}
	for j := range objects {
		tags[fmt.Sprint(w.call(w.user, http.MethodGet, fmt.Sprintf("/v1beta2/sandbox/profile-templates/p%d", j), nil).want(http.StatusOK).at("spec", "tags"))] = true
	}
	if len(tags) != 1 {
		t.Errorf("profiles are of %v; exit codes %v", tags, codes)
	}
}

// TestExportedFilesAreOfTheirCommands: a file that was exported is one for the commands about a single object, and for no other kind.
func TestExportedFilesAreOfTheirCommands(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "fleet")
	w.berm(w.admin, "kind: zone\nname: moon\ndefaults: {tags: [a]}\n", "apply", "-f", "-", "--yes").want(t, 0)
	w.berm(w.admin, "", "export", "--dir", dir).want(t, 0)
	profile, runner, zone := filepath.Join(dir, "profiles/default.yaml"), filepath.Join(dir, "runners/r1.yaml"), filepath.Join(dir, "zones/moon.yaml")
	w.berm(w.admin, "", "profile", "edit", "default", "-f", profile).want(t, 0)
	w.berm(w.admin, "", "runner", "edit", "r1", "-f", runner).want(t, 0)
	w.berm(w.admin, "", "zone", "put", "moon", "-f", zone).want(t, 0)
	if got := w.berm(w.admin, "", "profile", "edit", "default", "-f", zone).want(t, 2); !strings.Contains(got.err, zone+`:1:7: kind: is "zone"; this command takes a profile`) {
		t.Error(got.err)
	}
	if got := w.berm(w.admin, "", "zone", "put", "mars", "-f", zone).want(t, 2); !strings.Contains(got.err, `name: is "moon", and the zone to be put is "mars"`) {
		t.Error(got.err)
	}
	w.berm(w.admin, "", "apply", "-f", dir, "--plan", "--exit-code").want(t, 0)
}

// TestApplyDoesWhatWasPlanned: what somebody else edits between the plan and the apply is not written over, nor is anything else written.
func TestApplyDoesWhatWasPlanned(t *testing.T) {
	w := newWorld(t)
	set := "kind: profile\ndisplay_name: agent\nspec: {tags: [%s]}\n---\nkind: zone\nname: moon\ndefaults: {}\n---\nkind: profile\ndisplay_name: still\nspec: {}\n"
	w.berm(w.admin, fmt.Sprintf(set, "a"), "apply", "-f", "-", "--owner", "fleet", "--yes").want(t, 0)
	profile := "/v1beta2/sandbox/profile-templates/"
	for name, c := range map[string]struct {
		meanwhile func()
		args      []string
		says      string
	}{
		"edited": {func() {
			w.call(w.admin, http.MethodPatch, profile+"agent", `{"profileTemplate": {"description": "x"}}`)
		}, nil, "profile agent was changed since: it is at revision"},
		"deleted": {func() { w.call(w.admin, http.MethodDelete, "/berm/v1/zones/moon", nil) }, nil, "zone moon does not exist any more"},
		"not to change": {func() {
			w.call(w.admin, http.MethodPatch, profile+"still", `{"profileTemplate": {"description": "x"}}`)
		}, nil, "profile still was changed since"},
		"made":         {func() { w.call(w.admin, http.MethodPut, "/berm/v1/zones/mars", `{"zone": {"defaults": {}}}`) }, []string{"mars"}, "zone mars was made meanwhile, by token:admin"},
		"to be pruned": {func() { w.call(w.admin, http.MethodPatch, profile+"old", `{"profileTemplate": {"description": "x"}}`) }, []string{"prune"}, "profile old was changed since"},
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf(set, "a")
			w.berm(w.admin, text+"---\nkind: profile\ndisplay_name: old\nspec: {}\n", "apply", "-f", "-", "--owner", "fleet", "--yes").want(t, 0)
			text, args := fmt.Sprintf(set, "b"), []string{"apply", "-f", "-", "--owner", "fleet", "--yes"}
			for _, a := range c.args {
				if a == "prune" {
					args = append(args, "--prune")
				} else {
					text += "---\nkind: zone\nname: " + a + "\n"
				}
			}
			between := *w
			between.url = w.interposed(t, c.meanwhile)
			if got := between.berm(w.admin, text, args...).want(t, 6); !strings.Contains(got.err, c.says) {
				t.Errorf("no %q in %s", c.says, got.err)
			}
			if tags := w.call(w.user, http.MethodGet, profile+"agent", nil).want(http.StatusOK).at("spec", "tags"); fmt.Sprint(tags) != "[a]" {
				t.Errorf("refused, and the tags are %v", tags)
			}
		})
	}
}

// TestPlanThatTestsRefuse: it is shown, and ends as the apply does, before anybody is asked.
func TestPlanThatTestsRefuse(t *testing.T) {
	w := newWorld(t)
	p := w.newProfile("agent", `{"container_image": "host", "resource_defaults": {"memory_limit": "1Gi"}}`)
	w.call(w.admin, http.MethodPost, "/berm/v1/runners/r1/bindings", `{"binding": {"profileTemplateId": "`+p.text("id")+`"}}`).want(http.StatusOK)
	tests := "tests:\n- name: memory\n  expect: {verdict: admitted, values: {resource_defaults.memory_limit: 1Gi}}\n"
	w.berm(w.admin, tests, "profile", "tests", "put", "agent", "-f", "-").want(t, 0)
	text := "kind: profile\ndisplay_name: agent\nspec: {container_image: host, resource_defaults: {memory_limit: 2Gi}}\n"
	for _, args := range [][]string{{"--plan"}, {"--plan", "--exit-code"}, {"--plan", "-o", "json"}, nil} {
		got := w.berm(w.admin, text, append([]string{"apply", "-f", "-"}, args...)...).want(t, 6)
		if !strings.Contains(got.out+got.err, "resource_defaults.memory_limit") || !strings.Contains(got.err, "the apply would be refused: it breaks policy tests") {
			t.Errorf("%q: %s%s", args, got.out, got.err)
		}
	}
	w.berm(w.admin, text, "apply", "-f", "-", "--yes").want(t, 6)
}

// TestOwnersOfSeveralDirectories: none is given what another says of itself; --owner is of all.
func TestOwnersOfSeveralDirectories(t *testing.T) {
	w := newWorld(t)
	dir := put(t, t.TempDir(), "a/berm.yaml", "owner: fleet\n", "a/a.yaml", "kind: zone\nname: ours\n", "b/b.yaml", "kind: zone\nname: theirs\n",
		"c/berm.yaml", "owner: fleet\n", "c/c.yaml", "kind: zone\nname: more\n")
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	w.berm(w.admin, "", "apply", "-f", a, "-f", b, "--yes").want(t, 2)
	w.berm(w.admin, "", "apply", "-f", b, "--yes").want(t, 0)
	w.berm(w.admin, "", "apply", "-f", a, "-f", c, "--yes").want(t, 0)
	if got := w.berm(w.admin, "", "apply", "-f", a, "--prune", "--yes").want(t, 0); got.out != "zone more deleted\n" {
		t.Errorf("pruned %q", got.out)
	}
	w.berm(w.admin, "", "apply", "-f", a, "-f", b, "--owner", "all", "--take-over", "--yes").want(t, 0)
	if got := w.berm(w.admin, "", "apply", "-f", b, "--owner", "all", "--prune", "--yes").want(t, 0); got.out != "zone ours deleted\n" {
		t.Errorf("pruned %q", got.out)
	}
}

// interposed is the address of the server with something that happens before each apply that is no plan.
func (w *world) interposed(t *testing.T, meanwhile func()) string {
	to, err := url.Parse(w.url)
	w.must(err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: w.http.Transport}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.URL.Path == applyPath && !strings.Contains(string(body), `"preview":true`) {
			meanwhile()
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}
