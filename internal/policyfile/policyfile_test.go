package policyfile_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/policyfile"
	"github.com/bermhq/berm/internal/specfile"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

// TestBrokenFiles reads files that nobody can mean, and compares all that is said of each with a golden text.
func TestBrokenFiles(t *testing.T) {
	path := filepath.Join("testdata", "broken.txtar")
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for i := 0; i+1 < len(archive.Files); i += 2 {
		in, want := archive.Files[i], &archive.Files[i+1]
		t.Run(in.Name, func(t *testing.T) {
			if want.Name != in.Name+".err" {
				t.Fatalf("%s is followed by %s", in.Name, want.Name)
			}
			seen++
			_, err := policyfile.Parse(in.Data)
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%v, want an Invalid fault", err)
			}
			f := fault.From(err)
			got := f.Reason + ": " + f.Message + "\n" + specfile.Render(in.Name, in.Data, err)
			if *update {
				want.Data = []byte(got)
			} else if got != string(want.Data) {
				t.Errorf("got\n%s\nwant\n%s", got, want.Data)
			}
		})
	}
	if seen < 30 {
		t.Errorf("%d files", seen)
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimits(t *testing.T) {
	one := "- {name: NAME, request: {}, expect: {verdict: admitted}}\n"
	many := func(n int) string {
		var b strings.Builder
		b.WriteString("tests:\n")
		for i := range n {
			b.WriteString(strings.Replace(one, "NAME", strings.Repeat("x", i+1), 1))
		}
		return b.String()
	}
	if tests, err := policyfile.Parse([]byte(many(policy.MaxTests))); err != nil || len(tests) != policy.MaxTests {
		t.Errorf("%d tests, %v", len(tests), err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"tests": {many(policy.MaxTests + 1), "has 101 tests, the limit is 100"},
		"bytes": {many(1) + strings.Repeat("#", policy.MaxText), "the limit is 262144"},
		"name":  {"tests:\n" + strings.Replace(one, "NAME", strings.Repeat("x", policy.MaxName+1), 1), "must be one line of 1 to 128 bytes"},
	} {
		if _, err := policyfile.Parse([]byte(c.text)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse: whatever is read has a stored form that means the same, and what is not read is an Invalid fault.
func FuzzParse(f *testing.F) {
	f.Add([]byte("tests:\n- {name: a, request: {network: {egress_mode: x}}, expect: {verdict: refused, path: network.egress_mode, layer: zone}}\n"))
	f.Add([]byte("tests:\n- {name: a, runner: any, expect: {verdict: admitted, placed: r, values: {runtime_class: null, resource_defaults.cpu_limit: 2}, origins: {tags: zone}}}\n"))
	f.Add([]byte(`{"tests":[{"name":"a","unnamed":true,"runner":"r","expect":{"verdict":"admitted","values":{"pod.spec.nodeName":"x","guardrails.images.allowed":["*"]}}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tests, err := policyfile.Parse(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("not an Invalid fault: %v", err)
			}
			_ = specfile.Render("f", text, err)
			return
		}
		stored, err := policy.Marshal(tests)
		if err != nil {
			t.Fatal(err)
		}
		again, err := policy.Unmarshal(stored)
		if err != nil {
			t.Fatalf("%s: %v", stored, err)
		}
		if twice, err := policy.Marshal(again); err != nil || !bytes.Equal(stored, twice) {
			t.Fatalf("%s becomes %s, %v", stored, twice, err)
		}
	})
}
