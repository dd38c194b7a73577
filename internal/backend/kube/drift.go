package kube

import (
	"context"
	"encoding/json"

	"k8s.io/apimachinery/pkg/fields"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// Drift compares the pod that was submitted with the one that the API server holds.
func (b *Backend) Drift(ctx context.Context, id string, submitted json.RawMessage) (*backend.Drift, error) {
	s, err := b.get(id)
	if err != nil {
		return nil, err
	}
	var given map[string]any
	if err := json.Unmarshal(submitted, &given); err != nil {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "what was submitted of sandbox %s is no object", id).WithCause(err)
	}
	held, err := b.heldPod(ctx, s)
	if err != nil {
		return nil, err
	}
	c := comparePods(given, held)
	meta, _ := held["metadata"].(map[string]any)
	annotations, _ := meta["annotations"].(map[string]any)
	packed, _ := annotations[AnnotationWanted].(string)
	if err := b.compareNamespace(ctx, c, s, packed); err != nil {
		return nil, err
	}
	return c.drift(), nil
}

// heldPod asks the API server itself: what is cached of a pod is less than all of it.
func (b *Backend) heldPod(ctx context.Context, s *sandbox) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// A list of one, so that the account needs no further permission.
	answer, err := raw(b.cluster.core.Get().Namespace(s.namespace).Resource("pods").SetHeader("Accept", "application/json").
		Param("fieldSelector", fields.OneTermEqualSelector("metadata.name", s.name).String()).Do(ctx))
	if err != nil {
		return nil, b.translate(err, "read the pod of sandbox "+s.id)
	}
	var list struct{ Items []map[string]any }
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, fault.Internalf(err, "read the pod of sandbox %s", s.id)
	}
	for _, pod := range list.Items {
		if meta, _ := pod["metadata"].(map[string]any); meta["uid"] == s.uid {
			return pod, nil
		}
	}
	return nil, fault.Preconditionf(fault.ReasonSandboxNotRunning, "the cluster does not hold the pod of sandbox %s any more", s.id)
}
