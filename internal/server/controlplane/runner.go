package controlplane

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/rest"
	"github.com/bermhq/berm/internal/server/wire"
)

// configured returns a runner as it is configured, with bindings named as they were.
func configured(r *core.Runner) (*v1beta2pb.Runner, error) {
	managed, err := managedMessage(r.Managed)
	if err != nil {
		return nil, fault.Internalf(err, "the managed spec of runner %s cannot be read", r.ID)
	}
	m := &v1beta2pb.Runner{
		DisplayName: r.DisplayName,
		Identity: &v1beta2pb.RunnerIdentity{
			RunnerId: r.RunnerID, Zone: r.Zone, ClusterId: r.ClusterID, ClusterName: r.ClusterName, RunnerGroupId: r.GroupID,
		},
		ManagedSpec: managed,
	}
	for _, b := range r.Bindings {
		out := &v1beta2pb.RunnerProfileBinding{ProfileTemplateId: b.ProfileID, ProfileName: b.Alias, IsDefault: b.Default}
		if b.Overrides != nil {
			out.OverridesJson = string(b.Overrides.WireJSON())
		}
		if b.Warm > 0 {
			out.Warm = &v1beta2pb.WarmPool{Size: b.Warm}
		}
		m.ProfileBindings = append(m.ProfileBindings, out)
	}
	return m, nil
}

// RunnerMessage returns a runner with what is known of its process.
func (f *Front) RunnerMessage(v *control.RunnerView, warnings []string) (*v1beta2pb.Runner, error) {
	r, st := v.Runner, v.Status
	m, err := configured(r)
	if err != nil {
		return nil, err
	}
	for i, name := range v.BindingNames {
		m.ProfileBindings[i].ProfileName = name
	}
	m.Id, m.OrganizationId, m.Etag, m.Revision, m.Warnings = r.ID, r.OrgID, control.Etag(r.Meta), r.Revision, warnings
	m.ManagementMode = v1beta2pb.ManagementMode_MANAGEMENT_MODE_MANAGED
	m.InstallStatus, m.ConnectionStatus = installStatus(st.Install), connectionStatus(st.Connection)
	m.CreatedAt, m.UpdatedAt, m.LastHeartbeatAt = wire.Time(r.CreatedAt), wire.Time(r.UpdatedAt), wire.Time(st.LastHeartbeat)
	if e := st.Error; e != nil {
		m.InstallError = &v1beta2pb.RunnerInstallError{Reason: e.Reason, Message: e.Message, RemediationHints: e.Hints, OccurredAt: wire.Time(e.At)}
	}
	for _, p := range st.Pools {
		m.WarmPools = append(m.WarmPools, &v1beta2pb.WarmPoolStatus{
			ProfileName: p.ProfileName, Size: int32(p.Size), Ready: int32(p.Ready), Preparing: int32(p.Preparing),
			Hits: p.Hits, Misses: p.Misses, Problem: p.Problem, RetryAt: wire.Time(p.RetryAt),
		})
	}
	return m, f.deployment(m, v)
}

// messageOr is RunnerMessage of the result of a use case.
func (f *Front) messageOr(v *control.RunnerView, err error) (*v1beta2pb.Runner, error) {
	if err != nil {
		return nil, err
	}
	return f.RunnerMessage(v, nil)
}

// RunnerConfiguration returns what a revision of a runner configures, in the form of its REST resource.
func RunnerConfiguration(r *core.Runner) (*tree.Node, error) {
	m, err := configured(r)
	if err != nil {
		return nil, err
	}
	n, err := rest.MessageNode(m)
	if err != nil {
		return nil, err
	}
	out := &tree.Node{Kind: tree.Object}
	for _, k := range n.Keys {
		switch k.Name {
		case "displayName", "identity", "managedSpec", "profileBindings":
			out.Keys = append(out.Keys, k)
		}
	}
	return out, nil
}

func (f *Front) runnerNode(v *control.RunnerView, warnings []string) (*tree.Node, error) {
	m, err := f.RunnerMessage(v, warnings)
	if err != nil {
		return nil, err
	}
	return rest.MessageNode(m)
}

func installStatus(s control.InstallStatus) v1beta2pb.RunnerInstallStatus {
	switch s {
	case control.InstallReady:
		return v1beta2pb.RunnerInstallStatus_RUNNER_INSTALL_STATUS_READY
	case control.InstallFailed:
		return v1beta2pb.RunnerInstallStatus_RUNNER_INSTALL_STATUS_FAILED
	case control.InstallDeleting:
		return v1beta2pb.RunnerInstallStatus_RUNNER_INSTALL_STATUS_DELETING
	case control.InstallPending:
	}
	return v1beta2pb.RunnerInstallStatus_RUNNER_INSTALL_STATUS_PENDING
}

func connectionStatus(s control.ConnectionStatus) v1beta2pb.RunnerConnectionStatus {
	if s == control.Connected {
		return v1beta2pb.RunnerConnectionStatus_RUNNER_CONNECTION_STATUS_CONNECTED
	}
	return v1beta2pb.RunnerConnectionStatus_RUNNER_CONNECTION_STATUS_DISCONNECTED
}

// The two runtime classes stand among the deployment overrides on the wire, and belong to layer 1 in the core.

