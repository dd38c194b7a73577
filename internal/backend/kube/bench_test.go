package kube_test

import (
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/fault"
)

// BenchmarkPodFor builds pods of goldens: without a fragment, with one that patches the main container, and a refusal.
func BenchmarkPodFor(b *testing.B) {
	for _, name := range []string{"minimal", "everything", "main-by-empty-name", "privileged-pod-refused"} {
		b.Run(name, func(b *testing.B) {
			archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
			if err != nil {
				b.Fatal(err)
			}
			in, _ := read(b, archive)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := kube.ObjectsFor(in); err != nil && !fault.Is(err, fault.Precondition) {
					b.Fatal(err)
				}
			}
		})
	}
}
