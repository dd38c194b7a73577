package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/core/fault"
)

// ClusterUID identifies the cluster of a configuration: the UID of its namespace kube-system, which no two clusters share and which
// lasts as long as the cluster does.
func ClusterUID(ctx context.Context, cfg Config) (string, error) {
	rc, err := cfg.restConfig()
	if err != nil {
		return "", err
	}
	c, err := newCluster(rc)
	if err != nil {
		return "", unusable(cfg.RunnerName, err)
	}
	uid, err := c.uid(ctx)
	if apierrors.IsForbidden(err) {
		return "", fault.Preconditionf(fault.ReasonClusterForbidden, "the account of the runner may not see which cluster this is: %v", err).
			WithHint("let it get the namespace %s (docs/kubernetes.md, permissions)", metav1.NamespaceSystem)
	}
	if err != nil {
		return "", translate(cfg.RunnerName, err, "say which one it is", "namespace")
	}
	return uid, nil
}

func (c *cluster) uid(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var ns corev1.Namespace
	err := c.core.Get().Resource("namespaces").Name(metav1.NamespaceSystem).Do(ctx).Into(&ns)
	return string(ns.UID), err
}
