package kube_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/guard"
)

// TestRecheckFinds gives Recheck pods that nobody of ours built, each with one dangerous thing.
func TestRecheckFinds(t *testing.T) {
	no, yes, unmasked := false, true, corev1.UnmaskedProcMount
	context := func(p *corev1.Pod) *corev1.SecurityContext {
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{}
		return p.Spec.Containers[0].SecurityContext
	}
	for path, change := range map[string]func(*corev1.Pod){
		"pod.spec.hostNetwork": func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"pod.spec.hostPID":     func(p *corev1.Pod) { p.Spec.HostPID = true },
		"pod.spec.hostIPC":     func(p *corev1.Pod) { p.Spec.HostIPC = true },
		"pod.spec.automountServiceAccountToken": func(p *corev1.Pod) {
			p.Spec.AutomountServiceAccountToken = nil
		},
		"pod.spec.securityContext.sysctls": func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.msgmax", Value: "1"}}}
		},
		"pod.spec.securityContext.appArmorProfile": func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}}
		},
		"pod.spec.securityContext.windowsOptions.hostProcess": func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{HostProcess: &yes}}
		},
		"pod.spec.volumes[v].hostPath": func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc"}}}}
		},
		"pod.spec.volumes[v].projected.serviceAccountToken": func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "t"}}},
			}}}}
		},
		"pod.spec.containers[main].securityContext.privileged": func(p *corev1.Pod) { context(p).Privileged = &yes },
		"pod.spec.containers[main].securityContext.procMount":  func(p *corev1.Pod) { context(p).ProcMount = &unmasked },
		"pod.spec.containers[main].securityContext.capabilities.add[NET_RAW]": func(p *corev1.Pod) {
			context(p).Capabilities = &corev1.Capabilities{Add: []corev1.Capability{"CHOWN", "NET_RAW"}}
		},
		"pod.spec.containers[main].securityContext.seccompProfile": func(p *corev1.Pod) {
			context(p).SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
		},
		"pod.spec.containers[main].securityContext.seLinuxOptions": func(p *corev1.Pod) {
			context(p).SELinuxOptions = &corev1.SELinuxOptions{Type: "spc_t"}
		},
		"pod.spec.containers[main].ports[80].hostPort": func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
		},
		"pod.spec.containers[main].livenessProbe": func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Host: "10.0.0.1"}}}
		},
		"pod.spec.containers[main].lifecycle.preStop": func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Host: "10.0.0.1"}}}
		},
		"pod.spec.initContainers[setup].securityContext.privileged": func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "setup", SecurityContext: &corev1.SecurityContext{Privileged: &yes}}}
		},
		"pod.spec.ephemeralContainers[debug]": func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}}
		},
		"pod.metadata.annotations[run.oci.keep_original_groups]": func(p *corev1.Pod) {
			p.Annotations = map[string]string{"run.oci.keep_original_groups": "1", "app.kubernetes.io/name": "x"}
		},
		"pod.metadata.labels[sidecar.istio.io/inject]": func(p *corev1.Pod) {
			p.Labels = map[string]string{"sidecar.istio.io/inject": "true", kube.LabelOrg: "x", kube.VendorLabelOrg: "x"}
		},
	} {
		t.Run(path, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{AutomountServiceAccountToken: &no, Containers: []corev1.Container{{Name: kube.MainContainer}}}}
			if found := kube.Recheck(pod, kube.Carried{}); len(found) != 0 {
				t.Fatalf("a plain pod has %v", found)
			}
			change(pod)
			found := kube.Recheck(pod, kube.Carried{})
			if len(found) != 1 || found[0].Path != path || found[0].What == "" || found[0].Carried {
				t.Fatalf("found %+v, want %s alone", found, path)
			}
		})
	}
}

// TestCarriedNeedsPermission: what a profile carries passes only where the runner allows it, and nothing else passes with it.
func TestCarriedNeedsPermission(t *testing.T) {
	in := plain()
	decode(t, []byte("container_image: x\npod: {spec: {hostNetwork: true}, metadata: {annotations: {a.k8s.io/b: c, d.k8s.io/e: f}}}"), in.Spec)
	// The resolved annotations hold the request's too.
	in.Launch.PodAnnotations = map[string]string{"d.k8s.io/e": "f"}
	no := false
	pod := &corev1.Pod{Spec: corev1.PodSpec{HostNetwork: true, HostPID: true, AutomountServiceAccountToken: &no}}
	pod.Annotations = in.Spec.GetPod().GetMetadata().GetAnnotations()
	const none = "pod.metadata.annotations[a.k8s.io/b]=true pod.metadata.annotations[d.k8s.io/e]=false pod.spec.hostNetwork=true pod.spec.hostPID=false"
	type words struct{ owner, runner bool }
	for allowed, want := range map[words]string{
		{}: none, {owner: true}: none, {runner: true}: none,
		{true, true}: "pod.metadata.annotations[d.k8s.io/e]=false pod.spec.hostPID=false",
	} {
		in.Options.AllowPrivileged, in.Privileged = allowed.owner, allowed.runner
		carried, err := kube.CarriedBy(in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range kube.Recheck(pod, carried) {
			got = append(got, f.Path+"="+map[bool]string{true: "true", false: "false"}[f.Carried])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("allowed=%v: got %s, want %s", allowed, strings.Join(got, " "), want)
		}
	}
}

func TestCheckCarried(t *testing.T) {
	spec := &specpb.ProfileSpec{}
	decode(t, []byte(`{pod: {metadata: {labels: {team: ml, app.kubernetes.io/name: x}, annotations: {k8s.v1.cni.cncf.io/networks: other}},
		spec: {automountServiceAccountToken: false, hostPID: false, containers: [{name: "", securityContext: {privileged: true}}]}}}`), spec)
	var got []string
	for _, v := range kube.CheckCarried(spec) {
		if v.Message == "" || v.Reason != guard.ReasonUnresolvable {
			t.Errorf("%+v", v)
		}
		got = append(got, v.Path)
	}
	want := []string{"pod.metadata.annotations[k8s.v1.cni.cncf.io/networks]", "pod.spec.containers[main].securityContext.privileged"}
	if !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	if found := kube.CheckCarried(&specpb.ProfileSpec{}); len(found) != 0 {
		t.Errorf("no pod block has %+v", found)
	}
}
