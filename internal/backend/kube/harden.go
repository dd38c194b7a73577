package kube

import corev1 "k8s.io/api/core/v1"

// harden fills in the security defaults that neither the request can reach nor the fragment has set. They come after the
// merge, so that extra containers have them too and a fragment that makes a container privileged stays a valid pod.
func harden(pod *corev1.PodSpec) {
	if pod.AutomountServiceAccountToken == nil {
		pod.AutomountServiceAccountToken = new(false)
	}
	if pod.EnableServiceLinks == nil {
		pod.EnableServiceLinks = new(false)
	}
	if pod.SecurityContext == nil {
		pod.SecurityContext = &corev1.PodSecurityContext{}
	}
	if pod.SecurityContext.SeccompProfile == nil {
		pod.SecurityContext.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	}
	for i := range pod.InitContainers {
		noEscalation(&pod.InitContainers[i])
	}
	for i := range pod.Containers {
		noEscalation(&pod.Containers[i])
	}
}

// noEscalation forbids a container to gain rights, unless it has them all: Kubernetes refuses that contradiction.
func noEscalation(c *corev1.Container) {
	if c.SecurityContext == nil {
		c.SecurityContext = &corev1.SecurityContext{}
	}
	s := c.SecurityContext
	if s.AllowPrivilegeEscalation != nil || s.Privileged != nil && *s.Privileged {
		return
	}
	if s.Capabilities != nil {
		for _, add := range s.Capabilities.Add {
			if add == "SYS_ADMIN" || add == "CAP_SYS_ADMIN" {
				return
			}
		}
	}
	s.AllowPrivilegeEscalation = new(false)
}
