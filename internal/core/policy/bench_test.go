package policy_test

import (
	"testing"

	"github.com/bermhq/berm/internal/policyfile"
)

// BenchmarkRun is one test at one place.
func BenchmarkRun(b *testing.B) {
	for name, body := range map[string]string{
		"admitted": `runner: west, request: {resources: {cpu: "1", memory: 512Mi}}, expect: {verdict: admitted, values: {resource_defaults.memory_limit: 512Mi}, origins: {resource_defaults.memory_limit: request}}`,
		"refused":  `runner: west, request: {resources: {cpu: "1", memory: 8Gi}}, expect: {verdict: refused, reason: GUARDRAIL_VIOLATED, layer: profile}`,
	} {
		b.Run(name, func(b *testing.B) {
			tests, err := policyfile.Parse([]byte(one(body)))
			if err != nil {
				b.Fatal(err)
			}
			fleet := newWorld(b).fleet()
			cases := fleet.Cases(tests)
			b.ReportAllocs()
			for b.Loop() {
				if r := fleet.Run(&cases[0]); r.Outcome != "passed" {
					b.Fatal(r.Why())
				}
			}
		})
	}
}
