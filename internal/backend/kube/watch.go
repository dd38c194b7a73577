package kube

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// infoPause is how often Info changes at most: nodes come and go in numbers.
const infoPause = 500 * time.Millisecond

// watched is one kind of objects, followed.
type watched struct {
	resource   string
	store      cache.Store
	controller cache.Controller
}

// watch follows one kind of objects of all namespaces, from now until the backend is closed. What the API server says of the attempts is
// noted in b.troubles.
func (b *Backend) watch(c cache.Getter, resource, selector string, object runtime.Object, trim cache.TransformFunc, handler cache.ResourceEventHandler) *watched {
	lw := cache.NewFilteredListWatchFromClient(c, resource, metav1.NamespaceAll, func(o *metav1.ListOptions) { o.LabelSelector = selector })
	list, follow := lw.ListWithContextFunc, lw.WatchFuncWithContext
	lw.ListWithContextFunc = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		out, err := list(ctx, o)
		b.attempted(ctx, resource, err)
		return out, err
	}
	lw.WatchFuncWithContext = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		out, err := follow(ctx, o)
		b.attempted(ctx, resource, err)
		return out, err
	}
	w := &watched{resource: resource}
	w.store, w.controller = cache.NewInformerWithOptions(cache.InformerOptions{ListerWatcher: lw, ObjectType: object, Transform: trim, Handler: handler})
	b.work.Go(func() { w.controller.RunWithContext(b.ctx) })
	return w
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ownObjects selects what belongs to sandboxes of this runner.
func (b *Backend) ownObjects() string {
	return metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: map[string]string{LabelManagedBy: managedBy, LabelRunner: labelValue(b.cfg.RunnerName)}})
}

// watchAll begins to follow all that matters.
func (b *Backend) watchAll() {
	again := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { signal(b.lookAgain) }, UpdateFunc: func(_, _ any) { signal(b.lookAgain) }, DeleteFunc: func(any) { signal(b.lookAgain) },
	}
	b.nodes = b.watch(b.cluster.core, "nodes", "", &corev1.Node{}, trimNode, again)
	b.classes = b.watch(b.cluster.node, "runtimeclasses", "", &nodev1.RuntimeClass{}, trimClass, again)
	b.pods = b.watch(b.cluster.core, "pods", b.ownObjects(), &corev1.Pod{}, trim, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { b.see(o, false) },
		UpdateFunc: func(_, o any) { b.see(o, false) },
		DeleteFunc: func(o any) { b.see(o, true) },
	})
}

// keepInfo says what can be run whenever that changes.
func (b *Backend) keepInfo() {
	for {
		var again <-chan time.Time
		if b.troubled() {
			again = time.After(troubleTick)
		}
		select {
		case <-b.lookAgain:
		case <-again:
		case <-b.ctx.Done():
			return
		}
		b.review()
		if now := b.describe(); b.told.Tell(now) && now.Refusal != notYet {
			b.log.Info("what the cluster gives has changed", "pods", now.Capacity.Sandboxes, "cpu_millis", now.Capacity.CPUMillis,
				"memory_bytes", now.Capacity.MemoryBytes, "gpus", now.Capacity.GPUs, "runtime_classes", now.RuntimeClasses, "refusal", now.Refusal)
		}
		select {
		case <-time.After(infoPause):
		case <-b.ctx.Done():
			return
		}
	}
}

// trimNode keeps of a node what its capacity is counted from.
func trimNode(object any) (any, error) {
	n, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	out := &corev1.Node{}
	out.Name, out.UID, out.ResourceVersion = n.Name, n.UID, n.ResourceVersion
	out.Spec.Unschedulable, out.Spec.Taints = n.Spec.Unschedulable, n.Spec.Taints
	out.Status.NodeInfo.Architecture = n.Status.NodeInfo.Architecture
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	out.Status.Allocatable = corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods, ResourceGPU} {
		if q, ok := n.Status.Allocatable[name]; ok {
			out.Status.Allocatable[name] = q
		}
	}
	return out, nil
}

// trimClass keeps the name of a runtime class.
func trimClass(object any) (any, error) {
	c, ok := object.(*nodev1.RuntimeClass)
	if !ok {
		return object, nil
	}
	return &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion}}, nil
}
