package kube

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestDescribe: what counts is what nodes that take pods could allocate, and trimming a node loses nothing of that.
func TestDescribe(t *testing.T) {
	node := func(name, arch string, change func(*corev1.Node)) any {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"a": "b"}}}
		n.Status.NodeInfo = corev1.NodeSystemInfo{Architecture: arch, KernelVersion: "6"}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		n.Status.Allocatable = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("10"),
			ResourceGPU: resource.MustParse("2"), corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
		}
		if change != nil {
			change(n)
		}
		out, err := trimNode(n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	b := blank(time.Now)
	close(b.ready)
	if info := b.describe(); info.Capacity != (core.Amounts{}) || info.Architecture != "unknown" || !slices.Equal(info.RuntimeClasses, []string{DefaultRuntimeClass}) {
		t.Errorf("of nothing: %+v", info)
	}
	taint := func(e corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: e}} }
	}
	for _, n := range []any{
		node("a", "arm64", nil), node("b", "amd64", nil), node("c", "amd64", taint(corev1.TaintEffectPreferNoSchedule)),
		node("cordoned", "s390x", func(n *corev1.Node) { n.Spec.Unschedulable = true }), node("closed", "s390x", taint(corev1.TaintEffectNoSchedule)),
		node("away", "s390x", func(n *corev1.Node) { n.Status.Conditions[1].Status = corev1.ConditionUnknown }),
	} {
		if err := b.nodes.store.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"kata", "gvisor", DefaultRuntimeClass} {
		c, _ := trimClass(&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: name})
		if err := b.classes.store.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	info := b.describe()
	want := core.Amounts{CPUMillis: 4500, MemoryBytes: 3 << 30, GPUs: 6, Sandboxes: 30}
	if info.Capacity != want || info.Architecture != "amd64" || !slices.Equal(info.RuntimeClasses, []string{DefaultRuntimeClass, "gvisor", "kata"}) {
		t.Errorf("%+v", info)
	}
}

// blank is a backend that knows nothing.
func blank(now func() time.Time) *Backend {
	b := &Backend{
		nodes: &watched{resource: "nodes", store: cache.NewStore(cache.MetaNamespaceKeyFunc)}, classes: &watched{resource: "runtimeclasses", store: cache.NewStore(cache.MetaNamespaceKeyFunc)},
		troubles: troubles{attempts: map[string]attempt{}}, lookAgain: make(chan struct{}, 1), ready: make(chan struct{}),
	}
	b.cfg.Options.InitImage, b.cfg.Now = "x", now
	return b
}

// TestRefusal: a runner says why it can run nothing, what to do, and since when; and that it can again.
func TestRefusal(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := blank(func() time.Time { return now })
	want := func(reason, part string) {
		t.Helper()
		i := b.describe()
		if i.RefusalReason != reason || !strings.Contains(i.Refusal, part) || (i.Refusal == "") != i.RefusedSince.IsZero() {
			t.Errorf("%s %q since %v, want %s %q", i.RefusalReason, i.Refusal, i.RefusedSince, reason, part)
		}
		if part != "" && part != notYet && len(i.RefusalHints) == 0 {
			t.Errorf("%q says nothing of what to do", i.Refusal)
		}
	}
	away := errors.New("connection refused")
	want(fault.ReasonClusterUnreachable, notYet)
	b.attempted(t.Context(), "nodes", away)
	want(fault.ReasonClusterUnreachable, "cannot be reached: connection refused")
	b.attempted(t.Context(), "nodes", apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", errors.New("no")))
	want(fault.ReasonClusterForbidden, "list and watch nodes")
	b.attempted(t.Context(), "nodes", nil)
	close(b.ready)
	want("", "")
	// One that was there and is away for a moment is not out of order.
	b.attempted(t.Context(), "pods", away)
	now = now.Add(unreachableAfter - time.Second)
	b.attempted(t.Context(), "pods", away)
	want("", "")
	now = now.Add(time.Second)
	want(fault.ReasonClusterUnreachable, "cannot be reached")
	b.attempted(t.Context(), "pods", apierrors.NewResourceExpired("too old")) // It answers, and is asked again.
	b.attempted(t.Context(), "pods", nil)
	want("", "")
	b.troubles.missing = []string{"create pods/exec"}
	want(fault.ReasonClusterForbidden, "its account may not create pods/exec")
	b.troubles.missing = nil
	// An init that never came is the cluster's trouble, for a time; one that did not come to one pod is not.
	b.initImageFailed("no such image")
	want(core.EndImageFailed, "no such image")
	now = now.Add(initRest)
	want("", "")
	b.initImageFailed("no such image")
	b.initImageWorked()
	want("", "")
	b.initImageFailed("its node has no way to the registry")
	want("", "")
	b.troubles.stranger = "this is another"
	want(fault.ReasonRunnerIdentity, "another")
}
