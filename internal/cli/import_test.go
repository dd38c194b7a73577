package cli

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var updateImport = flag.Bool("update", false, "write the golden reports anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *updateImport {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// TestImport: answers of the hosted service, one a page of a list, and a file of its command line become documents; the report says what
// became of each field.
func TestImport(t *testing.T) {
	env := map[string]string{}
	dir := filepath.Join("testdata", "import")
	got := run(t, env, "", "import", dir)
	if got.code != 0 {
		t.Fatalf("exit code %d: %s", got.code, got.err)
	}
	golden(t, "import.yaml.golden", got.out)
	golden(t, "import.report.golden", got.err)

	// Every field of the input is in the report.
	var all struct {
		Documents []map[string]any
		Report    []imported
	}
	if err := json.Unmarshal([]byte(run(t, env, "", "import", dir, "-o", "json").out), &all); err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	for _, r := range all.Report {
		paths[r.Object+" "+r.Path] = r.Outcome
	}
	for path, want := range map[string]string{
		"profile ds-gpu-h100 id": importState, "profile ds-gpu-h100 spec.container_image": importKept, "profile ds-gpu-h100 labels": importKept,
		"profile fugue-untrusted-ci-v1 spec.pod.spec.hostNetwork": importKept, "profile my agent display_name": importChanged, "runner prod-east-managed activeRevision": importState,
		"runner prod-east-managed identity.zone": importKept, "runner prod-east-managed managed_spec.maintenancePolicy": importKept,
		"runner prod-east-managed profile_bindings[0].overrides.node_selector": importKept, "runner prod-east-managed policy": importUnsupported,
	} {
		if paths[path] != want {
			t.Errorf("%s: %q, want %q", path, paths[path], want)
		}
	}
	if len(all.Documents) != 4 {
		t.Errorf("%d documents", len(all.Documents))
	}

	to := filepath.Join(t.TempDir(), "fleet")
	if got := run(t, env, "", "import", dir, "--strict", "--dir", to); got.code != 10 || got.out != "" || !strings.Contains(got.err, "Nothing was written") {
		t.Errorf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("strict, and written")
	}
	if got := run(t, env, "", "import", filepath.Join(dir, "ci.yaml"), "--strict", "--dir", to); got.code != 0 {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
	if _, err := os.Stat(filepath.Join(to, "profiles", "fugue-untrusted-ci-v1.yaml")); err != nil {
		t.Error(err)
	}
}

// TestImportOfPages: the last page makes a list whole; requests are read as answers are, and names that come to the same differ.
func TestImportOfPages(t *testing.T) {
	pages := `{"profileTemplates": [{"displayName": "a b", "spec": {}}], "nextPageToken": "x"}
---
{"profileTemplates": [{"displayName": "a+b", "spec": {}}], "nextPageToken": ""}
---
{"profileTemplate": {"displayName": "c", "spec": {"containerImage": "host"}}}
---
{"runnerId": "r", "runner": {"identity": {"zone": "z", "clusterName": "c"}, "profileBindings": []}}
`
	got := run(t, map[string]string{}, pages, "import", "-", "--strict")
	if got.code != 0 || strings.Contains(got.err, "last page") {
		t.Fatalf("exit code %d: %s", got.code, got.err)
	}
	for _, want := range []string{"display_name: a-b\n", "display_name: a-b-2\n", "display_name: c\n", "runner_id: r\n"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	for name, c := range map[string]struct{ text, says string }{
		"something else": {`{"sandboxes": []}`, "neither a profile template nor a managed runner"},
		"no name":        {`{"spec": {}}`, "must be the name of the profile"},
		"no runner":      {`{"identity": {}}`, "must be the name of the runner"},
		"no JSON":        {`{"profileTemplates": [`, "standard input:1"},
		"no overrides":   {`{"identity": {"runnerId": "r"}, "profileBindings": [{"overridesJson": "{"}]}`, "is not JSON"},
	} {
		if got := run(t, map[string]string{}, c.text, "import", "-"); got.code != 2 || !strings.Contains(got.err, c.says) {
			t.Errorf("%s: exit code %d: %s", name, got.code, got.err)
		}
	}
}

// TestImportStaysInItsDirectory: the id of a runner is the name of a file, and of one file.
func TestImportStaysInItsDirectory(t *testing.T) {
	runners := func(ids ...string) string {
		var text strings.Builder
		for _, id := range ids {
			text.WriteString(`{"identity": {"runnerId": "` + id + `", "zone": "z"}, "profileBindings": []}` + "\n---\n")
		}
		return text.String()
	}
	for name, c := range map[string]struct{ text, says string }{
		"an id that climbs": {runners("../../escaped"), `standard input:1:27: identity.runner_id: "../../escaped" may hold`},
		"a runner twice":    {runners("r", "s", "r"), "standard input:5:1: identity.runner_id: runner r is described at standard input:1 already"},
		"a profile twice":   {`{"profileTemplates": [{"id": "p", "displayName": "a"},` + "\n" + `{"id": "p", "displayName": "b"}]}`, "standard input:2:1: id: profile p is described at standard input:1 already"},
	} {
		base := t.TempDir()
		dir := filepath.Join(base, "a", "out")
		if got := run(t, map[string]string{}, c.text, "import", "-", "--dir", dir); got.code != 2 || !strings.Contains(got.err, c.says) {
			t.Errorf("%s: exit code %d: %s", name, got.code, got.err)
		}
		if list, err := os.ReadDir(base); err != nil || len(list) > 0 {
			t.Errorf("%s: %v was written, %v", name, list, err)
		}
	}
}
