package gatewayapi

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeepCopyObject implements runtime.Object.
func (r *HTTPRoute) DeepCopyObject() runtime.Object {
	out := &HTTPRoute{TypeMeta: r.TypeMeta, ObjectMeta: *r.ObjectMeta.DeepCopy(), Spec: HTTPRouteSpec{
		ParentRefs: slices.Clone(r.Spec.ParentRefs), Hostnames: slices.Clone(r.Spec.Hostnames), Rules: slices.Clone(r.Spec.Rules),
	}}
	for i := range out.Spec.Rules {
		rule := &out.Spec.Rules[i]
		rule.Matches, rule.BackendRefs = slices.Clone(rule.Matches), slices.Clone(rule.BackendRefs)
	}
	out.Status.Parents = slices.Clone(r.Status.Parents)
	for i := range out.Status.Parents {
		out.Status.Parents[i].Conditions = slices.Clone(out.Status.Parents[i].Conditions)
	}
	return out
}

// DeepCopyObject implements runtime.Object.
func (g *Gateway) DeepCopyObject() runtime.Object {
	return &Gateway{TypeMeta: g.TypeMeta, ObjectMeta: *g.ObjectMeta.DeepCopy(), Status: GatewayStatus{Addresses: slices.Clone(g.Status.Addresses)}}
}

// DeepCopyObject implements runtime.Object.
func (l *HTTPRouteList) DeepCopyObject() runtime.Object {
	out := &HTTPRouteList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy(), Items: make([]HTTPRoute, len(l.Items))}
	for i := range l.Items {
		out.Items[i] = *copied(&l.Items[i])
	}
	return out
}

// DeepCopyObject implements runtime.Object.
func (l *GatewayList) DeepCopyObject() runtime.Object {
	out := &GatewayList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy(), Items: make([]Gateway, len(l.Items))}
	for i := range l.Items {
		out.Items[i] = *copied(&l.Items[i])
	}
	return out
}

func copied[T any, P interface {
	*T
	runtime.Object
}](from P) P {
	return from.DeepCopyObject().(P) //nolint:forcetypeassert // its own type
}

var _, _ metav1.Object = (*HTTPRoute)(nil), (*Gateway)(nil)
