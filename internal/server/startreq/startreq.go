// Package startreq converts the published launch request to the core's and back.
//
// Every field of StartSandboxRequest has a row below that says where it goes; a test fails for a field without one. Fields
// that this build has no backend for go into the launch by name, so that the refusal names them: nothing that a caller asks
// for is dropped.
package startreq

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core/fault"
)

// target says what a field of the request is for.
type target int

const (
	// layer fields are layer 4: they touch the resolved spec.
	layer target = iota + 1
	// sandbox fields concern the sandbox alone and never touch the spec.
	sandbox
	// placement fields choose runner and binding.
	placement
	// call fields are about the call itself.
	call
	// unsupported fields have no backend yet.
	unsupported
)

// row is the conversion of one field.
type row struct {
	field protoreflect.Name
	to    target
	// set writes the field into the launch. nil for call and unsupported fields.
	set func(r *v1beta2pb.StartSandboxRequest, l *specpb.Launch)
}

func rows() []row {
	type (
		req = v1beta2pb.StartSandboxRequest
		out = specpb.Launch
	)
	return []row{
		{"command", sandbox, func(r *req, l *out) { l.Command = r.GetCommand() }},
		{"args", sandbox, func(r *req, l *out) { l.Args = r.GetArgs() }},
		{"tags", sandbox, func(r *req, l *out) { l.Tags = r.GetTags() }},
		// Not looked at when one of the pair is given, as the published interface says.
		{"resources", layer, func(r *req, l *out) {
			if r.GetResourceLimits() == nil && r.GetResourceRequests() == nil {
				l.ResourceRequests, l.ResourceLimits = amounts(r.GetResources()), amounts(r.GetResources())
			}
		}},
		{"container_image", layer, func(r *req, l *out) { l.ContainerImage = r.GetContainerImage() }},
		{"environment_variables", sandbox, func(r *req, l *out) { l.EnvironmentVariables = r.GetEnvironmentVariables() }},
		{"ports", sandbox, func(r *req, l *out) { l.Ports = ports(r.GetPorts()) }},
		{"mounted_files", sandbox, func(r *req, l *out) { l.MountedFiles = files(r.GetMountedFiles()) }},
		{"s3_mount", unsupported, nil},
		{"network", layer, func(r *req, l *out) {
			n := r.GetNetwork()
			l.EgressMode, l.IngressMode, l.ExposedPorts = n.GetEgressMode(), n.GetIngressMode(), n.GetExposedPorts()
		}},
		{"file_system", unsupported, nil},
		{"profile_ids", placement, func(r *req, l *out) { l.ProfileIds = r.GetProfileIds() }},
		{"runner_ids", placement, func(r *req, l *out) { l.RunnerIds = r.GetRunnerIds() }},
		{"max_lifetime_seconds", sandbox, func(r *req, l *out) { l.MaxLifetimeSeconds = r.GetMaxLifetimeSeconds() }},
		{"max_timeout_seconds", call, nil},
		{"runner_cluster_secrets", unsupported, nil},
		{"object_storage_access", unsupported, nil},
		{"pod_annotations", layer, func(r *req, l *out) { l.PodAnnotations = r.GetPodAnnotations() }},
		{"secret_stores", sandbox, func(r *req, l *out) { l.SecretStores = secrets(r.GetSecretStores()) }},
		{"resource_limits", layer, func(r *req, l *out) {
			if r.GetResourceLimits() != nil {
				l.ResourceLimits = amounts(r.GetResourceLimits())
			}
		}},
		{"resource_requests", layer, func(r *req, l *out) {
			if r.GetResourceRequests() != nil {
				l.ResourceRequests = amounts(r.GetResourceRequests())
			}
		}},
		{"profile_names", placement, func(r *req, l *out) { l.ProfileNames = r.GetProfileNames() }},
		{"volumes", unsupported, nil},
		{"lease_id", sandbox, func(r *req, l *out) { l.LeaseId = r.GetLeaseId() }},
		{"purpose", sandbox, func(r *req, l *out) { l.Purpose = r.GetPurpose() }},
		{"idle", sandbox, func(r *req, l *out) { l.Idle = r.GetIdle() }},
	}
}

// Table is the conversion, made once.
type Table struct{ rows []row }

// NewTable returns the table.
func NewTable() *Table { return &Table{rows: rows()} }

// Launch returns the launch that a request asks for. The error is an Invalid fault for what contradicts itself on the wire;
// everything else is checked by the core.
func (t *Table) Launch(r *v1beta2pb.StartSandboxRequest) (*specpb.Launch, error) {
	if (r.GetResourceLimits() == nil) != (r.GetResourceRequests() == nil) {
		missing, given := "resource_requests", "resource_limits"
		if r.GetResourceLimits() == nil {
			missing, given = given, missing
		}
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "invalid launch request").
			WithField(missing, "goes together with %s; or give resources, which sets both", given)
	}
	l := &specpb.Launch{}
	m := r.ProtoReflect()
	fields := m.Descriptor().Fields()
	for _, row := range t.rows {
		switch {
		case row.set != nil:
			row.set(r, l)
		case row.to == unsupported && m.Has(fields.ByName(row.field)):
			l.Unsupported = append(l.Unsupported, string(row.field))
		}
	}
	return l, nil
}

func amounts(r *v1beta2pb.ResourceRequest) *specpb.ResourceAmounts {
	if r == nil {
		return nil
	}
	a := &specpb.ResourceAmounts{Cpu: r.GetCpu(), Memory: r.GetMemory()}
	if g := r.GetGpu(); g != nil {
		a.Gpu = &specpb.Gpu{Count: g.GetGpuCount(), Type: g.GetGpuType(), MemoryGb: g.GetGpuMemoryGb()}
	}
	return a
}

func ports(in []*v1beta2pb.Port) []*specpb.Port {
	var out []*specpb.Port
	for _, p := range in {
		out = append(out, &specpb.Port{ContainerPort: p.GetContainerPort(), Name: p.GetName(), Protocol: p.GetProtocol()})
	}
	return out
}

func secrets(in []*v1beta2pb.SecretStoreReference) []*specpb.SecretStoreUse {
	var out []*specpb.SecretStoreUse
	for _, ref := range in {
		use := &specpb.SecretStoreUse{StoreName: ref.GetStoreName()}
		for _, s := range ref.GetSecrets() {
			use.Secrets = append(use.Secrets, &specpb.SecretUse{Path: s.GetPath(), Field: s.GetField(), EnvVar: s.GetEnvVar()})
		}
		out = append(out, use)
	}
	return out
}

func files(in []*v1beta2pb.MountedFile) []*specpb.MountedFile {
	var out []*specpb.MountedFile
	for _, f := range in {
		out = append(out, &specpb.MountedFile{Path: f.GetMountPath(), Content: f.GetFileContent()})
	}
	return out
}
