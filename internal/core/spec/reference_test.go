package spec_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/bermhq/berm/internal/core/spec"
)

var update = flag.Bool("update", false, "write docs/fields.md and the goldens anew")

// backends are the kinds of backend that every field declares a verdict for.
func backends() []string { return []string{"local", "kube", "fake"} }

func TestReference(t *testing.T) {
	const path = "../../../docs/fields.md"
	got := spec.Reference(backends()...)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is stale; run go test ./internal/core/spec -run Reference -update", path)
	}
}
