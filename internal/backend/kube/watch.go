package kube

import (
	"context"
	"sync"
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
	resource string
	// store has the objects; nil for pods.
	store cache.Store
	// synced is closed once it is known which there are.
	synced <-chan struct{}
}

func (w *watched) hasSynced() bool {
	select {
	case <-w.synced:
		return true
	default:
		return false
	}
}

// watch follows one kind of objects of all namespaces, from now until the backend is closed.
func (b *Backend) watch(c cache.Getter, resource, selector string, object runtime.Object, trim cache.TransformFunc, handler cache.ResourceEventHandler) *watched {
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: b.listerWatcher(c, resource, selector), ObjectType: object, Transform: trim, Handler: handler,
	})
	b.work.Go(func() { controller.RunWithContext(b.ctx) })
	return &watched{resource: resource, store: store, synced: controller.HasSyncedChecker().Done()}
}

// watchPods follows the pods of the runner, which are kept as sandboxes and nowhere else.
func (b *Backend) watchPods() *watched {
	lw := b.listerWatcher(b.cluster.core, "pods", b.ownObjects())
	synced := make(chan struct{})
	reflector := cache.NewReflectorWithOptions(lw, &corev1.Pod{}, sightings{b, sync.OnceFunc(func() { close(synced) })}, cache.ReflectorOptions{})
	b.work.Go(func() { reflector.RunWithContext(b.ctx) })
	return &watched{resource: "pods", synced: synced}
}

// listerWatcher lists and watches a resource. What the API server says of the attempts is noted in b.troubles.
func (b *Backend) listerWatcher(c cache.Getter, resource, selector string) *cache.ListWatch {
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
	return lw
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
	b.pods = b.watchPods()
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
