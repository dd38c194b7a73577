package kube

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// gatewayAPITimeout is how long the cluster may take to say whether it has the Gateway API. Who plans a launch waits for it.
	gatewayAPITimeout = time.Second
	// gatewayAPIAgain is how long a no holds: its owner may install it at once, and many launches at a time ask once.
	gatewayAPIAgain = time.Second
)

// gatewayAPI is what the cluster said of it. It is asked when a launch needs it, and nothing else: a cluster may do without. A yes holds until
// an HTTPRoute is refused for want of the resource.
type gatewayAPI struct {
	mu    sync.Mutex
	there bool
	err   error
	until time.Time
	// asking, when not nil, is closed once the question is answered that somebody asks now.
	asking chan struct{}
}

// refuseGateway refuses a mode that names a Gateway where the cluster has no HTTPRoutes. The error says that it could not be asked.
func (b *Backend) refuseGateway(e *fault.Error, w *backend.Work) error {
	name, mode := ingressMode(PodInput{Work: *w})
	at := mode.GetIngress().GetGateway()
	if at == nil || len(w.Launch.GetExposedPorts()) == 0 {
		return nil
	}
	there, err := b.hasGatewayAPI()
	if err != nil {
		return b.translate(err, "say whether it has HTTPRoutes, which mode "+name+" of the sandbox needs")
	}
	if !there {
		e.WithField("network.ingress.selected", "mode %q leads through Gateway %s, and the cluster does not serve %s of %s; "+
			"have the Gateway API and a controller for it installed there, or give the mode an ingress without gateway in an override of this runner's binding",
			name, at.GetName(), gatewayapi.HTTPRoutes, gatewayapi.GroupVersion)
	}
	return nil
}

// hasGatewayAPI returns what the cluster says, or has just said. Those who ask while somebody does wait for the same answer.
func (b *Backend) hasGatewayAPI() (bool, error) {
	g := &b.gatewayAPI
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.there || b.cfg.Now().Before(g.until) {
		return g.there, g.err
	}
	if asking := g.asking; asking != nil {
		g.mu.Unlock()
		<-asking
		g.mu.Lock()
		return g.there, g.err
	}
	asking := make(chan struct{})
	g.asking = asking
	g.mu.Unlock()
	there, err := b.cluster.serves(b.ctx, gatewayapi.HTTPRoutes)
	g.mu.Lock()
	g.there, g.err, g.until, g.asking = there, err, b.cfg.Now().Add(gatewayAPIAgain), nil
	close(asking)
	return there, err
}

// forgetGatewayAPI makes sure that it is asked for again once an HTTPRoute was not taken because there is no such thing.
func (b *Backend) forgetGatewayAPI(resource string, err error) {
	if resource != gatewayapi.HTTPRoutes || !apierrors.IsNotFound(err) {
		return
	}
	b.gatewayAPI.mu.Lock()
	defer b.gatewayAPI.mu.Unlock()
	b.gatewayAPI.there = false
}

// serves asks whether the API server has a resource of the Gateway API. Every account may ask that.
func (c *cluster) serves(ctx context.Context, resource string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, gatewayAPITimeout)
	defer cancel()
	body, err := raw(c.gateway.Get().AbsPath("/apis/"+gatewayapi.GroupVersion.String()).SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx))
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	list := &metav1.APIResourceList{}
	if err := json.Unmarshal(body, list); err != nil {
		return false, err
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource }), nil
}
