package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
)

// podOf is a pod of a sandbox that runs, as an API server tells of it.
func podOf(id, uid string) *corev1.Pod {
	began := metav1.Unix(1_790_000_000, 0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "sandbox-" + id, Namespace: "n", UID: types.UID(uid), ResourceVersion: "7", CreationTimestamp: began,
			Labels:      map[string]string{LabelSandbox: id, LabelProfile: "agent"},
			Annotations: map[string]string{LabelSandbox: id, AnnotationPolicy: "closed", "other": "x"},
		},
		Spec: corev1.PodSpec{NodeName: "a", Volumes: []corev1.Volume{{Name: "v"}, {Name: filesVolume}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "198.51.100.1", HostIP: "192.0.2.1",
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse, Reason: "r", Message: "m"},
			},
			InitContainerStatuses: []corev1.ContainerStatus{{Name: InitContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3}}}},
			ContainerStatuses: []corev1.ContainerStatus{
				{Name: "beside"}, {Name: MainContainer, Image: "i", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}}},
			},
		},
	}
}

// TestSighting: what is kept of a pod says all that is looked at, and little besides.
func TestSighting(t *testing.T) {
	pod := podOf("s", "u")
	pod.DeletionTimestamp = &metav1.Time{Time: pod.CreationTimestamp.Time}
	g, err := sight(pod)
	if err != nil {
		t.Fatal(err)
	}
	want := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "sandbox-s", Namespace: "n", DeletionTimestamp: pod.DeletionTimestamp, Annotations: map[string]string{AnnotationPolicy: "closed"},
	}}
	want.Spec.Volumes = []corev1.Volume{{Name: filesVolume}}
	want.Status = pod.Status
	want.Status.Conditions = pod.Status.Conditions[1:]
	want.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: MainContainer, State: pod.Status.ContainerStatuses[1].State}}
	if diff := cmp.Diff(want, g.pod()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if g.id != "s" || g.uid != "u" || !g.submittedAt.Equal(pod.CreationTimestamp.Time) {
		t.Errorf("%+v", g)
	}
	if len(g.state) > 500 {
		t.Errorf("it takes %d bytes", len(g.state))
	}
}

// TestListAfterSilence: what a new list lacks is gone, unless no list had it yet; and what was deleted is not found again.
func TestListAfterSilence(t *testing.T) {
	b := alone(t)
	pods := sightings{b, func() {}}
	list := func(pods ...*corev1.Pod) (out []any) {
		for _, p := range pods {
			out = append(out, p)
		}
		return out
	}
	stays, goes, again, deleted := podOf("stays", "1"), podOf("goes", "2"), podOf("again", "3"), podOf("deleted", "4")
	if err := pods.Replace(list(stays, goes, again, deleted), "1"); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	s := b.sandboxes["deleted"]
	b.deleted[s.uid] = s.listed // as Delete does
	delete(b.sandboxes, "deleted")
	b.mu.Unlock()
	made, err := sight(podOf("made", "5"))
	if err != nil {
		t.Fatal(err)
	}
	b.answered(made)
	if err := pods.Replace(list(stays, podOf("again", "6"), deleted), "2"); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for id, s := range b.sandboxes {
		_, gone := s.look()
		got[id] = gone
	}
	if diff := cmp.Diff(map[string]bool{"stays": false, "goes": true, "again": true, "made": false}, got); diff != "" {
		t.Errorf("which are gone: -want +got:\n%s", diff)
	}
	if err := pods.Replace(list(stays), "3"); err != nil {
		t.Fatal(err)
	}
	if len(b.deleted) != 0 {
		t.Errorf("what is gone for sure is remembered: %v", b.deleted)
	}
	if err := pods.Delete(stays); err != nil {
		t.Fatal(err)
	}
	if _, gone := b.sandboxes["stays"].look(); !gone {
		t.Error("one that was deleted is still there")
	}
}

// TestLostUnseen: a sandbox whose pod was deleted while nobody looked ends as LOST, without an exit code.
func TestLostUnseen(t *testing.T) {
	b := alone(t)
	pods := sightings{b, func() {}}
	if err := pods.Replace([]any{podOf("s", "1")}, "1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := pods.Replace(nil, "2"); err != nil {
		t.Fatal(err)
	}
	for o := range b.hub.Observe(ctx) {
		if o != nil && o.Phase == backend.PhaseEnded {
			if o.Reason != "LOST" || o.ExitCode != nil {
				t.Errorf("%+v", o)
			}
			return
		}
	}
}

