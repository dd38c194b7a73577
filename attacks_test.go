package berm_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAttacksAreTested: every test and failpoint that docs/attacks.md names exists.
func TestAttacksAreTested(t *testing.T) {
	page := namesTests(t, "docs/attacks.md", 50)
	points := regexp.MustCompile("`([a-z]+\\.[a-z]+-[a-z-]+)`").FindAllStringSubmatch(page, -1)
	if len(points) < 10 {
		t.Fatalf("%d failpoints found on the page: is it written in another way now?", len(points))
	}
	all := failpointNames(t)
	for _, p := range points {
		if !all[p[1]] {
			t.Errorf("there is no failpoint %s", p[1])
		}
	}
}

// TestFaultsAreTested: the same of docs/reliability.md.
func TestFaultsAreTested(t *testing.T) { namesTests(t, "docs/reliability.md", 30) }

// TestChoicesAreTested: the same of docs/compatibility.md.
func TestChoicesAreTested(t *testing.T) { namesTests(t, "docs/compatibility.md", 60) }

// TestMissionIsTested: the same of docs/conformance-mission.md, and of the checks of mission.sh that it names.
func TestMissionIsTested(t *testing.T) {
	page := namesTests(t, "docs/conformance-mission.md", 40)
	script, err := os.ReadFile("test/scenarios/mission.sh")
	if err != nil {
		t.Fatal(err)
	}
	checks := regexp.MustCompile("“([^”]+)”").FindAllStringSubmatch(page, -1)
	if len(checks) < 25 {
		t.Fatalf("%d checks found on the page: is it written in another way now?", len(checks))
	}
	for _, c := range checks {
		if c[1] != "quotes" && !strings.Contains(string(script), `check "`+c[1]+`"`) {
			t.Errorf("mission.sh has no check %q", c[1])
		}
	}
}

// namesTests returns a page that names tests, at least enough of them, each of which exists.
func namesTests(t *testing.T, path string, enough int) string {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < enough {
		t.Fatalf("%d tests found on the page: is it written in another way now?", len(named))
	}
	sources := map[string]string{}
	for _, n := range named {
		if _, read := sources[n[1]]; !read {
			sources[n[1]] = testsOf(t, n[1])
		}
		if !strings.Contains(sources[n[1]], "func "+n[2]+"(") {
			t.Errorf("there is no %s in %s", n[2], n[1])
		}
	}
	for _, script := range regexp.MustCompile("`(test/[a-z_/]+\\.sh)`").FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(script[1]); err != nil {
			t.Error(err)
		}
	}
	return string(page)
}

// testsOf returns the text of all tests of a package.
func testsOf(t *testing.T, dir string) string {
	t.Helper()
	if !strings.HasPrefix(dir, "test/") {
		dir = filepath.Join("internal", dir)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	return out.String()
}

// failpointNames returns what is written in the sources as the name of a failpoint.
func failpointNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	spelled := regexp.MustCompile(`\w+ += "([a-z]+\.[a-z]+-[a-z-]+)"`)
	err := filepath.WalkDir("internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range spelled.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
