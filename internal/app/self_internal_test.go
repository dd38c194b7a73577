package app

import (
	"testing"

	"github.com/bermhq/berm/internal/core/rollout"
)

// TestStateOfImage: a runner that was updated says which image it is without asking anybody: a claim of the old one would have it updated again.
func TestStateOfImage(t *testing.T) {
	self := &Self{Namespace: "berm", StatefulSet: "berm-runner", SelfUpdate: true, Installed: rollout.Spec{Image: "r.example/berm:1"}}
	for image, want := range map[string]string{"r.example/berm:2": "r.example/berm:2", "": "r.example/berm:1"} {
		c := RunnerConfig{Self: self, Image: image}
		if got := c.state(); got.Image != want || got.Installed.Image != "r.example/berm:1" || got.Kind != rollout.KindStatefulSet {
			t.Errorf("%q: %+v", image, got)
		}
	}
}