// TestLikeness: what was submitted comes back byte by byte, and objects of one profile are kept as what they differ in.
func TestLikeness(t *testing.T) {
	var l likenesses
	object := func(profile string, i int) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"name":"sandbox-%036d","of":%q,"spec":{"containers":[%s]}}`, i, profile, strings.Repeat(fmt.Sprintf(`{"image":%q},`, profile), 100)))
	}
	var kept []likeness
	var want []json.RawMessage
	for i := range 300 { // More profiles than models.
		profile := fmt.Sprint("profile-", i%100)
		want = append(want, object(profile, i))
		kept = append(kept, l.keep(profile, want[i]))
	}
	for i, k := range kept {
		if got := k.object(); !slices.Equal(got, want[i]) {
			t.Fatalf("%d is\n%s\nwant\n%s", i, got, want[i])
		}
		if len(k.diff) > 200 {
			t.Errorf("%d takes %d bytes of %d", i, len(k.diff), len(want[i]))
		}
	}
	if len(l.models) > maxModels {
		t.Errorf("there are %d models", len(l.models))
	}
	large := bytesOf(100 << 10)
	if a, b := l.keep("large", large), l.keep("large", large); !slices.Equal(a.object(), large) || !slices.Equal(b.object(), large) {
		t.Error("a large one comes back as another")
	}
	if got := l.keep("agent", nil).object(); got != nil {
		t.Errorf("of nothing: %s", got)
	}
}

// TestLikenessOfUnlike: of objects that are little like each other, or of more profiles than there are models, is kept no more than each
// compressed by itself, and an eighth besides.
func TestLikenessOfUnlike(t *testing.T) {
	const many, apart = 160, 20_000
	noise := bytesOf(2 * many * apart)
	for _, c := range []struct{ common, own, profiles int }{{4000, 200, 1}, {4000, 4000, 1}, {4000, 20_000, 1}, {4000, 200, 20}, {4000, 200, 300}, {0, 300, many}} {
		var l likenesses
		var kept, plain, raw int
		models := map[*byte]bool{}
		for i := range many {
			profile := i * 7919 % c.profiles
			common, own := noise[profile*apart:][:c.common], noise[(many+i)*apart:][:c.own]
			object, err := json.Marshal(map[string][]byte{"common": common, "own": own})
			if err != nil {
				t.Fatal(err)
			}
			k := l.keep(fmt.Sprint(profile), object)
			if got := k.object(); !slices.Equal(got, object) {
				t.Fatalf("%d is\n%s\nwant\n%s", i, got, object)
			}
			if len(k.model) > 0 && !models[&k.model[0]] {
				models[&k.model[0]] = true
				kept += cap(k.model)
			}
			kept, plain, raw = kept+len(k.diff), plain+len(differ(nil, object)), raw+len(object)
		}
		if most := plain + raw/missesPerModel + min(c.profiles, maxModels)*maxModel; kept > most {
			t.Errorf("%+v: %d bytes are kept of %d, want %d at most", c, kept, raw, most)
		}
		if c.profiles <= maxModels && c.own < c.common/10 && kept > raw/4 {
			t.Errorf("%+v: %d bytes are kept of %d that are alike", c, kept, raw)
		}
		if len(l.models) > maxModels {
			t.Errorf("there are %d models", len(l.models))
		}
	}
}

// TestModelIsReplaced: after a profile was edited, its objects are small again.
func TestModelIsReplaced(t *testing.T) {
	var l likenesses
	before, after := bytesOf(8000)[:4000], bytesOf(8000)[4000:]
	l.keep("agent", before)
	for range missesPerModel {
		l.keep("agent", after)
	}
	if k := l.keep("agent", after); len(k.diff) > 200 {
		t.Errorf("it takes %d bytes", len(k.diff))
	}
	if k := l.keep("agent", before); len(k.diff) < len(before)/2 || !slices.Equal(k.object(), before) {
		t.Errorf("one as before takes %d bytes", len(k.diff))
	}
}

// bytesOf is what nothing is like.
func bytesOf(n int) json.RawMessage {
	out, x := make(json.RawMessage, n), uint32(1)
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

// TestManyAreSmall: a sandbox of which only the pod is known takes less than 2.5 KB and no goroutine, also while its init is tried to be reached.
func TestManyAreSmall(t *testing.T) {
	const many, most = 3000, 2500
	b := alone(t)
	live := func() uint64 {
		var m runtime.MemStats
		for range 3 { // What is in pools goes at the second.
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, goroutines := live(), runtime.NumGoroutine()
	var pods []any
	for i := range many {
		id := fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i)
		w := &backend.Work{SandboxID: id, OrgID: "o", UserID: "u", RunnerID: "r", ProfileName: "agent", Spec: &specpb.ProfileSpec{ContainerImage: new("tools")}, Launch: &specpb.Launch{Command: "true"}}
		o, err := ObjectsFor(PodInput{Work: *w, Options: b.cfg.Options})
		if err != nil {
			t.Fatal(err)
		}
		packed, err := packSubmitted(w, o.Pod)
		if err != nil {
			t.Fatal(err)
		}
		pod := podOf(id, id)
		pod.Annotations[AnnotationSubmitted] = packed
		g, err := sightings{b, nil}.Transformer()(pod)
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, g)
	}
	if err := (sightings{b, func() {}}).Replace(pods, "1"); err != nil {
		t.Fatal(err)
	}
	pods = nil //nolint:ineffassign,wastedassign // the collector is to have it
	if n := runtime.NumGoroutine() - goroutines; n > 4*maxCrowd {
		t.Errorf("there are %d goroutines for %d sandboxes", n, many)
	}
	each := uint64(math.MaxUint64)
	for range 10 { // The attempts of a moment, and what is of no sandbox, is in one reading and not in the next.
		if each = min(each, (live()-before)/many); each <= most {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if each > most {
		t.Errorf("each takes %d bytes", each)
	}
	if got := b.submittedOf(fmt.Sprintf("%08x-0000-4000-8000-%012x", 7, 7)); !json.Valid(got) {
		t.Errorf("what was submitted is %s", got)
	}
	runtime.KeepAlive(b)
}
