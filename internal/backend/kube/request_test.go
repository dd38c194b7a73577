package kube_test

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/kube"
)

// anyRequest generates requests. Each field is mostly sane, so that pods come of them, and sometimes hostile.
func anyRequest(t *rapid.T) *specpb.Launch {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"true", "{}", "main", "", "$(A)", "$$", "hostNetwork", "/proc/1/root", "../../etc", "berm-files", `{"privileged":true}`, "\x00", "a: b\n",
	}))
	return &specpb.Launch{
		Command: mostly(t, "command", text, "true", "sh"), Args: rapid.SliceOfN(text, 0, 3).Draw(t, "args"),
		EnvironmentVariables: rapid.MapOfN(text, text, 0, 3).Draw(t, "env"),
		MountedFiles: rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) *specpb.MountedFile {
			return &specpb.MountedFile{Path: mostly(t, "path", text, "/a", "/proc/sys", "/var/run/secrets/kubernetes.io/serviceaccount/token", "/dev/shm"), Content: []byte(text.Draw(t, "content"))}
		}), 0, 3, (*specpb.MountedFile).GetPath).Draw(t, "files"),
		Ports: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *specpb.Port {
			return &specpb.Port{ContainerPort: rapid.Int32().Draw(t, "port"), Name: text.Draw(t, "name"), Protocol: text.Draw(t, "protocol")}
		}), 0, 3).Draw(t, "ports"),
		Tags: rapid.SliceOfN(text, 0, 2).Draw(t, "tags"),
		PodAnnotations: rapid.MapOfN(rapid.Custom(func(t *rapid.T) string {
			return mostly(t, "key", rapid.SampledFrom(hostileKeys), "note.example/a", "plain")
		}), text, 0, 2).
			Draw(t, "annotations"),
		MaxLifetimeSeconds: rapid.Int32().Draw(t, "lifetime"), EgressMode: text.Draw(t, "egress"), IngressMode: mostly(t, "ingress", text, "", "main"),
		ContainerImage: mostly(t, "image", text, "python:3.11", "evil@sha256:0"),
		ResourceLimits: &specpb.ResourceAmounts{Cpu: "2", Gpu: &specpb.Gpu{
			Count: rapid.Int64Range(0, 9).Draw(t, "gpus"), Type: text.Draw(t, "gpu"), MemoryGb: rapid.Int64Range(-1, 1<<21).Draw(t, "gb"),
		}},
		ResourceRequests: &specpb.ResourceAmounts{Cpu: mostly(t, "cpu", text, "", "1", "100m")},
		ProfileNames:     []string{text.Draw(t, "profile")},
		ExposedPorts:     rapid.SliceOfN(rapid.Int32(), 0, 1).Draw(t, "exposed"),
	}
}

var hostileKeys = []string{
	"berm.dev/sandbox-id", "x.berm.dev/y", "sandbox.coreweave.com/sandbox-id", "kubernetes.io/psp", "container.apparmor.security.beta.kubernetes.io/main",
	"seccomp.security.alpha.kubernetes.io/pod", "io.katacontainers.config.hypervisor.path", "run.oci.keep_original_groups", "k8s.v1.cni.cncf.io/networks",
	"IO.Containerd.X", "Kubernetes.IO/x",
}

// mostly draws one of the sane values, and in one of eight cases anything.
func mostly(t *rapid.T, label string, anything *rapid.Generator[string], sane ...string) string {
	if rapid.IntRange(0, 7).Draw(t, label+" hostile") == 0 {
		return anything.Draw(t, label)
	}
	return rapid.SampledFrom(sane).Draw(t, label)
}

// overlay puts into the spec what layer 4 may change of it.
func overlay(in *kube.PodInput, l *specpb.Launch) {
	in.Launch, in.LifetimeSeconds = l, l.MaxLifetimeSeconds
	in.Spec.ContainerImage = &l.ContainerImage
	in.Spec.ResourceDefaults = &specpb.ResourceDefaults{CpuRequest: &l.ResourceRequests.Cpu, CpuLimit: &l.ResourceLimits.Cpu, Gpu: l.ResourceLimits.Gpu}
	in.Spec.Network = &specpb.Network{Egress: &specpb.Egress{Selected: &l.EgressMode}, Ingress: &specpb.Ingress{Selected: &l.IngressMode, Modes: map[string]*specpb.IngressMode{"main": {}}}}
	if in.Spec.Pod == nil {
		in.Spec.Pod = &specpb.Pod{}
	}
	if in.Spec.Pod.Metadata == nil {
		in.Spec.Pod.Metadata = &specpb.PodMetadata{}
	}
	if in.Spec.Pod.Metadata.Annotations == nil {
		in.Spec.Pod.Metadata.Annotations = map[string]string{}
	}
	maps.Copy(in.Spec.Pod.Metadata.Annotations, l.PodAnnotations)
}

// TestNothingInARequestIsPrivileged: whatever a request says, and whatever the runner would allow a profile, the pod has
// nothing that a plain sandbox does not have, it belongs to whom it belonged, and outside of what requests are for it is
// the pod of the empty request.
func TestNothingInARequestIsPrivileged(t *testing.T) {
	built := 0
	rapid.Check(t, func(t *rapid.T) {
		in := plain()
		in.Options.AllowPrivileged = rapid.Bool().Draw(t, "allowed")
		quiet := plain()
		overlay(&quiet, &specpb.Launch{Command: "true", ContainerImage: "python:3.11", ResourceLimits: &specpb.ResourceAmounts{}, ResourceRequests: &specpb.ResourceAmounts{}})
		want, err := kube.PodFor(quiet)
		if err != nil {
			t.Fatal(err)
		}
		overlay(&in, anyRequest(t))
		pod, err := kube.PodFor(in)
		if err != nil {
			return
		}
		built++
		if found := kube.Recheck(pod, kube.Carried{}); len(found) > 0 {
			t.Fatalf("the request gave the pod %v", found)
		}
		if diff := cmp.Diff(want.Labels, pod.Labels); diff != "" {
			t.Fatalf("the request changed whose the pod is:\n%s", diff)
		}
		if pod.Annotations[kube.AnnotationDigest] != want.Annotations[kube.AnnotationDigest] {
			t.Fatalf("the request changed the digest")
		}
		if diff := cmp.Diff(stripped(want), stripped(pod)); diff != "" {
			t.Fatalf("the request changed what is not its own:\n%s", diff)
		}
	})
	if built < 10 {
		t.Errorf("only %d requests made a pod: the property was hardly tried", built)
	}
}

// stripped returns the pod without what a request is for.
func stripped(pod *corev1.Pod) *corev1.PodSpec {
	s := pod.Spec.DeepCopy()
	c := &s.Containers[0]
	c.Image, c.Command, c.Args, c.Env, c.Ports, c.VolumeMounts, c.Resources = "", nil, nil, nil, nil, nil, corev1.ResourceRequirements{}
	s.InitContainers[0].Resources = corev1.ResourceRequirements{}
	s.Volumes, s.ActiveDeadlineSeconds, s.Affinity = nil, nil, nil
	return s
}
