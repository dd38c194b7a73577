package kube

import (
	"context"
	"strings"

	authv1 "k8s.io/api/authorization/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// permission is what the account must be allowed to do with a resource in all namespaces.
type permission struct {
	group, resource, sub string
	verbs                []string
}

// needed is what nothing runs without. What only some launches need, Secrets and namespaces, is not: the API server says so at theirs.
func needed(n Network) []permission {
	out := []permission{
		{resource: "pods", verbs: []string{"list", "watch", "create", "patch", "delete"}},
		{resource: "pods", sub: "exec", verbs: []string{"get", "create"}},
		{resource: "pods", sub: "log", verbs: []string{"get"}},
		{resource: "nodes", verbs: []string{"list", "watch"}},
	}
	if n.Policies() {
		out = append(out, permission{group: networkingv1.GroupName, resource: policies, verbs: []string{"create", "patch", "delete"}})
	}
	return out
}

// missing asks the API server which of the permissions that are needed the account lacks: "create pods/exec". An API server that does not
// tell is not asked again.
func (b *Backend) missing(ctx context.Context) ([]string, error) {
	var out []string
	for _, p := range needed(b.cfg.Options.Network) {
		what := strings.TrimSuffix(p.resource+"/"+p.sub, "/")
		for _, verb := range p.verbs {
			review := &authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authv1.ResourceAttributes{Verb: verb, Group: p.group, Resource: p.resource, Subresource: p.sub, Namespace: metav1.NamespaceAll},
			}}
			answer := &authv1.SelfSubjectAccessReview{}
			asking, cancel := context.WithTimeout(ctx, callTimeout)
			err := b.cluster.auth.Post().Resource("selfsubjectaccessreviews").Body(review).Do(asking).Into(answer)
			cancel()
			if err != nil {
				return nil, err
			}
			if !answer.Status.Allowed {
				out = append(out, verb+" "+what)
			}
		}
	}
	return out, nil
}
