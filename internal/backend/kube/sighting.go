package kube

import (
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/bermhq/berm/internal/core/fault"
)

// sighting is what is kept of a pod. A runner has tens of thousands of them, of which nearly all stay as they are for hours: so the pod itself
// is kept as bytes, a tenth of what it takes as values, and is made anew for whoever looks at it.
type sighting struct {
	// id is that of its sandbox.
	id, namespace, name, uid string
	// submittedAt is of a pod that is seen for the first time, submitted what was submitted of it, unless that is known.
	submittedAt time.Time
	submitted   likeness
	state       string
	// found: it is of a list, and no news.
	found bool
}

// GetObjectMeta implements metav1.ObjectMetaAccessor: a reflector stores sightings by it.
func (g *sighting) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: g.namespace, Name: g.name}
}

// sight makes a sighting of a pod, nil where it is of no sandbox.
func sight(pod *corev1.Pod) (*sighting, error) {
	g := &sighting{id: sandboxOf(pod), namespace: unique.Make(pod.Namespace).Value(), submittedAt: submittedAt(pod)}
	if g.id == "" {
		return nil, nil
	}
	g.name, g.uid = joined(pod.Name, string(pod.UID))
	if strings.HasSuffix(g.name, g.id) {
		g.id = g.name[len(g.name)-len(g.id):]
	}
	state, err := trim(pod).Marshal()
	if err != nil {
		return nil, fault.Internalf(err, "keep what was seen of the pod of sandbox %s", g.id)
	}
	g.state = string(state)
	return g, nil
}

// joined returns two strings that share one piece of memory, and nothing with what they were cut from.
func joined(a, b string) (string, string) {
	both := a + b
	return both[:len(a)], both[len(a):]
}

// pod returns what is looked at of a pod.
func (g *sighting) pod() *corev1.Pod { return unpackPod(g.namespace, g.name, g.state) }

// unpackPod reads what sight wrote.
func unpackPod(namespace, name, state string) *corev1.Pod {
	pod := &corev1.Pod{}
	if err := pod.Unmarshal([]byte(state)); err != nil {
		panic("a pod that was packed here cannot be unpacked: " + err.Error())
	}
	pod.Namespace, pod.Name = namespace, name
	return pod
}

// sightings takes from a reflector what the cluster says of pods. It stores nothing but what the sandboxes are.
type sightings struct {
	of     *Backend
	synced func()
}

var _ cache.TransformingStore = sightings{}

// Transformer implements cache.TransformingStore: the first list is collected as sightings.
func (p sightings) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		pod, ok := object.(*corev1.Pod)
		if !ok {
			return object, nil
		}
		g, err := sight(pod)
		if g == nil || err != nil {
			return &sighting{namespace: pod.Namespace, name: pod.Name}, err
		}
		if !p.of.knows(g) {
			g.submitted = p.of.likenesses.keep(pod.Labels[LabelProfile], unpackSubmitted(pod.Annotations[AnnotationSubmitted]))
		}
		return g, nil
	}
}

// knows reports whether a pod was seen before.
func (b *Backend) knows(g *sighting) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sandboxes[g.id]
	return s != nil && s.uid == g.uid
}

func (p sightings) see(object any, gone bool) error {
	seen, err := p.Transformer()(object)
	if g, ok := seen.(*sighting); ok && err == nil {
		p.of.take(g, gone)
	}
	return err
}

// Add implements cache.ReflectorStore.
func (p sightings) Add(object any) error { return p.see(object, false) }

// Update implements cache.ReflectorStore.
func (p sightings) Update(object any) error { return p.see(object, false) }

// Delete implements cache.ReflectorStore.
func (p sightings) Delete(object any) error { return p.see(object, true) }

// Resync implements cache.ReflectorStore.
func (p sightings) Resync() error { return nil }

// Replace implements cache.ReflectorStore: what is not listed, and was seen before, is gone.
func (p sightings) Replace(objects []any, _ string) error {
	there := make(map[string]bool, len(objects))
	for i, object := range objects {
		seen, err := p.Transformer()(object)
		if err != nil {
			return err
		}
		g := seen.(*sighting) //nolint:forcetypeassert // a list of pods has nothing else
		objects[i], g.found, there[g.uid] = nil, true, true
		p.of.take(g, false)
	}
	for _, s := range p.of.missed(there) {
		p.of.lose(s)
	}
	p.synced()
	return nil
}
