package link

import (
	"cmp"
	"encoding/json"

	"k8s.io/apimachinery/pkg/util/validation"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// MaxDeployment is the longest JSON of a deployment, in bytes.
const MaxDeployment = 128 << 10

// DeploymentMessage returns what a process says of its deployment.
func DeploymentMessage(s *rollout.State) *linkv1.DeploymentState {
	installed, err := json.Marshal(s.Installed.WithoutValues())
	if err != nil {
		installed = nil // Texts, lists and maps alone are in it.
	}
	out := &linkv1.DeploymentState{
		Kind: s.Kind, Version: s.Version, Revision: s.Revision, Namespace: s.Namespace, Name: s.Name, SelfUpdate: s.SelfUpdate, Images: s.Images,
		InstalledJson: string(installed), Image: s.Image, Gateway: s.Gateway, Trying: s.Trying, Identity: s.Identity,
	}
	if p := s.Problem; p != nil {
		out.Problem = &linkv1.DeploymentProblem{Revision: p.Revision, Reason: p.Reason, Message: clip(p.Message, MaxText), Detail: clip(p.Detail, MaxText), Hints: p.Hints, At: Stamp(p.At)}
	}
	return out
}

// DeploymentOf is the reverse, with what a runner says cut to size; software is the version of one that does not say it here. What cannot
// be read of the deployment that was installed is not shown.
func DeploymentOf(m *linkv1.DeploymentState, software string) rollout.State {
	out := rollout.State{
		Kind: clip(m.GetKind(), MaxText), Version: clip(cmp.Or(m.GetVersion(), software), MaxText), Revision: max(0, m.GetRevision()), Namespace: clip(m.GetNamespace(), MaxText),
		Name: clip(m.GetName(), MaxText), SelfUpdate: m.GetSelfUpdate(), Images: clipped(m.GetImages()), Image: clip(m.GetImage(), MaxText),
		Gateway: clip(m.GetGateway(), MaxText), Trying: max(0, m.GetTrying()), Identity: clip(m.GetIdentity(), MaxText),
	}
	if text := m.GetInstalledJson(); text != "" && len(text) <= MaxDeployment {
		var installed rollout.Spec
		if json.Unmarshal([]byte(text), &installed) == nil {
			out.Installed = installed.WithoutValues() // One of the release before gives them.
		}
	}
	if len(validation.IsDNS1123Label(out.Namespace)) > 0 || len(validation.IsDNS1123Subdomain(out.Name)) > 0 {
		out.Namespace, out.Name = "", "" // They come to stand in commands that people are to run.
	}
	if p := m.GetProblem(); p != nil {
		out.Problem = &rollout.Problem{
			Revision: max(0, p.GetRevision()), Reason: clip(p.GetReason(), MaxText), Message: clip(p.GetMessage(), MaxText), Detail: clip(p.GetDetail(), MaxText),
			Hints: clipped(p.GetHints()), At: Time(p.GetAt()),
		}
	}
	return out
}

// WantedMessage asks for a deployment.
func WantedMessage(w *rollout.Wanted) *linkv1.SetDeploymentRequest {
	return &linkv1.SetDeploymentRequest{Revision: w.Revision, Image: w.Image, OverridesJson: w.Overrides.JSON(), Identity: w.Identity}
}

// WantedOf is the reverse.
func WantedOf(m *linkv1.SetDeploymentRequest) (rollout.Wanted, error) {
	w := rollout.Wanted{Revision: m.GetRevision(), Image: m.GetImage(), Identity: clip(m.GetIdentity(), MaxText)}
	if n := len(m.GetOverridesJson()); n > MaxDeployment {
		return w, fault.Invalidf(fault.ReasonLimitExceeded, "the deployment has %d bytes, more than %d", n, MaxDeployment)
	}
	var err error
	if w.Overrides, err = rollout.ParseOverrides(m.GetOverridesJson()); err != nil {
		return w, fault.Invalidf(fault.ReasonFieldInvalid, "the deployment cannot be read: %v", err)
	}
	return w, nil
}
