package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/tracing"
)

// accountTimeout is how long a new namespace may take to get its service account.
const accountTimeout = 15 * time.Second

// Check reports every field that this cluster refuses, as far as that can be known without asking it.
func (b *Backend) Check(w *backend.Work) error {
	planned := *w // A plan has neither sandbox nor caller yet.
	planned.SandboxID, planned.OrgID, planned.UserID = either(w.SandboxID, plannedID), either(w.OrgID, plannedID), either(w.UserID, plannedID)
	planned.ProfileName = either(w.ProfileName, plannedID)
	_, err := b.objects(&planned)
	return err
}

// plannedID stands for ids that come later.
const plannedID = "00000000-0000-0000-0000-000000000000"

// objects returns what makes a sandbox, or all that is wrong with it.
func (b *Backend) objects(w *backend.Work) (*Objects, error) {
	// What is wrong with the cluster is its own to say: it may be over by the time that it is asked.
	if b.cfg.Options.InitImage == "" {
		return nil, fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s runs nothing: %s", b.cfg.RunnerName, noInit)
	}
	info := b.Info()
	in := PodInput{Work: *w, Options: b.cfg.Options}
	in.RunnerID = b.cfg.RunnerName
	e := fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s cannot run this sandbox", b.cfg.RunnerName)
	b.refuseLater(e, w, &info)
	if err := b.refuseGateway(e, w); err != nil {
		return nil, err
	}
	objects, err := ObjectsFor(in)
	if err == nil && len(e.Fields) == 0 {
		return objects, nil
	}
	if err != nil {
		f := fault.From(err)
		if len(e.Fields) == 0 {
			return nil, err
		}
		e.Fields = append(e.Fields, f.Fields...)
	}
	return nil, e
}

// refuseLater refuses what nothing here honours yet.
func (b *Backend) refuseLater(e *fault.Error, w *backend.Work, info *backend.Info) {
	if class := w.Spec.GetRuntimeClass(); class != "" && !slices.Contains(info.RuntimeClasses, class) {
		e.WithField("runtime_class", "%q is not there; the cluster has: %s", class, strings.Join(info.RuntimeClasses, ", "))
	}
	egress := w.Spec.GetNetwork().GetEgress()
	if mode := either(egress.GetSelected(), egress.GetDefault()); mode != "" && b.cfg.Options.Network == NetworkRefused {
		e.WithField("network.egress.selected", "mode %q: this runner does not enforce network modes; its owner can choose how with --kube-network", mode)
	}
	if egress.GetRequire() == requireProven && !b.isProven(w) {
		e.WithField("network.egress.require", "it is demanded that the mode is proven, and it is not for this runtime class; berm runner describe %s says what is", b.cfg.RunnerName)
	}
	l := w.Launch
	if l.GetForkOf() != "" {
		e.WithField("fork_of", "sandboxes on Kubernetes cannot be forked")
	}
	for _, name := range l.GetUnsupported() {
		e.WithField(name, "nothing on this runner honours it; it comes with a later version")
	}
}

// Create submits the objects of a sandbox, in an order in which each finds what it needs. It is done again after an interruption.
func (b *Backend) Create(ctx context.Context, w *backend.Work) error {
	if w.SandboxID == "" {
		return fault.Internalf(nil, "a sandbox without an id")
	}
	for {
		other, mine, err := b.enter(w.SandboxID)
		switch {
		case err != nil:
			return err
		case mine:
			err := b.submit(ctx, w)
			b.leave(w.SandboxID, other)
			return err
		case other == nil:
			return nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return fault.New(fault.Canceled, "CANCELED", "the request was cancelled").WithCause(ctx.Err())
		}
	}
}

// enter reserves an id for one Create. Without a channel and not mine, the sandbox is there already.
func (b *Backend) enter(id string) (done chan struct{}, mine bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, false, errClosing()
	}
	if _, ok := b.sandboxes[id]; ok {
		if c, under := b.creating[id]; under {
			return c, false, nil
		}
		return nil, false, nil
	}
	if c, ok := b.creating[id]; ok {
		return c, false, nil
	}
	if n := len(b.sandboxes) + len(b.creating); n >= MaxSandboxes {
		return nil, false, fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "runner %s keeps %d sandboxes; there is no room for more", b.cfg.RunnerName, n).
			WithHint("delete sandboxes that have ended")
	}
	done = make(chan struct{})
	b.creating[id] = done
	return done, true, nil
}

