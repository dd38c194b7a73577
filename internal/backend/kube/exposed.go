package kube

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core"
)

// tellAddress makes where a sandbox is reached part of what is observed of it, if that is something else than before. The stores are asked
// first: they are newer than what the API server answered when the objects were made. What is told by several of them at a time is looked at one
// after the other, so that the last look is what holds.
func (b *Backend) tellAddress(s *sandbox, made exposure) {
	b.addressing.Lock()
	defer b.addressing.Unlock()
	pod := s.podNow()
	if pod == nil || pod.Annotations[AnnotationService] == "" {
		return
	}
	b.fill(&made, s, pod)
	now := made.address(pod)
	if now == nil {
		return
	}
	now.Problem = oneLine(now.Problem)
	s.change(func() {
		if made.missing != "" && s.service != nil {
			now.Ports = s.service.Ports
		}
		if now.Equal(s.service) || b.putOff(s, now) {
			return
		}
		s.service = now
		if s.last != nil && !s.ended() {
			again := s.observed()
			again.Service = now
			s.last = b.hub.Publish(again)
		}
	})
}

// oneLine makes one line of what a controller says, of maxWords bytes at most.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), maxWords)], "")
}

// wordsInterval is how often it is told that a problem is said in other words. Some controllers write the time, or a number, with each of theirs.
const wordsInterval = 30 * time.Second

// wording is about when the words of a problem were told last, and whether there are others to tell.
type wording struct {
	at    time.Time
	later bool
}

// putOff reports whether what changed is only how a problem is put, and it is too early to tell that. It is told later then, as it is by that
// time. It is called with the sandbox's mu held.
func (b *Backend) putOff(s *sandbox, now *core.Service) bool {
	if s.wording == nil {
		s.wording = &wording{}
	}
	w := s.wording
	if s.service != nil && s.service.Problem != "" && now.Problem != "" {
		same := *now
		same.Problem = s.service.Problem
		if left := wordsInterval - b.cfg.Now().Sub(w.at); same.Equal(s.service) && left > 0 {
			if !w.later {
				w.later = true
				time.AfterFunc(left, func() {
					s.change(func() { w.later = false })
					b.tellAddress(s, exposure{})
				})
			}
			return true
		}
	}
	w.at = b.cfg.Now()
	return false
}

// fill adds what is followed.
func (b *Backend) fill(e *exposure, s *sandbox, pod *corev1.Pod) {
	b.mu.Lock()
	exposed, routes, httpRoutes, gateways := b.exposed, b.routes, b.httpRoutes, b.gateways
	barred := b.troubles.attempts[gatewayapi.Gateways].err
	b.mu.Unlock()
	own := cache.ObjectName{Namespace: s.namespace, Name: s.name}
	if o, ok := stored(exposed, own).(*corev1.Service); ok {
		e.service = o
	}
	if o, ok := stored(routes, own).(*networkingv1.Ingress); ok {
		e.ingress = o
	}
	if o, ok := stored(httpRoutes, own).(*gatewayapi.HTTPRoute); ok {
		e.route = o
	}
	s.mu.Lock()
	settled := s.settled
	s.mu.Unlock()
	for _, x := range exposedKinds {
		w := map[string]*watched{services: exposed, ingresses: routes, gatewayapi.HTTPRoutes: httpRoutes}[x.resource]
		if settled && pod.Annotations[x.annotation] != "" && w != nil && w.hasSynced() && stored(w, own) == nil {
			e.missing = x.kind
		}
	}
	if e.route == nil || len(e.route.Spec.ParentRefs) == 0 {
		return
	}
	at := e.route.Spec.ParentRefs[0]
	e.gateway, _ = stored(gateways, cache.ObjectName{Namespace: at.Namespace, Name: at.Name}).(*gatewayapi.Gateway)
	switch {
	case e.gateway != nil:
	case apierrors.IsForbidden(barred):
		e.unknown = "the account of the runner may not list and watch gateways, so that Gateway " + at.Namespace + "/" + at.Name + " cannot be seen"
	case gateways == nil || !gateways.hasSynced():
		e.gateway = &gatewayapi.Gateway{} // It is told of once the cluster has said which there are.
	}
}

