package guard

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// TestStorageIsBounded: whatever layers say, what is admitted has a limit, which is within the maximum of each of them.
func TestStorageIsBounded(t *testing.T) {
	kinds := []resolve.Layer{resolve.LayerZone, resolve.LayerProfile, resolve.LayerOverride}
	rapid.Check(t, func(t *rapid.T) {
		layers := []resolve.Input{resolve.BuiltIn()}
		least, limit := 0, 0
		for _, kind := range kinds {
			most, own := rapid.IntRange(0, 3).Draw(t, "maximum"), rapid.IntRange(0, 4).Draw(t, "limit")
			defaults, bounds := "", ""
			if own > 0 {
				limit = own
				defaults = fmt.Sprintf(`"ephemeral_storage_limit":"%dGi"`, own)
			}
			if most > 0 {
				if least == 0 || most < least {
					least = most
				}
				bounds = fmt.Sprintf(`"max_ephemeral_storage":"%dGi"`, most)
			}
			text := `{"resource_defaults":{` + defaults + `},"guardrails":{"resources":{` + bounds + `}}}`
			l, err := spec.ParseLayer([]byte(text))
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			layers = append(layers, resolve.Input{Origin: resolve.Origin{Layer: kind, Object: "layer"}, Layer: l})
		}
		r, err := launch.New(&specpb.Launch{})
		if err != nil {
			t.Fatal(err)
		}
		s := NewSubject(r, &resolve.Origin{Layer: resolve.LayerRequest, Object: "request"}, "crun")
		found := Check(Effective(layers), s)
		want := least > 0 && (limit == 0 || limit > least)
		if (len(found) > 0) != want {
			t.Fatalf("a limit of %dGi below %dGi: %+v", limit, least, found)
		}
		for _, v := range found {
			if v.Path != "resource_defaults.ephemeral_storage_limit" || v.LimitPath != "guardrails.resources.max_ephemeral_storage" || v.LimitOrigin == nil || v.Fix != nil ||
				(v.Reason == ReasonMissing) != (limit == 0) {
				t.Errorf("%+v", v)
			}
		}
	})
}
