package controlplane

import (
	"cmp"
	"encoding/json"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/server/wire"
)

// deployment adds to a runner what is wanted of its process, and how far that is.
func (f *Front) deployment(m *v1beta2pb.Runner, v *control.RunnerView) error {
	d := &v.Deployment
	m.TargetRevision, m.ActiveRevision, m.RolloutInProgress, m.UpdateAvailable = d.Target, d.Active, d.InProgress(), d.Available
	if d.Active == 0 {
		return nil
	}
	version := cmp.Or(d.State.Version, f.version) // A runner that says none is of a release before it could.
	m.ActiveConfigVersion, m.ActiveProfileSpecVersion = version, version
	st := &d.State
	m.Deployment = &v1beta2pb.DeploymentStatus{
		SelfUpdate: st.SelfUpdate, Kind: st.Kind, ActiveImage: st.Image, OfferedVersion: d.Offered.Version, OfferedImage: d.Offered.Image,
		NextUpdateAt: wire.Time(d.Next), Pending: d.Pending, Hints: d.Hints,
	}
	if p := st.Problem; p != nil {
		m.Deployment.Error = &v1beta2pb.RunnerInstallError{
			Reason: p.Reason, Message: p.Message, DiagnosticDetail: p.Detail, RemediationHints: p.Hints, OccurredAt: wire.Time(p.At),
		}
	}
	var err error
	m.DeploymentSpec, err = deploymentSpec(d.Spec)
	if err != nil {
		return fault.Internalf(err, "the deployment of runner %s cannot be read", v.Runner.ID)
	}
	m.DeploymentSpec.GatewayServer = st.Gateway
	m.DeploymentSpec.CpuRuntimeClass, m.DeploymentSpec.GpuRuntimeClass = v.Runner.Managed.CPURuntimeClass, v.Runner.Managed.GPURuntimeClass
	if st.Kind != "" {
		m.DeploymentSpec.Scaling = &v1beta2pb.RunnerScaling{Replicas: 1}
	}
	return nil
}

// deploymentSpec returns a deployment in the form of the wire, whose JSON has the same names.
func deploymentSpec(s *rollout.Spec) (*v1beta2pb.RunnerDeploymentSpec, error) {
	out := &v1beta2pb.RunnerDeploymentSpec{}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return out, fromText(string(text), out)
}
