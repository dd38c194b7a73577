package app_test

import (
	"testing"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

func TestReleases(t *testing.T) {
	for _, tt := range []struct {
		values        []string
		stable, rapid rollout.Release
	}{
		{nil, rollout.Release{Version: "1.0"}, rollout.Release{Version: "1.0"}},
		{[]string{"stable=1.1,r.example/berm:1.1"}, rollout.Release{Version: "1.1", Image: "r.example/berm:1.1"}, rollout.Release{Version: "1.1", Image: "r.example/berm:1.1"}},
		{[]string{"rapid=2.0"}, rollout.Release{Version: "1.0"}, rollout.Release{Version: "2.0"}},
	} {
		got, err := app.ParseReleases(tt.values, "1.0")
		if err != nil || got[rollout.Stable] != tt.stable || got[rollout.Rapid] != tt.rapid {
			t.Errorf("%v: %v %v", tt.values, got, err)
		}
	}
	for _, bad := range [][]string{{"stable"}, {"stable="}, {"nightly=1"}, {"stable=1", "stable=2"}, {"stable=1 2"}, {"stable=,image"}} {
		if _, err := app.ParseReleases(bad, "1.0"); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v is taken", bad)
		}
	}
}
