package kube

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core"
)

// followed is one kind of objects, all of which are known.
func followed() *watched {
	synced := make(chan struct{})
	close(synced)
	return &watched{store: cache.NewStore(cache.MetaNamespaceKeyFunc), synced: synced}
}

// addressOfS returns what is told of the address of sandbox "s".
func addressOfS(b *Backend) core.Service {
	s := b.sandboxes["s"]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service == nil {
		return core.Service{}
	}
	return *s.service
}

// TestExposedDeleted: an address is withdrawn once what leads there was deleted, also while no runner was there; what is only late to come is
// not taken for deleted.
func TestExposedDeleted(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "n", Name: "sandbox-s", Labels: map[string]string{LabelSandbox: "s"}}
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Port: 80}}}}
	ingress := &networkingv1.Ingress{ObjectMeta: meta, Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{
		{Host: "s.example", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{}}},
	}}}
	pod := podOf("s", "u")
	pod.Annotations[AnnotationService], pod.Annotations[AnnotationRoute] = "sandbox-s", "sandbox-s"
	world := func(found bool) *Backend {
		b := alone(t)
		b.exposed, b.routes = followed(), followed()
		g, err := sight(pod)
		if err != nil {
			t.Fatal(err)
		}
		g.found = found
		b.take(g, false)
		return b
	}
	b := world(false)
	if got := addressOfS(b); got.Problem != "" {
		t.Fatalf("before the cluster has told of its Service: %+v", got)
	}
	_, _ = b.exposed.store.Add(service), b.routes.store.Add(ingress)
	b.lookBehind(ingress, false)
	if got := addressOfS(b); got.Address != "s.example" {
		t.Fatalf("%+v", got)
	}
	_ = b.routes.store.Delete(ingress)
	b.lookBehind(cache.DeletedFinalStateUnknown{Key: "n/sandbox-s", Obj: ingress}, true)
	if got := addressOfS(b); got.Address != "" || !strings.Contains(got.Problem, "the Ingress that led to it is gone") {
		t.Errorf("deleted: %+v", got)
	}
	_ = b.routes.store.Add(ingress)
	b.lookBehind(ingress, false)
	if got := addressOfS(b); got.Address != "s.example" || got.Problem != "" {
		t.Errorf("made again: %+v", got)
	}
	if got := addressOfS(world(true)); !strings.Contains(got.Problem, "the Service that led to it is gone") {
		t.Errorf("deleted before the runner started: %+v", got)
	}
}

// pausing is a store in which the first look takes long: meanwhile is called between it and its answer.
type pausing struct {
	cache.Store
	meanwhile func()
}

func (p *pausing) GetByKey(key string) (any, bool, error) {
	object, ok, err := p.Store.GetByKey(key)
	if f := p.meanwhile; f != nil {
		p.meanwhile = nil
		f()
	}
	return object, ok, err
}

// TestAddressInOrder: an address that was looked up before another does not take its place.
func TestAddressInOrder(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "n", Name: "sandbox-s", Labels: map[string]string{LabelSandbox: "s"}}
	service := func(ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	b := alone(t)
	pod := podOf("s", "u")
	pod.Annotations[AnnotationService] = "sandbox-s"
	b.exposed = followed()
	store := &pausing{Store: b.exposed.store}
	b.exposed.store = store
	g, err := sight(pod)
	if err != nil {
		t.Fatal(err)
	}
	b.take(g, false)
	_ = store.Add(service("10.96.0.1"))
	told := make(chan struct{})
	store.meanwhile = func() {
		_ = store.Update(service("10.96.0.2"))
		go func() {
			defer close(told)
			b.lookBehind(service("10.96.0.2"), false)
		}()
		select {
		case <-told:
		case <-time.After(100 * time.Millisecond): // It waits until the first has told.
		}
	}
	b.lookBehind(service("10.96.0.1"), false)
	<-told
	if got := addressOfS(b); got.Address != "10.96.0.2:80" && got.Address != "10.96.0.2" {
		t.Errorf("the last that is told is %+v", got)
	}
}

// TestWordsOfController: what a controller says is one line, and one that says it in other words each time costs no more than a write in a while.
func TestWordsOfController(t *testing.T) {
	var now atomic.Int64
	b := &Backend{cfg: Config{Now: func() time.Time { return time.Unix(now.Load(), 0) }}}
	s := &sandbox{id: "s"}
	tell := func(problem string) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if at := (&core.Service{Mode: "m", Problem: oneLine(problem)}); !at.Equal(s.service) && !b.putOff(s, at) {
			s.service = at
		}
		return s.service.Problem
	}
	if got := tell("no listener\n\tat 10:00\r\n"); got != "no listener at 10:00" {
		t.Errorf("%q", got)
	}
	if got := tell("no listener at 10:01"); got != "no listener at 10:00" || !s.wording.later {
		t.Errorf("other words are told at once: %q", got)
	}
	now.Add(int64(wordsInterval / time.Second))
	if got := tell("no listener at 10:02"); got != "no listener at 10:02" {
		t.Errorf("other words are never told: %q", got)
	}
	if got := tell(""); got != "" {
		t.Errorf("that it is over waits: %q", got)
	}
	if got := tell("it is back"); got != "it is back" {
		t.Errorf("a problem that is new waits: %q", got)
	}
	if got := len(oneLine(strings.Repeat("ü", 2*maxWords))); got > maxWords {
		t.Errorf("a line has %d bytes", got)
	}
}

// TestGatewayAPIAskedOnce: many launches that need the Gateway API wait for one question, and a no that took long to come holds from then on.
func TestGatewayAPIAskedOnce(t *testing.T) {
	var asked atomic.Int32
	var clock atomic.Int64
	came, answer := make(chan struct{}, 1), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/apis/"+gatewayapi.GroupVersion.String()) {
			http.NotFound(w, r)
			return
		}
		asked.Add(1)
		came <- struct{}{}
		<-answer
		clock.Add(int64(time.Minute))
		http.NotFound(w, r)
	}))
	defer api.Close()
	c, err := newCluster(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	b := &Backend{ctx: t.Context(), cluster: c, cfg: Config{Now: func() time.Time { return time.Unix(0, clock.Load()) }}}
	var group sync.WaitGroup
	ask := func() { _, _ = b.hasGatewayAPI() }
	group.Go(ask)
	<-came
	for range 20 {
		group.Go(ask)
	}
	close(answer)
	group.Wait()
	ask()
	if n := asked.Load(); n != 1 {
		t.Errorf("the API server was asked %d times", n)
	}
}
