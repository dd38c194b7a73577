package kube

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// AnnotationHTTPRoute names the HTTPRoute that was made for a pod.
const AnnotationHTTPRoute = "berm.dev/http-route"

// Conditions of a route, as the Gateway API names them.
const (
	routeAccepted = "Accepted"
	routeResolved = "ResolvedRefs"
)

// httpRouteFor returns the HTTPRoute of a sandbox whose mode names a Gateway, nil for any other. It leads where an Ingress would.
func httpRouteFor(in PodInput, service *corev1.Service) (*gatewayapi.HTTPRoute, error) {
	_, mode := ingressMode(in)
	route := mode.GetIngress()
	if service == nil || route.GetGateway() == nil {
		return nil, nil
	}
	host, ok := spec.HostOf(route.GetTemplate(), in.SandboxID)
	first := firstTCP(service)
	if !ok || first < 0 {
		return nil, cannotRoute(route, in.SandboxID, ok)
	}
	labels, annotations := ownMetadata(in)
	if mode.GetExpectsExternalAddress() {
		annotations[annotationExpects] = "true"
	}
	at := route.GetGateway()
	return &gatewayapi.HTTPRoute{
		TypeMeta:   metav1.TypeMeta{APIVersion: gatewayapi.GroupVersion.String(), Kind: gatewayapi.KindRoute},
		ObjectMeta: metav1.ObjectMeta{Name: service.Name, Namespace: service.Namespace, Labels: labels, Annotations: annotations},
		Spec: gatewayapi.HTTPRouteSpec{
			ParentRefs: []gatewayapi.ParentRef{{
				Group: gatewayapi.GroupVersion.Group, Kind: gatewayapi.KindGateway,
				Namespace: either(at.GetNamespace(), service.Namespace), Name: at.GetName(), SectionName: at.GetSectionName(),
			}},
			Hostnames: []string{host},
			Rules: []gatewayapi.Rule{{
				Matches:     []gatewayapi.Match{{Path: gatewayapi.PathMatch{Type: "PathPrefix", Value: "/"}}},
				BackendRefs: []gatewayapi.BackendRef{{Kind: "Service", Name: service.Name, Port: service.Spec.Ports[first].Port, Weight: 1}},
			}},
		},
	}, nil
}

// checkRoutes reports what no cluster makes of the routes of ingress modes.
func checkRoutes(p *tree.Problems, modes map[string]*specpb.IngressMode) {
	for _, name := range slices.Sorted(maps.Keys(modes)) {
		route := modes[name].GetIngress()
		at := "network.ingress.modes[" + name + "].ingress."
		if route.GetGateway() != nil && route.GetControllerName() != "" {
			p.Add(nil, at+"controllerName", "is the class of an Ingress, and with gateway there is none; leave one of them out")
		}
		for _, f := range [][2]string{{"name", route.GetGateway().GetName()}, {"sectionName", route.GetGateway().GetSectionName()}} {
			if f[1] != "" && len(validation.IsDNS1123Subdomain(f[1])) > 0 {
				p.Add(nil, at+"gateway."+f[0], "%q is no name: a-z, 0-9, - and ., the first and the last alphanumeric", f[1])
			}
		}
	}
}

// routeProblem says why a route leads nowhere, "" when its Gateway takes it, and whether anybody has said so. It is pure.
func routeProblem(r *gatewayapi.HTTPRoute) (problem string, said bool) {
	if len(r.Spec.ParentRefs) == 0 {
		return "", false
	}
	at := r.Spec.ParentRefs[0]
	for i := range r.Status.Parents {
		parent := &r.Status.Parents[i]
		of := parent.ParentRef
		if of.Name != at.Name || either(of.Namespace, r.Namespace) != at.Namespace || of.SectionName != at.SectionName {
			continue
		}
		accepted := condition(parent.Conditions, routeAccepted, r.Generation)
		if accepted == nil {
			continue
		}
		why := ""
		for _, c := range []*metav1.Condition{accepted, condition(parent.Conditions, routeResolved, r.Generation)} {
			if c != nil && c.Status != metav1.ConditionTrue && why == "" {
				why = fmt.Sprintf("%s says of the route: %s is %s: %s: %s", parent.ControllerName, c.Type, c.Status, c.Reason, c.Message)
			}
		}
		if why == "" { // One controller that takes it is enough.
			return "", true
		}
		problem, said = either(problem, why), true
	}
	return problem, said
}

// condition returns a condition that is about the object as it is now, nil for none.
func condition(list []metav1.Condition, name string, generation int64) *metav1.Condition {
	i := slices.IndexFunc(list, func(c metav1.Condition) bool {
		return c.Type == name && (c.ObservedGeneration == 0 || c.ObservedGeneration >= generation)
	})
	if i < 0 {
		return nil
	}
	return &list[i]
}

// trimRoute keeps of an HTTPRoute what an address is made of.
func trimRoute(object any) (any, error) {
	r, ok := object.(*gatewayapi.HTTPRoute)
	if !ok {
		return object, nil
	}
	out := &gatewayapi.HTTPRoute{ObjectMeta: trimMeta(&r.ObjectMeta), Spec: r.Spec, Status: r.Status}
	out.Generation, out.Annotations = r.Generation, keep(r.Annotations, LabelSandbox, annotationExpects)
	return out, nil
}

// trimGateway keeps of a Gateway which addresses it has.
func trimGateway(object any) (any, error) {
	g, ok := object.(*gatewayapi.Gateway)
	if !ok {
		return object, nil
	}
	return &gatewayapi.Gateway{ObjectMeta: metav1.ObjectMeta{Name: g.Name, Namespace: g.Namespace, UID: g.UID, ResourceVersion: g.ResourceVersion}, Status: g.Status}, nil
}
