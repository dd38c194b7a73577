package backend

import (
	"context"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/spec"
)

// Pool asks for sandboxes of one binding to be kept prepared, up to the point where launches differ: root, namespaces, limits and
// an init that waits. It is immutable.
type Pool struct {
	OrgID, RunnerID, ProfileName, ZoneName string
	// Spec is the resolved spec of a launch that asks for nothing, Digest identifies it.
	Spec   *specpb.ProfileSpec
	Digest string
	// Size is how many are kept, at most core.MaxWarmSize.
	Size int
}

// PoolStatus is how a pool is.
type PoolStatus struct {
	OrgID, ProfileName, Digest string
	// Size is how many were asked for, Ready how many wait, Preparing how many are being made.
	Size, Ready, Preparing int
	// Hits and Misses count launches of the binding since the server's start.
	Hits, Misses int64
	// Problem, when not empty, is why none can be prepared; it is tried again at RetryAt, or, when that is zero, not until the
	// binding changes.
	Problem string
	RetryAt time.Time
}

// Pools is the part of a backend that keeps sandboxes prepared.
//
// A prepared sandbox is nobody's: it is in no observation, and counts against no capacity and no guardrail until a Create takes it.
// Create takes one of the pool of the work's organization and profile if, and only if, it was prepared from a spec with the
// work's digest, and takes each once. What happened is the event core.EventWarm of the sandbox, unless there are no pools at all.
type Pools interface {
	// SetPools replaces the pools. Sandboxes prepared from another digest than the present one are discarded, as are those of pools
	// that are gone. It returns at once; the rest happens in the background, and Pools tells how far it is. A backend that keeps
	// none: Precondition, BACKEND_UNSUPPORTED, unless the list is empty.
	SetPools(ctx context.Context, pools []Pool) error
	// Pools returns the status of each pool, in the order of organization and profile name.
	Pools() []PoolStatus
}

// UserScoped says why sandboxes of a spec cannot be prepared for whoever comes first, "" when they can: what the spec says differs
// by user, and a prepared sandbox has none.
func UserScoped(s *specpb.ProfileSpec) string {
	e := s.GetNetwork().GetEgress()
	name := e.GetSelected()
	if name == "" {
		name = e.GetDefault()
	}
	if e.GetModes()[name].GetType() == "user" {
		return "its egress mode " + name + " is of type user: which sandboxes it may reach depends on who launches it"
	}
	return ""
}

// maxDiffering is how many fields a verdict names.
const maxDiffering = 3

// SpecDiffers is the verdict on a launch whose spec is not that of the pool.
func SpecDiffers(prepared, launched *specpb.ProfileSpec) *core.WarmVerdict {
	v := &core.WarmVerdict{Reason: core.WarmSpecDiffers, Message: "the spec is another than that of the prepared sandboxes"}
	a, err := spec.FromMessage(prepared)
	if err != nil {
		return v
	}
	b, err := spec.FromMessage(launched)
	if err != nil {
		return v
	}
	for i, c := range spec.Diff(a, b) {
		switch {
		case i == 0:
			v.Message = "prepared sandboxes differ in " + c.Path
		case i < maxDiffering:
			v.Message += ", " + c.Path
		case i == maxDiffering:
			v.Message += " and more"
		}
	}
	return v
}
