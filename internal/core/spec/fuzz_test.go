package spec_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
)

// FuzzParseLayer: no text panics or takes long. What is accepted has one canonical text, says the same in every form, and
// can be folded.
func FuzzParseLayer(f *testing.F) {
	for i := range 4 {
		f.Add(spectest.Full(spec.Profile(), 100, i))
	}
	for _, text := range []string{
		`{"networkConfigJson":"{\"ingress\":{\"a\":{}}}","namespace":null,"pod":{"spec":{"a":null}}}`,
		`{"network":{"ingress":{"default":{"scope":"any"},"x":{}}}}`, `{"resourceDefaults":{"cpuLimit":1e99,"memoryLimit":"1e-99"}}`,
		`{"resource_defaults":{"cpu_limit":"9E","memory_limit":"0.0000000000000000000000000000"}}`,
		`{"guardrails":{"fields":{"locked":["pod.spec.","pod","[","network.egress.modes[x]"]}}}`,
		`{"containerImage":"a@sha256:","tags":[""],"nodeSelector":{"":""}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := spec.ParseLayer(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || len(fault.From(err).Fields) == 0 && !fault.HasReason(err, fault.ReasonLimitExceeded) {
				t.Fatalf("%v", err)
			}
			return
		}
		for name, form := range map[string][]byte{"canonical": l.JSON(), "wire": l.WireJSON(), "yaml": l.Node().JSON()} {
			again, err := spec.ParseLayer(form)
			if err != nil || !bytes.Equal(again.JSON(), l.JSON()) {
				t.Fatalf("%s form %s of %s: %s, %v", name, form, text, again, err)
			}
		}
		if stored, err := spec.ParseStored(l.JSON()); err != nil || stored.Digest() != l.Digest() {
			t.Fatalf("stored: %s, %v", stored, err)
		}
		if applied, err := spec.Apply(nil, spec.Diff(nil, l)); err != nil || applied.Digest() != l.Digest() {
			t.Fatalf("applied: %s, %v", applied, err)
		}
		r := resolve.Fold([]resolve.Input{resolve.BuiltIn(), {Origin: resolve.Origin{Layer: resolve.LayerRequest}, Layer: l}})
		if _, err := spec.FromMessage(r.Message()); err != nil {
			t.Fatalf("message of %s: %v", text, err)
		}
	})
}

// FuzzParseMask: no mask panics; what is accepted is stable and can be applied.
func FuzzParseMask(f *testing.F) {
	for _, text := range []string{"labels,spec.tags", "spec.pod.spec.a.b", "spec.networkConfigJson", "spec.", ".", "spec.tags[0]", "id", "*"} {
		f.Add(text)
	}
	old, err := spec.ParseLayer([]byte(`{"tags":["a"],"pod":{"spec":{"a":1}}}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		paths, err := spec.ParseMask(text, maskPaths())
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := spec.ParseMask(strings.Join(paths, ","), maskPaths())
		if err != nil || strings.Join(again, ",") != strings.Join(paths, ",") {
			t.Fatalf("%q, then %q, %v", paths, again, err)
		}
		for _, p := range paths {
			inner, ok := strings.CutPrefix(p, "spec.")
			if !ok {
				continue
			}
			if _, err := old.Replace([]string{inner}, nil); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
		}
	})
}

// FuzzParseQuantity: no text panics or takes long, and an amount that is accepted is within the limits and has a text.
func FuzzParseQuantity(f *testing.F) {
	for _, text := range []string{"1", "500m", "1.5Gi", "1e3", "1e99999999", "0.000000000001", "-0", "+1", "1Ei", "٣"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if millis, err := spec.ParseCPU(text); err == nil {
			if back, err := spec.ParseCPU(spec.FormatCPU(millis)); err != nil || back != millis || millis < 0 || millis > spec.MaxCPUMillis {
				t.Fatalf("%q: %d, %d, %v", text, millis, back, err)
			}
		}
		if bytes, err := spec.ParseMemory(text); err == nil {
			if back, err := spec.ParseMemory(spec.FormatMemory(bytes)); err != nil || back != bytes || bytes < 0 || bytes > spec.MaxMemoryBytes {
				t.Fatalf("%q: %d, %d, %v", text, bytes, back, err)
			}
		}
	})
}