func managedMessage(s core.ManagedSpec) (*v1beta2pb.ManagedRunnerSpec, error) {
	m := &v1beta2pb.ManagedRunnerSpec{
		ReleaseChannel:                    v1beta2pb.ReleaseChannel(v1beta2pb.ReleaseChannel_value[s.ReleaseChannel]),
		AllowPrivilegedProfileAnnotations: s.AllowPrivilegedProfileAnnotation,
		EnforceResourceLimits:             s.EnforceResourceLimits,
	}
	if m.ReleaseChannel == v1beta2pb.ReleaseChannel_RELEASE_CHANNEL_UNSPECIFIED {
		m.ReleaseChannel = v1beta2pb.ReleaseChannel_RELEASE_CHANNEL_STABLE
	}
	if s.MaintenancePolicyJSON != "" {
		m.MaintenancePolicy = &v1beta2pb.MaintenancePolicy{}
		if err := fromText(s.MaintenancePolicyJSON, m.MaintenancePolicy); err != nil {
			return nil, err
		}
	}
	if s.OverridesJSON != "" || s.CPURuntimeClass != "" || s.GPURuntimeClass != "" {
		m.Overrides = &v1beta2pb.RunnerDeploymentOverrides{}
		if err := fromText(s.OverridesJSON, m.Overrides); err != nil {
			return nil, err
		}
		m.Overrides.CpuRuntimeClass, m.Overrides.GpuRuntimeClass = s.CPURuntimeClass, s.GPURuntimeClass
	}
	return m, nil
}

func managedInput(m *v1beta2pb.ManagedRunnerSpec) (core.ManagedSpec, error) {
	s := core.ManagedSpec{
		AllowPrivilegedProfileAnnotation: m.GetAllowPrivilegedProfileAnnotations(),
		EnforceResourceLimits:            m.GetEnforceResourceLimits(),
		CPURuntimeClass:                  m.GetOverrides().GetCpuRuntimeClass(),
		GPURuntimeClass:                  m.GetOverrides().GetGpuRuntimeClass(),
	}
	// Stable is stored as unspecified, which means stable: what is read and written again is then the same state.
	if c := m.GetReleaseChannel(); c != v1beta2pb.ReleaseChannel_RELEASE_CHANNEL_UNSPECIFIED && c != v1beta2pb.ReleaseChannel_RELEASE_CHANNEL_STABLE {
		s.ReleaseChannel = c.String()
	}
	var err error
	if m.GetMaintenancePolicy() != nil {
		if s.MaintenancePolicyJSON, err = toText(m.GetMaintenancePolicy()); err != nil {
			return s, err
		}
	}
	if m.GetOverrides() != nil {
		others := proto.CloneOf(m.GetOverrides())
		others.CpuRuntimeClass, others.GpuRuntimeClass = "", ""
		if s.OverridesJSON, err = toText(others); err != nil || s.OverridesJSON == "{}" {
			s.OverridesJSON = ""
		}
	}
	return s, err
}

// toText returns a message as canonical JSON, fromText reads it back.
func toText(m proto.Message) (string, error) {
	n, err := tree.FromMessage(m)
	if err != nil {
		return "", fault.Invalidf(fault.ReasonFieldInvalid, "invalid managed_spec: %v", err)
	}
	return string(n.JSON()), nil
}

func fromText(text string, m proto.Message) error {
	if text == "" {
		return nil
	}
	n, err := tree.ParseJSON([]byte(text))
	if err != nil {
		return err
	}
	_, err = tree.Decode(n, m)
	return err
}

// runnerInput returns what a message says about a runner.
func runnerInput(m *v1beta2pb.Runner, wrong *rest.Problems) control.RunnerInput {
	managed, err := managedInput(m.GetManagedSpec())
	wrong.Merge(err)
	id := m.GetIdentity()
	in := control.RunnerInput{
		RunnerID: id.GetRunnerId(), DisplayName: m.GetDisplayName(), Zone: id.GetZone(),
		ClusterID: id.GetClusterId(), ClusterName: id.GetClusterName(), GroupID: id.GetRunnerGroupId(), Managed: managed,
	}
	for i, b := range m.GetProfileBindings() {
		in.Bindings = append(in.Bindings, BindingInput(b, fmt.Sprintf("runner.profile_bindings[%d]", i), wrong))
	}
	return in
}

// BindingInput returns what a message says about a binding. at is where the message stands, for what is added to wrong.
func BindingInput(b *v1beta2pb.RunnerProfileBinding, at string, wrong *rest.Problems) core.Binding {
	overrides, err := overridesLayer(b.GetOverridesJson(), at+".overrides_json")
	wrong.Merge(err)
	return core.Binding{ProfileID: b.GetProfileTemplateId(), Alias: b.GetProfileName(), Default: b.GetIsDefault(), Overrides: overrides, Warm: b.GetWarm().GetSize()}
}

// overridesLayer reads layer 3, nil for none.
func overridesLayer(text, at string) (*spec.Layer, error) {
	if text == "" {
		return nil, nil
	}
	n, err := tree.ParseJSON([]byte(text))
	if err != nil {
		e := fault.From(err).Clone()
		for i := range e.Fields {
			e.Fields[i].Path = at
		}
		return nil, e
	}
	return spec.DecodeLayer(n, at)
}

// identify sets the id of a new runner, which stands beside it, in it, or in both.
func identify(in *control.RunnerInput, beside string, wrong *rest.Problems) {
	switch {
	case beside == "" && in.RunnerID == "":
		wrong.Add(nil, "runner_id", "must be given")
	case beside != "" && in.RunnerID != "" && beside != in.RunnerID:
		wrong.Add(nil, "runner.identity.runner_id", "is %.80q, and runner_id is %.80q; give it once", in.RunnerID, beside)
	case in.RunnerID == "":
		in.RunnerID = beside
	}
}

// runnerLeaf says which messages of a runner are one value to a mask.
func runnerLeaf(path string) bool { return path != "identity" && path != "managed_spec" }
