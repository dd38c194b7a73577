package control_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
)

// BenchmarkEditWithTests is an edit of a profile that 100 runners bind, guarded by 100 tests: every test is run at every runner. binding
// is an edit of one of the bindings, none the edit of the profile without tests; breaks is refused.
func BenchmarkEditWithTests(b *testing.B) {
	var runners []string
	for i := range 100 {
		runners = append(runners, fmt.Sprintf("r%d", i))
	}
	w, _ := benchWorld(b, runners...)
	edit := func(spec string) error {
		_, _, err := w.svc.UpdateProfile(w.ctx(), w.admin, "agent", control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(spec)}})
		return err
	}
	spec := func(i int, memory string) string {
		return fmt.Sprintf(`{"resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"},"tags":["t%d"],"guardrails":{"resources":{"max_memory":%q}}}`, i, memory)
	}
	w.must(edit(spec(0, "4Gi")))
	b.Run("none", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			w.must(edit(spec(i, "4Gi")))
		}
	})
	var file strings.Builder
	file.WriteString("tests:\n")
	for i := range 50 {
		fmt.Fprintf(&file, `- {name: admitted %d, request: {resources: {cpu: 500m, memory: %dMi}}, expect: {verdict: admitted, values: {resource_defaults.memory_limit: %dMi}, origins: {resource_defaults.memory_limit: request}}}
- {name: refused %d, request: {resources: {cpu: 500m, memory: %dMi}}, expect: {verdict: refused, reason: GUARDRAIL_VIOLATED, layer: profile}}
`, i, 128+i, 128+i, i, 5000+i)
	}
	w.put(file.String(), control.EnforceTests)
	b.Run("profile", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			w.must(edit(spec(i, "4Gi")))
		}
	})
	b.Run("breaks", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if err := edit(spec(i, "8Gi")); err == nil {
				b.Fatal("not refused")
			}
		}
	})
	b.Run("binding", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_, _, err := w.svc.UpdateBinding(w.ctx(), w.admin, "r7", "agent", control.BindingPatch{
				Mask: []string{"overrides_json"}, Binding: core.Binding{Overrides: w.layer(fmt.Sprintf(`{"tags":["b%d"]}`, i))},
			}, control.EditState{})
			w.must(err)
		}
	})
}