func (b *Backend) leave(id string, done chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.creating, id)
	close(done)
}

func (b *Backend) submit(ctx context.Context, w *backend.Work) error {
	o, err := b.objects(w)
	if err != nil {
		return err
	}
	what := "make sandbox " + w.SandboxID
	if err := b.place(ctx, o); err != nil {
		return err
	}
	failpoint.Hit(failNamespaceMade)
	beside := o.beside()
	var made exposure
	for i, x := range beside {
		body, err := b.cluster.apply(ctx, x.namespace, x.resource, x.name, bare(x.object))
		if err != nil {
			b.forgetNamespace(x.namespace, err)
			b.forgetGatewayAPI(x.resource, err)
			err = translate(b.cfg.RunnerName, err, "make the "+x.kind+" of sandbox "+w.SandboxID, x.kind)
			b.withdraw(ctx, w, beside[:i], err)
			return err
		}
		made.answered(x.resource, body)
	}
	failpoint.Hit(failSecretMade)
	if err := b.submitPod(ctx, w, o, made); err != nil {
		b.forgetNamespace(o.Pod.Namespace, err)
		err = b.translate(err, what)
		b.withdraw(ctx, w, beside, err)
		return err
	}
	failpoint.Hit(failPodMade)
	return nil
}

// submitPod submits the pod, and knows the sandbox from then on.
func (b *Backend) submitPod(ctx context.Context, w *backend.Work, o *Objects, made exposure) error {
	pod := o.Pod
	packed, err := packSubmitted(w, pod)
	if err != nil {
		return fault.Internalf(err, "show the pod of sandbox %s", w.SandboxID)
	}
	namespace, err := packWanted(w, o)
	if err != nil {
		return fault.Internalf(err, "show the namespace of sandbox %s", w.SandboxID)
	}
	exposed, err := packExposed(o)
	if err != nil {
		return fault.Internalf(err, "show what the ports of sandbox %s are reached by", w.SandboxID)
	}
	for key, value := range map[string]string{AnnotationWanted: namespace, AnnotationExposed: exposed} {
		if value != "" {
			pod.Annotations[key] = value
		}
	}
	pod.Annotations[AnnotationSubmitted] = packed
	pod.Annotations[AnnotationSubmittedAt] = b.cfg.Now().UTC().Format(time.RFC3339Nano)
	if parent := tracing.Parent(ctx); parent != "" {
		pod.Annotations[AnnotationTrace] = parent
	}
	answer, err := b.cluster.apply(ctx, pod.Namespace, "pods", pod.Name, bare(pod))
	// A namespace that was made just now gets its service account a moment later.
	for end := b.cfg.Now().Add(accountTimeout); err != nil && isAccountMissing(err) && b.cfg.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(firstPause)
		answer, err = b.cluster.apply(ctx, pod.Namespace, "pods", pod.Name, bare(pod))
	}
	if err != nil {
		return err
	}
	held := &corev1.Pod{}
	if err := json.Unmarshal(answer, held); err != nil {
		return fmt.Errorf("the API server's answer: %w", err)
	}
	seen, err := sight(held)
	if err != nil {
		return err
	}
	b.answered(seen)
	b.mu.Lock()
	s := b.sandboxes[w.SandboxID]
	b.mu.Unlock()
	if s != nil {
		submitted := b.likenesses.keep(w.ProfileName, unpackSubmitted(packed))
		s.change(func() { s.submitted = submitted }) // whatever somebody has made of the annotation
		b.tellAddress(s, made)
	}
	return nil
}

// forgetNamespace makes sure that a namespace which somebody deleted is made again next time. Any other refusal says nothing about it.
func (b *Backend) forgetNamespace(name string, err error) {
	if !apierrors.IsNotFound(err) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.namespaces, name)
}

// bare is an object without the status and the time that only the cluster can know.
func bare(object any) map[string]any {
	var fields map[string]any
	text, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		return nil
	}
	delete(fields, "status")
	if meta, ok := fields["metadata"].(map[string]any); ok {
		delete(meta, "creationTimestamp")
	}
	return fields
}
