package control

import (
	"encoding/json"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

// patchRunner returns current with what the patch replaces. current is not touched.
func patchRunner(current *core.Runner, patch RunnerPatch) (*core.Runner, error) {
	next := *current
	in := patch.Runner
	for _, path := range patch.Mask {
		var is, given string
		switch path {
		case "display_name":
			next.DisplayName = in.DisplayName
		case "identity.zone":
			next.Zone = in.Zone
		case "identity.runner_group_id":
			next.GroupID = in.GroupID
		case "profile_bindings":
			next.Bindings = in.Bindings
		case "managed_spec":
			next.Managed = in.Managed
		case "managed_spec.release_channel":
			next.Managed.ReleaseChannel = in.Managed.ReleaseChannel
		case "managed_spec.maintenance_policy":
			next.Managed.MaintenancePolicyJSON = in.Managed.MaintenancePolicyJSON
		case "managed_spec.overrides":
			next.Managed.OverridesJSON = in.Managed.OverridesJSON
			next.Managed.CPURuntimeClass, next.Managed.GPURuntimeClass = in.Managed.CPURuntimeClass, in.Managed.GPURuntimeClass
		case "managed_spec.allow_privileged_profile_annotations":
			next.Managed.AllowPrivilegedProfileAnnotation = in.Managed.AllowPrivilegedProfileAnnotation
		case "managed_spec.enforce_resource_limits":
			next.Managed.EnforceResourceLimits = in.Managed.EnforceResourceLimits
		case "identity.runner_id":
			is, given = current.RunnerID, in.RunnerID
		case "identity.cluster_id":
			is, given = current.ClusterID, in.ClusterID
		case "identity.cluster_name":
			is, given = current.ClusterName, in.ClusterName
		default:
			return nil, unknownPath(path)
		}
		if is != given {
			return nil, immutable(path, is, given).WithHint("make a new runner")
		}
	}
	if err := checkRunner(&next); err != nil {
		return nil, err
	}
	return &next, redeploy(&next, current.Managed)
}

func checkRunner(r *core.Runner) error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid runner")
	checkName(e, "runner_id", r.RunnerID)
	checkName(e, "identity.zone", r.Zone)
	if r.GroupID != "" {
		checkName(e, "identity.runner_group_id", r.GroupID)
	}
	switch {
	case r.ClusterID == "" && r.ClusterName == "":
		e.WithField("identity.cluster_id", "give cluster_id or cluster_name; a runner belongs to one cluster")
	case r.ClusterID != "" && r.ClusterName != "":
		e.WithField("identity.cluster_id", "excludes cluster_name: give one of them")
	}
	checkText(e, "identity.cluster_id", r.ClusterID, MaxRunnerText)
	checkText(e, "identity.cluster_name", r.ClusterName, MaxRunnerText)
	checkText(e, "display_name", r.DisplayName, MaxRunnerText)
	checkText(e, "reason", r.Reason, MaxReason)
	checkJSON(e, "managed_spec.maintenance_policy", r.Managed.MaintenancePolicyJSON)
	checkJSON(e, "managed_spec.overrides", r.Managed.OverridesJSON)
	switch r.Managed.ReleaseChannel {
	case "", ChannelStable, ChannelRapid:
	default:
		e.WithField("managed_spec.release_channel", "%.40q is none of %s, %s", r.Managed.ReleaseChannel, ChannelStable, ChannelRapid)
	}
	checkRuntimeClass(e, "managed_spec.overrides.cpu_runtime_class", r.Managed.CPURuntimeClass)
	checkRuntimeClass(e, "managed_spec.overrides.gpu_runtime_class", r.Managed.GPURuntimeClass)
	return orNil(e)
}

func checkName(e *fault.Error, path, name string) {
	if err := spec.CheckName(path, name); err != nil {
		e.Fields = append(e.Fields, fault.From(err).Fields...)
	}
}

func checkJSON(e *fault.Error, path, text string) {
	checkText(e, path, text, MaxManagedText)
	if text != "" && !json.Valid([]byte(text)) {
		e.WithField(path, "is not JSON")
	}
}

// checkRuntimeClass holds a class of the runner to the rules of the field of the spec that it becomes.
func checkRuntimeClass(e *fault.Error, path, class string) {
	if class == "" {
		return
	}
	if _, err := spec.FromMessage(&specpb.ProfileSpec{RuntimeClass: &class}); err != nil {
		for _, f := range fault.From(err).Fields {
			e.WithField(path, "%s", f.Description)
		}
	}
}
