package spec_test

import (
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
)

// BenchmarkParseLayer reads and checks a layer with 40 set fields: once per write.
func BenchmarkParseLayer(b *testing.B) {
	text := spectest.Full(spec.Profile(), 40, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := spec.ParseLayer(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseStored reads a layer with 40 set fields from the store: once per object of a page.
func BenchmarkParseStored(b *testing.B) {
	text := spectest.Full(spec.Profile(), 40, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := spec.ParseStored(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFromMessage makes the layer of a typical request: once per launch.
func BenchmarkFromMessage(b *testing.B) {
	s := func(s string) *string { return &s }
	m := &specpb.ProfileSpec{
		ContainerImage:   s("python:3.11"),
		ResourceDefaults: &specpb.ResourceDefaults{CpuRequest: s("500m"), CpuLimit: s("1"), MemoryRequest: s("512Mi"), MemoryLimit: s("1Gi")},
		Network:          &specpb.Network{Egress: &specpb.Egress{Selected: s("none")}},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := spec.FromMessage(m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJSON writes the canonical text of a layer with 40 set fields.
func BenchmarkJSON(b *testing.B) {
	l, err := spec.ParseLayer(spectest.Full(spec.Profile(), 40, 1))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		l.JSON()
	}
}
