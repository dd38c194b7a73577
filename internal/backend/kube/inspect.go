package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// defaultAccount is the service account of pods that name none.
const defaultAccount = "default"

// inspector collects findings in the order of the pod's fields.
type inspector struct{ found []Finding }

func (i *inspector) add(bad bool, path, format string, args ...any) {
	if bad {
		i.found = append(i.found, Finding{Path: fragmentPath + "." + path, What: fmt.Sprintf(format, args...)})
	}
}

// inspect returns everything in a pod that a plain sandbox does not have. It covers the baseline of Kubernetes' Pod Security
// Standards, and beyond it service accounts, their tokens, and all sysctls.
func inspect(pod *corev1.PodSpec) []Finding {
	i := &inspector{}
	i.add(pod.HostNetwork, "hostNetwork", "the pod would be in the network of its node")
	i.add(pod.HostPID, "hostPID", "the pod would see the processes of its node")
	i.add(pod.HostIPC, "hostIPC", "the pod would share memory with its node")
	i.add(pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken, "automountServiceAccountToken", "the pod would have a token of the API server")
	const account = "the pod would have the pull secrets of account %q, and what the cluster and its cloud give it"
	i.add(pod.ServiceAccountName != "" && pod.ServiceAccountName != defaultAccount, "serviceAccountName", account, pod.ServiceAccountName)
	i.add(pod.DeprecatedServiceAccount != "" && pod.DeprecatedServiceAccount != defaultAccount, "serviceAccount", account, pod.DeprecatedServiceAccount)
	i.podContext(pod.SecurityContext)
	for _, v := range pod.Volumes {
		i.volume(v)
	}
	for n := range pod.InitContainers {
		i.container("initContainers", &pod.InitContainers[n])
	}
	for n := range pod.Containers {
		i.container("containers", &pod.Containers[n])
	}
	for _, c := range pod.EphemeralContainers {
		i.add(true, "ephemeralContainers["+c.Name+"]", "a debug container would join the pod")
	}
	return i.found
}

func (i *inspector) podContext(s *corev1.PodSecurityContext) {
	if s == nil {
		return
	}
	i.add(len(s.Sysctls) > 0, "securityContext.sysctls", "the pod would change kernel parameters")
	i.confinement("securityContext", s.SeccompProfile, s.AppArmorProfile, s.SELinuxOptions, s.WindowsOptions)
}

func (i *inspector) volume(v corev1.Volume) {
	path := "volumes[" + v.Name + "]"
	if v.HostPath != nil {
		i.add(true, path+".hostPath", "the pod would mount %q of its node", v.HostPath.Path)
	}
	if v.Projected != nil {
		for _, s := range v.Projected.Sources {
			i.add(s.ServiceAccountToken != nil, path+".projected.serviceAccountToken", "the pod would have a token of the API server")
		}
	}
}

func (i *inspector) container(list string, c *corev1.Container) {
	path := list + "[" + c.Name + "]"
	for _, p := range c.Ports {
		i.add(p.HostPort != 0 || p.HostIP != "", fmt.Sprintf("%s.ports[%d].hostPort", path, p.ContainerPort), "the pod would listen on its node")
	}
	i.probes(path, c)
	s := c.SecurityContext
	if s == nil {
		return
	}
	path += ".securityContext"
	i.add(s.Privileged != nil && *s.Privileged, path+".privileged", "the container would have all rights on its node")
	i.add(s.ProcMount != nil && *s.ProcMount != corev1.DefaultProcMount, path+".procMount", "the container would see an unmasked /proc")
	if s.Capabilities != nil {
		for _, add := range s.Capabilities.Add {
			i.add(!usual(add), path+".capabilities.add["+string(add)+"]", "the container would gain a capability")
		}
	}
	i.confinement(path, s.SeccompProfile, s.AppArmorProfile, s.SELinuxOptions, s.WindowsOptions)
}

// confinement looks for what takes the kernel's confinement of a process away.
func (i *inspector) confinement(path string, sec *corev1.SeccompProfile, arm *corev1.AppArmorProfile, se *corev1.SELinuxOptions, win *corev1.WindowsSecurityContextOptions) {
	i.add(sec != nil && sec.Type == corev1.SeccompProfileTypeUnconfined, path+".seccompProfile", "no system call would be filtered")
	i.add(arm != nil && arm.Type == corev1.AppArmorProfileTypeUnconfined, path+".appArmorProfile", "AppArmor would be off")
	i.add(se != nil && (se.User != "" || se.Role != "" || !usualSELinux(se.Type)), path+".seLinuxOptions", "SELinux would treat it as something else than a container")
	i.add(win != nil && win.HostProcess != nil && *win.HostProcess, path+".windowsOptions.hostProcess", "it would run on its node, outside of any container")
}

// probes looks for hosts in probes and hooks: the kubelet, not the pod, connects to them.
func (i *inspector) probes(path string, c *corev1.Container) {
	const what = "the node would connect to a host of the profile's choice"
	probe := func(name string, p *corev1.Probe) {
		i.add(p != nil && hasHost(p.HTTPGet, p.TCPSocket), path+"."+name, what)
	}
	probe("livenessProbe", c.LivenessProbe)
	probe("readinessProbe", c.ReadinessProbe)
	probe("startupProbe", c.StartupProbe)
	if l := c.Lifecycle; l != nil {
		i.add(l.PostStart != nil && hasHost(l.PostStart.HTTPGet, l.PostStart.TCPSocket), path+".lifecycle.postStart", what)
		i.add(l.PreStop != nil && hasHost(l.PreStop.HTTPGet, l.PreStop.TCPSocket), path+".lifecycle.preStop", what)
	}
}

func hasHost(get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) bool {
	return get != nil && get.Host != "" || tcp != nil && tcp.Host != ""
}

// usual reports a capability that containers have by default: to add it, after dropping all, gives nothing new.
func usual(c corev1.Capability) bool {
	switch c {
	case "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT":
		return true
	}
	return false
}

func usualSELinux(t string) bool {
	switch t {
	case "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t":
		return true
	}
	return false
}
