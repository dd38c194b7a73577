package kube

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// ResourceGPU is the resource that the device plugin of the GPUs' maker offers.
const ResourceGPU corev1.ResourceName = "nvidia.com/gpu"

// mainContainer returns the container that runs the request's command.
func mainContainer(in PodInput, f *files) (*corev1.Container, error) {
	image := in.Spec.GetContainerImage()
	if err := checkImage(image); err != nil {
		return nil, err
	}
	resources, err := resourcesFor(in.Spec.GetResourceDefaults())
	if err != nil {
		return nil, err
	}
	c := &corev1.Container{
		Name: MainContainer, Image: image, Resources: resources,
		Env: append(envFor(in.Launch.GetEnvironmentVariables()), f.env...), Ports: portsFor(in.Launch.GetPorts()), VolumeMounts: f.mounts,
	}
	return c, nil
}

// resourcesFor returns requests and limits. The amounts are exactly those of the spec; Kubernetes prints them in its own
// canonical form ("0.5" as 500m). GPUs cannot be overcommitted, so that their limit is their request.
func resourcesFor(r *specpb.ResourceDefaults) (corev1.ResourceRequirements, error) {
	var p tree.Problems
	out := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	quantity := func(list corev1.ResourceList, name corev1.ResourceName, field, text string) {
		if text == "" {
			return
		}
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() < 0 {
			p.Add(nil, "resource_defaults."+field, "%q is no amount of %s", text, name)
			return
		}
		list[name] = q
	}
	quantity(out.Requests, corev1.ResourceCPU, "cpu_request", r.GetCpuRequest())
	quantity(out.Requests, corev1.ResourceMemory, "memory_request", r.GetMemoryRequest())
	quantity(out.Limits, corev1.ResourceCPU, "cpu_limit", r.GetCpuLimit())
	quantity(out.Limits, corev1.ResourceMemory, "memory_limit", r.GetMemoryLimit())
	quantity(out.Limits, corev1.ResourceEphemeralStorage, "ephemeral_storage_limit", r.GetEphemeralStorageLimit())
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := out.Requests[name], out.Limits[name]
		if _, limited := out.Limits[name]; limited && request.Cmp(limit) > 0 {
			p.Add(nil, "resource_defaults."+string(name)+"_request", "%s is above %[3]s_limit, %[2]s", request.String(), limit.String(), name)
		}
	}
	switch n := r.GetGpu().GetCount(); {
	case n < 0:
		p.Add(nil, "resource_defaults.gpu.count", "%d is negative", n)
	case n > 0:
		out.Requests[ResourceGPU] = *resource.NewQuantity(n, resource.DecimalSI)
		out.Limits[ResourceGPU] = *resource.NewQuantity(n, resource.DecimalSI)
	}
	return out, p.Err("the sandbox's resources make no pod")
}

func envFor(env map[string]string) []corev1.EnvVar {
	var out []corev1.EnvVar
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, corev1.EnvVar{Name: name, Value: literal(env[name])})
	}
	return out
}

func portsFor(ports []*specpb.Port) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for _, p := range ports {
		out = append(out, corev1.ContainerPort{
			Name: p.GetName(), ContainerPort: p.GetContainerPort(), Protocol: corev1.Protocol(either(p.GetProtocol(), "TCP")),
		})
	}
	return out
}

// literal escapes text against the kubelet, which replaces $(NAME) by a variable and $$ by $ in commands, arguments and
// environment values: without it `sh -c 'kill $$'` would run `kill $`. A lone $ that opens no parenthesis means itself.
func literal(s string) string {
	if !strings.Contains(s, "$$") && !strings.Contains(s, "$(") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		run := len(s[i:]) - len(strings.TrimLeft(s[i:], "$"))
		if run == 0 {
			b.WriteByte(s[i])
			i++
			continue
		}
		i += run
		if run > 1 || i < len(s) && s[i] == '(' {
			run *= 2
		}
		b.WriteString(strings.Repeat("$", run))
	}
	return b.String()
}
