package kube

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

const (
	// stopTimeout is how long an init may take to confirm a stop, before the pod is deleted instead.
	stopTimeout = 5 * time.Second
	// orphanAge is how old what belongs to a sandbox must be to count as left over, sweepPage how many objects are looked at in one piece.
	orphanAge = 10 * time.Minute
	sweepPage = 500
)

// Stop asks the init to end the main process, so that the pod stays with its exit code. A sandbox that does not run yet, or whose init
// does not answer, is ended by deleting its pod.
func (b *Backend) Stop(ctx context.Context, id string, grace time.Duration, why string) error {
	s, err := b.get(id)
	if err != nil {
		return err
	}
	now := b.cfg.Now()
	var ended, first bool
	s.change(func() {
		ended = s.ended()
		if first = !ended && s.stop == nil; first {
			s.stop = &stopping{why, now}
		}
		if s.stop != nil {
			why, now = s.stop.why, s.stop.at
		}
	})
	if ended {
		return nil
	}
	failpoint.Hit(failStopNoted)
	if first {
		b.events.note(s, why, "Berm ends the sandbox: "+why)
	}
	asked, err := b.askInit(ctx, s, grace, why)
	if !asked {
		b.log.Debug("the pod of a sandbox is deleted to stop it", "sandbox", id, "error", err)
		if err := b.deletePod(ctx, s, grace); err != nil {
			return err
		}
	}
	failpoint.Hit(failStopAsked)
	b.publish(s, backend.Observation{Phase: backend.PhaseStopping, At: now}, core.Event{Name: "stopping", At: now, Message: why})
	return nil
}

// askInit asks the init of a sandbox that runs.
func (b *Backend) askInit(ctx context.Context, s *sandbox, grace time.Duration, why string) (bool, error) {
	if mainState(s.podNow()).Running == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	client, err := b.await(ctx, s.id)
	if err == nil {
		err = client.StopFor(ctx, grace, why)
	}
	if fault.HasReason(err, fault.ReasonSandboxNotRunning) { // It has ended meanwhile.
		return true, nil
	}
	return err == nil, err
}

// Delete removes the objects of a sandbox that has ended. Its output is kept for a while.
func (b *Backend) Delete(ctx context.Context, id string) error {
	s, err := b.get(id)
	if fault.Is(err, fault.Unavailable) {
		return err
	}
	if err != nil {
		return nil //nolint:nilerr // it is gone already
	}
	s.mu.Lock()
	pod, ended, gone := s.pod(), s.ended(), s.gone
	s.mu.Unlock()
	if !ended {
		return fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %s has not ended; stop it first", id).WithMeta("sandbox_id", id)
	}
	if hasSecret(pod) {
		err := b.cluster.delete(ctx, s.namespace, "secrets", s.name+filesSuffix, metav1.DeleteOptions{})
		if err != nil {
			return b.translate(err, "delete the files of sandbox "+id)
		}
	}
	for _, x := range exposedOf(pod) {
		if err := b.cluster.delete(ctx, x.namespace, x.resource, x.name, metav1.DeleteOptions{}); err != nil {
			return b.translate(err, "delete the "+x.kind+" of sandbox "+id)
		}
	}
	failpoint.Hit(failSecretDeleted)
	if !gone {
		if err := b.deletePod(ctx, s, 0); err != nil {
			return err
		}
	}
	if pod.Annotations[AnnotationPolicy] != "" { // Last: what is left of the pod is held to it.
		if err := b.cluster.delete(ctx, s.namespace, policies, s.name, metav1.DeleteOptions{}); err != nil {
			return b.translate(err, "delete the network policy of sandbox "+id)
		}
	}
	failpoint.Hit(failPodDeleted)
	b.forget(s)
	b.hub.Forget(id)
	return nil
}

// forget removes a sandbox whose pod was deleted. That the pod is gone is mostly known by now; where it is not, the cluster still tells of it.
func (b *Backend) forget(s *sandbox) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		b.deleted[s.uid] = s.listed
	}
	delete(b.sandboxes, s.id)
}

// sweepBeside deletes files, Services, Ingresses, HTTPRoutes and policies of sandboxes that have no pod: a runner that died between the two left
// them, or could not reach the cluster to withdraw them.
func (b *Backend) sweepBeside(ctx context.Context) {
	b.sweep(ctx, "secrets")
	b.sweep(ctx, services)
	b.sweep(ctx, ingresses)
	b.sweep(ctx, gatewayapi.HTTPRoutes)
	if b.cfg.Options.Network.Policies() {
		b.sweep(ctx, policies)
	}
}

func (b *Backend) sweep(ctx context.Context, resource string) {
	for next := ""; ; {
		body, err := raw(b.cluster.of(resource).Get().Resource(resource).
			Param("labelSelector", b.ownObjects()).Param("limit", strconv.Itoa(sweepPage)).Param("continue", next).
			SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").Do(ctx))
		list := &metav1.PartialObjectMetadataList{}
		if err == nil {
			err = json.Unmarshal(body, list)
		}
		if err != nil {
			b.log.Debug("what is left over cannot be looked for", "resource", resource, "error", err)
			return
		}
		for i := range list.Items {
			b.sweepOne(ctx, resource, &list.Items[i])
		}
		if next = list.Continue; next == "" {
			return
		}
	}
}

// sweepOne deletes an object if it is left over.
func (b *Backend) sweepOne(ctx context.Context, resource string, m *metav1.PartialObjectMetadata) {
	if b.cfg.Now().Sub(m.CreationTimestamp.Time) < orphanAge {
		return
	}
	id := either(m.Annotations[LabelSandbox], m.Labels[LabelSandbox])
	done, mine, err := b.enter(id)
	if err != nil || !mine {
		return // It is there, or is being made now.
	}
	err = b.cluster.delete(ctx, m.Namespace, resource, m.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(m.UID))})
	b.leave(id, done)
	if err != nil {
		b.log.Warn("what is left over cannot be deleted", "resource", resource, "sandbox", id, "error", err)
	}
}
