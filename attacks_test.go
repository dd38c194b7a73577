package berm_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAttacksAreTested: every test that docs/attacks.md names exists.
func TestAttacksAreTested(t *testing.T) {
	page, err := os.ReadFile("docs/attacks.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 50 {
		t.Fatalf("%d tests found on the page: is it written in another way now?", len(named))
	}
	sources := map[string]string{}
	for _, n := range named {
		dir := n[1]
		if _, read := sources[dir]; !read {
			files, err := filepath.Glob(filepath.Join("internal", dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				sources[dir] += string(text)
			}
		}
		if !strings.Contains(sources[dir], "func "+n[2]+"(") {
			t.Errorf("there is no %s in internal/%s", n[2], dir)
		}
	}
}
