package kube

import (
	"context"
	"encoding/json"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// Drift compares what was submitted of a sandbox with what the API server holds.
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
	packed, _ = annotations[AnnotationExposed].(string)
	if err := b.compareExposed(ctx, c, s, packed); err != nil {
		return nil, err
	}
	return c.drift(), nil
}

// heldPod asks the API server itself: what is cached of a pod is less than all of it.
func (b *Backend) heldPod(ctx context.Context, s *sandbox) (map[string]any, error) {
	pod, err := b.held(ctx, "pods", s.namespace, s.name)
	if err != nil {
		return nil, b.translate(err, "read the pod of sandbox "+s.id)
	}
	if meta, _ := pod["metadata"].(map[string]any); meta["uid"] == s.uid {
		return pod, nil
	}
	return nil, fault.Preconditionf(fault.ReasonSandboxNotRunning, "the cluster does not hold the pod of sandbox %s any more", s.id)
}

// held returns an object as the API server has it, nil for none. It asks for a list of one, so that the account needs no further permission.
func (b *Backend) held(ctx context.Context, resource, namespace, name string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := raw(b.cluster.of(resource).Get().Namespace(namespace).Resource(resource).SetHeader("Accept", runtime.ContentTypeJSON).
		Param("fieldSelector", fields.OneTermEqualSelector("metadata.name", name).String()).Do(ctx))
	if apierrors.IsNotFound(err) { // There is no such resource any more.
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list struct{ Items []map[string]any }
	if err := json.Unmarshal(answer, &list); err != nil || len(list.Items) == 0 {
		return nil, err
	}
	return list.Items[0], nil
}

// compareExposed adds in what that by which the ports of a pod are reached differs from what was submitted.
func (b *Backend) compareExposed(ctx context.Context, c *comparison, s *sandbox, packed string) error {
	if packed == "" {
		return nil
	}
	var given map[string]any
	if err := json.Unmarshal([]byte(packed), &given); err != nil {
		return fault.Preconditionf(fault.ReasonInvalidRequest, "somebody changed the annotation %s of the pod of sandbox %s", AnnotationExposed, s.id).WithCause(err)
	}
	for _, x := range exposedKinds {
		want, is := given[x.resource]
		if !is {
			continue
		}
		held, err := b.held(ctx, x.resource, s.namespace, s.name)
		if err != nil {
			return b.translate(err, "read the "+x.kind+" of sandbox "+s.id)
		}
		c.beside(strings.ToLower(x.kind)+".", held, func(c *comparison) { c.value("spec", want, held["spec"]) })
	}
	return nil
}
