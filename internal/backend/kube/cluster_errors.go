package kube

import (
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// isQuota reports a refusal for want of quota, which has no reason of its own.
func isQuota(s *metav1.Status) bool {
	return s.Code == http.StatusForbidden && strings.Contains(s.Message, "exceeded quota")
}

// isPodSecurity reports a refusal by the Pod Security level of the namespace, whose words say what would pass.
func isPodSecurity(s *metav1.Status) bool {
	return s.Code == http.StatusForbidden && strings.Contains(s.Message, "violates PodSecurity")
}

// isUnauthorized reports that the account may not do this at all, as opposed to what admission refuses of one object.
func isUnauthorized(s *metav1.Status) bool {
	return s.Code == http.StatusForbidden && strings.Contains(s.Message, " cannot ")
}

// isTerminating reports that the namespace is going away.
func isTerminating(s *metav1.Status) bool {
	if s.Details != nil {
		for _, c := range s.Details.Causes {
			if c.Type == corev1.NamespaceTerminatingCause {
				return true
			}
		}
	}
	return false
}

// isAccountMissing reports that the namespace has no service account, yet.
func isAccountMissing(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "error looking up service account")
}
