package lint

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
)

// usable asks for sandboxes that say nothing but where they are to run: of a binding that refuses all of them, only launches that
// say more get anything. The runner counts as empty, as in the snapshot.
func usable(s *plan.Snapshot, r *plan.Runner, b *plan.Binding) []Finding {
	if !r.Connected || r.Cordoned || r.Unable != "" {
		return nil
	}
	about := "binding " + bindingName(r, b)
	err := try(s, r, b, "")
	if err != nil {
		f := Finding{Rule: NeverAdmits, Severity: Warning, Object: about, Message: "a launch that asks for nothing more is refused: " + fault.From(err).Message}
		if b.Spec.Default {
			f.Rule, f.Severity = DefaultNeverAdmits, Error
			f.Message = "launches that name no profile get this binding, and are refused: " + fault.From(err).Message
		}
		return []Finding{f}
	}
	var out []Finding
	modes, ok := b.Folded.Lookup("network.egress.modes")
	if !ok {
		return nil
	}
	var declared map[string]json.RawMessage
	if json.Unmarshal(modes.JSON(), &declared) != nil {
		return nil
	}
	for _, mode := range slices.Sorted(maps.Keys(declared)) {
		if err := try(s, r, b, mode); err != nil {
			out = append(out, Finding{
				Rule: ModeUnselectable, Severity: Warning, Object: about, Path: "network.egress.modes[" + mode + "]",
				Message: fmt.Sprintf("no launch can select mode %s (%s): %s", mode, modes.Origin.Object, fault.From(err).Message),
			})
		}
	}
	return out
}

func try(s *plan.Snapshot, r *plan.Runner, b *plan.Binding, mode string) error {
	l := &specpb.Launch{RunnerIds: []string{r.Runner.RunnerID}, ProfileNames: []string{b.Name}}
	if mode != "" {
		l.EgressMode = mode
	}
	_, err := plan.Make(s, l, plan.Options{Terse: true})
	return err
}
