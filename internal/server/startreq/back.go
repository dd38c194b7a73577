package startreq

import (
	specpb "github.com/bermhq/berm/gen/berm/spec"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
)

// Request returns a request that asks for the launch. Amounts always come as the pair of requests and limits, which is what
// `resources` stands for; what a launch holds by name alone cannot be given back.
func Request(l *specpb.Launch) *v1beta2pb.StartSandboxRequest {
	r := &v1beta2pb.StartSandboxRequest{
		Command: l.GetCommand(), Args: l.GetArgs(), Tags: l.GetTags(), ContainerImage: l.GetContainerImage(),
		EnvironmentVariables: l.GetEnvironmentVariables(), PodAnnotations: l.GetPodAnnotations(),
		ProfileIds: l.GetProfileIds(), ProfileNames: l.GetProfileNames(), RunnerIds: l.GetRunnerIds(),
		MaxLifetimeSeconds: l.GetMaxLifetimeSeconds(), Idle: l.GetIdle(), LeaseId: l.GetLeaseId(), Purpose: l.GetPurpose(),
	}
	if l.GetEgressMode() != "" || l.GetIngressMode() != "" || len(l.GetExposedPorts()) > 0 {
		r.Network = &v1beta2pb.NetworkOptions{EgressMode: l.GetEgressMode(), IngressMode: l.GetIngressMode(), ExposedPorts: l.GetExposedPorts()}
	}
	if l.GetResourceLimits() != nil || l.GetResourceRequests() != nil {
		r.ResourceLimits, r.ResourceRequests = resources(l.GetResourceLimits()), resources(l.GetResourceRequests())
	}
	for _, p := range l.GetPorts() {
		r.Ports = append(r.Ports, &v1beta2pb.Port{ContainerPort: p.GetContainerPort(), Name: p.GetName(), Protocol: p.GetProtocol()})
	}
	for _, f := range l.GetMountedFiles() {
		r.MountedFiles = append(r.MountedFiles, &v1beta2pb.MountedFile{MountPath: f.GetPath(), FileContent: f.GetContent()})
	}
	for _, use := range l.GetSecretStores() {
		ref := &v1beta2pb.SecretStoreReference{StoreName: use.GetStoreName()}
		for _, s := range use.GetSecrets() {
			ref.Secrets = append(ref.Secrets, &v1beta2pb.SecretMapping{Path: s.GetPath(), Field: s.GetField(), EnvVar: s.GetEnvVar()})
		}
		r.SecretStores = append(r.SecretStores, ref)
	}
	return r
}

// resources returns amounts on the wire; never nil, since the pair goes together.
func resources(a *specpb.ResourceAmounts) *v1beta2pb.ResourceRequest {
	r := &v1beta2pb.ResourceRequest{Cpu: a.GetCpu(), Memory: a.GetMemory()}
	g := a.GetGpu()
	if g == nil {
		return r
	}
	r.Gpu = &v1beta2pb.GpuRequest{GpuCount: g.GetCount()}
	switch {
	case g.GetType() != "":
		r.Gpu.Spec = &v1beta2pb.GpuRequest_GpuType{GpuType: g.GetType()}
	case g.GetMemoryGb() != 0:
		r.Gpu.Spec = &v1beta2pb.GpuRequest_GpuMemoryGb{GpuMemoryGb: g.GetMemoryGb()}
	}
	return r
}