// stored returns an object that is followed, nil for none.
func stored(w *watched, name cache.ObjectName) any {
	if w == nil {
		return nil
	}
	o, _, _ := w.store.GetByKey(name.String())
	return o
}

// watchExposed begins to follow what a pod is exposed by, Services, Ingresses, or HTTPRoutes and Gateways, once one has it: most runners need
// no permission to.
func (b *Backend) watchExposed(pod *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { b.lookBehind(o, false) }, UpdateFunc: func(_, o any) { b.lookBehind(o, false) }, DeleteFunc: func(o any) { b.lookBehind(o, true) },
	}
	if b.exposed == nil {
		b.exposed = b.watch(b.cluster.core, services, b.ownObjects(), &corev1.Service{}, trimService, handler)
		b.onceSynced(b.exposed, b.lookExposed)
	}
	if b.routes == nil && pod.Annotations[AnnotationRoute] != "" {
		b.routes = b.watch(b.cluster.network, ingresses, b.ownObjects(), &networkingv1.Ingress{}, trimIngress, handler)
		b.onceSynced(b.routes, b.lookExposed)
	}
	if b.httpRoutes == nil && pod.Annotations[AnnotationHTTPRoute] != "" {
		b.httpRoutes = b.watch(b.cluster.gateway, gatewayapi.HTTPRoutes, b.ownObjects(), &gatewayapi.HTTPRoute{}, trimRoute, handler)
		b.onceSynced(b.httpRoutes, b.lookExposed)
		again := cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { b.lookRouted() }, DeleteFunc: func(any) { b.lookRouted() }, UpdateFunc: func(was, now any) {
				if !reflect.DeepEqual(statusOf(was), statusOf(now)) { // It changes with every route.
					b.lookRouted()
				}
			},
		}
		b.gateways = b.watch(b.cluster.gateway, gatewayapi.Gateways, "", &gatewayapi.Gateway{}, trimGateway, again)
		b.onceSynced(b.gateways, b.lookRouted) // There may be none.
	}
}

// lookBehind looks again at the sandbox that an object leads to, or led to until somebody deleted it.
func (b *Backend) lookBehind(object any, deleted bool) {
	if u, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = u.Obj
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return
	}
	b.mu.Lock()
	s := b.sandboxes[either(m.GetAnnotations()[LabelSandbox], m.GetLabels()[LabelSandbox])]
	b.mu.Unlock()
	if s == nil {
		return
	}
	if deleted {
		s.change(func() { s.settled = true })
	}
	b.tellAddress(s, exposure{})
}

// onceSynced calls f once it is known what there is of what is followed.
func (b *Backend) onceSynced(w *watched, f func()) {
	b.work.Go(func() {
		select {
		case <-w.synced:
			f()
		case <-b.ctx.Done():
		}
	})
}

func statusOf(gateway any) gatewayapi.GatewayStatus {
	if g, ok := gateway.(*gatewayapi.Gateway); ok {
		return g.Status
	}
	return gatewayapi.GatewayStatus{}
}

// lookRouted looks again at where sandboxes with an HTTPRoute are reached: a Gateway is not what it was.
func (b *Backend) lookRouted() { b.lookAt(func(s *sandbox) bool { return s.routed }) }

// lookExposed looks again at all that are exposed, and that an earlier runner made: what of theirs is not there does not come any more.
func (b *Backend) lookExposed() { b.lookAt(func(s *sandbox) bool { return s.settled }) }

func (b *Backend) lookAt(which func(*sandbox) bool) {
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.sandboxes))
	b.mu.Unlock()
	for _, s := range all {
		s.mu.Lock()
		is := which(s)
		s.mu.Unlock()
		if is {
			b.tellAddress(s, exposure{})
		}
	}
}
