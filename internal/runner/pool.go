package runner

import (
	"context"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
)

// Pool asks a runner to keep sandboxes of one binding prepared. As with an Assignment, the runner folds the layers itself.
type Pool struct {
	backend.Pool
	// Layers are layers 1 to 3, lowest first.
	Layers []resolve.Input
}

// Unasked returns what the layers of a binding give a launch that asks for nothing: most launches, and what is prepared for them.
func Unasked(folded *resolve.Folded) (*resolve.Resolved, error) {
	request, err := launch.New(&specpb.Launch{})
	if err != nil {
		return nil, err
	}
	return folded.Overlay(resolve.Input{Origin: resolve.Origin{Layer: resolve.LayerRequest, Object: "request"}, Layer: request.Layer}), nil
}

// SetPools verifies pools and hands them to the backend. What is prepared is what the layers say here. Whether a launch may have one is
// decided when it comes, with everything else about it.
func (a *Agent) SetPools(ctx context.Context, pools []Pool) error {
	out := make([]backend.Pool, len(pools))
	for i, p := range pools {
		for j, l := range p.Layers {
			if l.Origin.Layer == resolve.LayerRequest || j > 0 && l.Origin.Layer < p.Layers[j-1].Origin.Layer {
				return poolMismatch(p, "the layers are not in their order")
			}
		}
		resolved, err := Unasked(resolve.Fold(p.Layers))
		if err != nil {
			return err
		}
		if digest := resolved.Digest(); digest != p.Digest {
			return poolMismatch(p, "the layers give "+digest+" here and "+p.Digest+" at the gateway")
		}
		out[i] = p.Pool
		out[i].Spec = resolved.Message()
	}
	return a.backend.SetPools(ctx, out)
}

func poolMismatch(p Pool, why string) error {
	return fault.Preconditionf(fault.ReasonDigestMismatch, "runner %s refuses the warm pool of profile %s: %s", p.RunnerID, p.ProfileName, why).
		WithHint("gateway and runner must be of versions that resolve specs alike")
}

// Pools returns the status of each pool.
func (a *Agent) Pools() []backend.PoolStatus { return a.backend.Pools() }
