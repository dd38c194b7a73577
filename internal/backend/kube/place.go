package kube

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/bermhq/berm/internal/core/fault"
)

// quotas is the name of the resource of quotas.
const quotas = "resourcequotas"

// quotaTimeout is how long the cluster may take to count a new quota.
const quotaTimeout = 15 * time.Second

// placed is what is known of a namespace that is there.
type placed struct {
	// looked says that the rest is known.
	looked bool
	// mine says that Berm made it, level what it enforces, counted that its quota holds.
	mine    bool
	level   string
	counted bool
}

// place makes the namespace of a sandbox, and its quota, unless they are there. A namespace that was there stays as it is; where it does
// not hold what the profile demands, nothing runs in it. One that Berm made gets its quota also later, for instance when a runner was
// killed in between.
func (b *Backend) place(ctx context.Context, o *Objects) error {
	if o.Namespace == nil {
		return nil
	}
	name, level := o.Namespace.Name, o.Namespace.Labels[levelLabel]
	b.mu.Lock()
	known, there := b.namespaces[name]
	b.mu.Unlock()
	if there && (level == "" || known.looked && !weaker(known.level, level)) && (o.Quota == nil || known.counted) {
		return nil
	}
	known, err := b.settle(ctx, o.Namespace, level != "" || o.Quota != nil)
	if err != nil {
		return b.translate(err, "make the namespace "+name)
	}
	e := fault.Preconditionf(fault.ReasonBackendUnsupported, "namespace %s is there already, and does not hold what the profile says of it", name)
	if level != "" && weaker(known.level, level) {
		e.WithField(levelPath, "it is to enforce %s, and its label %s says %s", level, levelLabel, either(known.level, "nothing"))
	}
	if o.Quota != nil && !known.mine {
		e.WithField(quotaPath, "Berm did not make the namespace, and gives it no quota")
	}
	if len(e.Fields) > 0 {
		return e.WithHint("label the namespace, and give it a quota, as you want them, and leave the field out of the profile or an override of this runner; or choose a namespace that Berm makes")
	}
	if o.Quota != nil {
		if err := b.placeQuota(ctx, o.Quota); err != nil {
			return err
		}
		known.counted = true
	}
	b.mu.Lock()
	b.namespaces[name] = known
	b.mu.Unlock()
	return nil
}

// settle makes a namespace, unless it is there. Only where it matters it is asked what one is like that was.
func (b *Backend) settle(ctx context.Context, want *corev1.Namespace, matters bool) (placed, error) {
	err := b.cluster.create(ctx, "", "namespaces", bare(want))
	switch {
	case err == nil:
		return placed{looked: true, mine: true, level: want.Labels[levelLabel]}, nil
	case !apierrors.IsAlreadyExists(err):
		return placed{}, err
	case !matters:
		return placed{}, nil
	}
	held := &corev1.Namespace{}
	err = b.cluster.get(ctx, "", "namespaces", want.Name, held)
	return placed{looked: true, mine: held.Labels[LabelManagedBy] == managedBy, level: held.Labels[levelLabel]}, err
}

func (b *Backend) placeQuota(ctx context.Context, q *corev1.ResourceQuota) error {
	if err := b.cluster.create(ctx, q.Namespace, quotas, bare(q)); err != nil && !apierrors.IsAlreadyExists(err) {
		return translate(b.cfg.RunnerName, err, "make the quota of namespace "+q.Namespace, "quota")
	}
	return b.awaitQuota(ctx, q)
}

// awaitQuota waits until a quota counts: until a controller of the cluster has looked at it, it holds nothing back.
func (b *Backend) awaitQuota(ctx context.Context, q *corev1.ResourceQuota) error {
	for end := b.cfg.Now().Add(quotaTimeout); ; {
		held := &corev1.ResourceQuota{}
		if err := b.cluster.get(ctx, q.Namespace, quotas, q.Name, held); err != nil {
			return b.translate(err, "read the quota of namespace "+q.Namespace)
		}
		if len(held.Status.Hard) > 0 {
			return nil
		}
		if b.cfg.Now().After(end) {
			return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the cluster of runner %s does not count the new quota of namespace %s", b.cfg.RunnerName, q.Namespace).
				WithHint("its controller manager is slow, or not there").WithRetry(retryAfter)
		}
		select {
		case <-ctx.Done():
			return b.translate(ctx.Err(), "read the quota of namespace "+q.Namespace)
		case <-time.After(firstPause):
		}
	}
}
