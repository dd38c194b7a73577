package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// configured answers the three lists that an export reads, each object on a page of its own.
func configured(t *testing.T, lists map[string][]string) map[string]string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := map[string]string{runnersPath: "runners", profilesPath: "profileTemplates", zonesPath: "zones"}[r.URL.Path]
		list, at := lists[key], 0
		_, _ = fmt.Sscan(r.URL.Query().Get("pageToken"), &at)
		item, next := "", ""
		if at < len(list) {
			item = list[at]
		}
		if at+1 < len(list) {
			next = fmt.Sprint(at + 1)
		}
		fmt.Fprintf(w, `{%q: [%s], "nextPageToken": %q}`, key, item, next)
	}))
	t.Cleanup(s.Close)
	return map[string]string{"BERM_URL": s.URL, "BERM_TOKEN": "x"}
}

const (
	exportZone    = `{"name": "us", "revision": 4, "etag": "e", "updatedBy": "x", "defaults": {"tags": [], "nodeSelector": null}}`
	exportProfile = `{"id": "p1", "etag": "e", "displayName": "agent", "description": "yes", "labels": {"a": "~", "b": "1"}, "spec": {"podTemplateJson": "{\"spec\":{\"hostNetwork\":false}}"}}`
	exportRunner  = `{"id": "r1", "installStatus": "RUNNER_INSTALL_STATUS_READY", "identity": {"runnerId": "east", "zone": "us", "clusterName": "c"}, "managedSpec": {"enforceResourceLimits": true},
		"profileBindings": [{"profileTemplateId": "p1", "profileName": "agent", "isDefault": true, "overridesJson": "{\"containerImage\":\"a\"}"}]}`
	deletingRunner = `{"identity": {"runnerId": "old"}, "installStatus": "RUNNER_INSTALL_STATUS_DELETING"}`
)

const exportText = `kind: zone
name: us
defaults:
  node_selector: null
  tags: []
---
kind: profile
display_name: agent
description: yes
labels:
  a: "~"
  b: "1"
spec:
  pod:
    spec:
      hostNetwork: false
---
kind: runner
identity:
  runner_id: east
  zone: us
  cluster_name: c
managed_spec:
  enforce_resource_limits: true
profile_bindings:
  - profile: agent
    is_default: true
    overrides:
      container_image: a
`

func TestExport(t *testing.T) {
	env := configured(t, map[string][]string{"zones": {exportZone}, "profileTemplates": {exportProfile}, "runners": {deletingRunner, exportRunner}})
	got := run(t, env, "", "export")
	if got.code != 0 || got.out != exportText || !strings.Contains(got.err, "runner old is being deleted") {
		t.Errorf("exit %d, stderr %q, stdout\n%s", got.code, got.err, got.out)
	}
	dir := t.TempDir()
	stale := filepath.Join(dir, "profiles", "gone.yml")
	if err := os.MkdirAll(filepath.Dir(stale), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, []byte("kind: profile\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = run(t, env, "", "export", "--dir", dir)
	if got.code != 0 || !strings.Contains(got.err, "note: "+stale+" is not of this export") || !strings.Contains(got.err, "3 objects written") {
		t.Errorf("exit %d, stderr %q", got.code, got.err)
	}
	var parts []string
	for _, name := range []string{"zones/us.yaml", "profiles/agent.yaml", "runners/east.yaml"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, string(text))
	}
	if text := strings.Join(parts, "---\n"); text != exportText {
		t.Errorf("files\n%s", text)
	}
	if got := run(t, env, "", "export", "-o", "json"); got.code != 0 || !strings.HasPrefix(got.out, "[\n  {\n") || !strings.Contains(got.out, `"kind": "zone"`) {
		t.Errorf("exit %d, %s", got.code, got.out)
	}
}

// TestExportOfWhatChanges: a binding whose profile is in no list is nothing that could be applied.
func TestExportOfWhatChanges(t *testing.T) {
	got := run(t, configured(t, map[string][]string{"runners": {exportRunner}}), "", "export")
	if got.code != 6 || got.out != "" || !strings.Contains(got.err, "runner east binds profile p1, which was made or deleted while") {
		t.Errorf("exit %d, stdout %q, stderr %q", got.code, got.out, got.err)
	}
}

// TestExportStaysInItsDirectory: no name that a server says, and no link that is there, leads a file out of the directory.
func TestExportStaysInItsDirectory(t *testing.T) {
	named := func(name string) map[string][]string {
		return map[string][]string{"runners": {`{"identity": {"runnerId": "` + name + `", "zone": "us"}, "profileBindings": []}`}}
	}
	for name, c := range map[string]struct {
		lists map[string][]string
		make  func(base, dir string) error
		says  string
	}{
		"a name that climbs": {named("../../victim"), nil, `"../../victim" may hold`},
		"an absolute name":   {named("/victim"), nil, `"/victim" may hold`},
		"a hidden name":      {named(".victim"), nil, `".victim" may hold`},
		"a name twice":       {map[string][]string{"zones": {exportZone, exportZone}}, nil, "zone us is there twice"},
		"a linked file": {named("east"), func(base, dir string) error {
			return os.Symlink(filepath.Join(base, "victim.yaml"), filepath.Join(dir, "runners", "east.yaml"))
		}, "runners/east.yaml is there, and is not a file"},
		"a file linked within": {named("east"), func(_, dir string) error {
			return os.Symlink("../berm.yaml", filepath.Join(dir, "runners", "east.yaml"))
		}, "runners/east.yaml is there, and is not a file"},
		"a linked folder": {named("victim"), func(base, dir string) error {
			if err := os.Remove(filepath.Join(dir, "runners")); err != nil {
				return err
			}
			return os.Symlink(base, filepath.Join(dir, "runners"))
		}, "runners is there, and is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir, victim := filepath.Join(base, "a"), filepath.Join(base, "victim.yaml")
			if err := os.MkdirAll(filepath.Join(dir, "runners"), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{victim, filepath.Join(dir, "berm.yaml")} {
				if err := os.WriteFile(path, []byte("owner: fleet\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.make != nil {
				if err := c.make(base, dir); err != nil {
					t.Fatal(err)
				}
			}
			if got := run(t, configured(t, c.lists), "", "export", "--dir", dir); got.code != 2 || !strings.Contains(got.err, c.says) {
				t.Errorf("exit %d, stderr %q", got.code, got.err)
			}
			for _, path := range []string{victim, filepath.Join(dir, "berm.yaml")} {
				if text, err := os.ReadFile(path); err != nil || string(text) != "owner: fleet\n" {
					t.Errorf("%s: %q %v", path, text, err)
				}
			}
		})
	}
}
