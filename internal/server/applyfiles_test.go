package server_test

import (
	"fmt"
	"net/http"
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
