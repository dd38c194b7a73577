package resolve

import (
	"testing"

	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
)

// benchFields is the number of set fields that the speed target of the design names.
const benchFields = 40

func benchInputs(b *testing.B, every bool) []Input {
	b.Helper()
	var inputs []Input
	for l := LayerZone; l <= LayerRequest; l++ {
		n := benchFields
		if !every {
			n = benchFields / int(l)
		}
		layer, err := spec.ParseStored(spectest.Full(spec.Profile(), n, int(l)))
		if err != nil {
			b.Fatal(err)
		}
		inputs = append(inputs, Input{Origin{Layer: l, Object: l.String()}, layer})
	}
	return inputs
}

// BenchmarkFold folds four layers into 40 set fields with provenance. "typical": the zone sets all 40, each higher layer
// fewer (83 statements). "worst": every layer sets all 40 (160 statements).
func BenchmarkFold(b *testing.B) {
	for name, every := range map[string]bool{"typical": false, "worst": true} {
		b.Run(name, func(b *testing.B) {
			inputs := benchInputs(b, every)
			b.ReportAllocs()
			for b.Loop() {
				if f := Fold(inputs); len(f.Fields()) < benchFields {
					b.Fatal(len(f.Fields()))
				}
			}
		})
	}
}

// BenchmarkOverlay lays a request over a kept fold of three layers with 40 set fields.
func BenchmarkOverlay(b *testing.B) {
	inputs := benchInputs(b, false)
	folded := Fold(inputs[:3])
	request, err := spec.ParseStored([]byte(`{"containerImage":"python:3.12","resourceDefaults":{"cpuRequest":"1",` +
		`"memoryRequest":"1Gi","cpuLimit":"1","memoryLimit":"1Gi"},"network":{"egress":{"selected":"none"}},` +
		`"pod":{"metadata":{"annotations":{"a":"1","b":"2"}}}}`))
	if err != nil {
		b.Fatal(err)
	}
	in := Input{Origin{Layer: LayerRequest, Object: "request"}, request}
	b.ReportAllocs()
	for b.Loop() {
		if r := folded.Overlay(in); len(r.Fields()) < benchFields {
			b.Fatal(len(r.Fields()))
		}
	}
}

// BenchmarkMessage makes the message of a resolved spec, BenchmarkDigest its identity: once per launch each.
func BenchmarkMessage(b *testing.B) {
	f := Fold(benchInputs(b, false))
	b.ReportAllocs()
	for b.Loop() {
		f.Message()
	}
}

func BenchmarkDigest(b *testing.B) {
	f := Fold(benchInputs(b, false))
	b.ReportAllocs()
	for b.Loop() {
		f.Digest()
	}
}
