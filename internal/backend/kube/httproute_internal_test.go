package kube

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core"
)

// TestAddressAtGateway: the host is told once some controller takes the route as it is now, and what is said against it otherwise.
func TestAddressAtGateway(t *testing.T) {
	at := gatewayapi.ParentRef{Namespace: "gateways", Name: "edge", SectionName: "https"}
	says := func(ref gatewayapi.ParentRef, who string, conditions ...metav1.Condition) gatewayapi.ParentStatus {
		return gatewayapi.ParentStatus{ParentRef: ref, ControllerName: who, Conditions: conditions}
	}
	accepted := metav1.Condition{Type: "Accepted", Status: metav1.ConditionTrue, ObservedGeneration: 2}
	resolved := metav1.Condition{Type: "ResolvedRefs", Status: metav1.ConditionTrue, ObservedGeneration: 2}
	barred := metav1.Condition{Type: "Accepted", Status: metav1.ConditionFalse, Reason: "NotAllowedByListeners", Message: "not from there", ObservedGeneration: 2}
	broken := metav1.Condition{Type: "ResolvedRefs", Status: metav1.ConditionFalse, Reason: "BackendNotFound", Message: "no Service", ObservedGeneration: 2}
	stale := accepted
	stale.ObservedGeneration = 1
	addressed := &gatewayapi.Gateway{Status: gatewayapi.GatewayStatus{Addresses: []gatewayapi.Address{{Value: "198.51.100.9"}}}}
	elsewhere, other := at, at
	elsewhere.Namespace, other.SectionName = "", "http"
	for name, c := range map[string]struct {
		parents []gatewayapi.ParentStatus
		expects bool
		e       exposure
		address bool
		problem string
	}{
		"nobody says anything":            {e: exposure{gateway: addressed}},
		"taken":                           {parents: []gatewayapi.ParentStatus{says(at, "a", accepted, resolved)}, e: exposure{gateway: &gatewayapi.Gateway{}}, address: true},
		"taken, address expected":         {parents: []gatewayapi.ParentStatus{says(at, "a", accepted)}, expects: true, e: exposure{gateway: &gatewayapi.Gateway{}}},
		"taken, address there":            {parents: []gatewayapi.ParentStatus{says(at, "a", accepted)}, expects: true, e: exposure{gateway: addressed}, address: true},
		"taken as it was":                 {parents: []gatewayapi.ParentStatus{says(at, "a", stale)}, e: exposure{gateway: addressed}},
		"refused":                         {parents: []gatewayapi.ParentStatus{says(at, "a", barred)}, e: exposure{gateway: addressed}, problem: "a says of the route: Accepted is False: NotAllowedByListeners: not from there"},
		"without a backend":               {parents: []gatewayapi.ParentStatus{says(at, "a", accepted, broken)}, e: exposure{gateway: addressed}, problem: "a says of the route: ResolvedRefs is False: BackendNotFound: no Service"},
		"refused by one, taken by one":    {parents: []gatewayapi.ParentStatus{says(at, "a", barred), says(at, "b", accepted)}, e: exposure{gateway: addressed}, address: true},
		"taken elsewhere":                 {parents: []gatewayapi.ParentStatus{says(elsewhere, "a", accepted), says(other, "a", accepted)}, e: exposure{gateway: addressed}},
		"no Gateway":                      {e: exposure{}, problem: "the cluster has no Gateway gateways/edge"},
		"Gateways cannot be seen":         {e: exposure{unknown: "it may not"}, problem: "it may not"},
		"refused, and no Gateway is seen": {parents: []gatewayapi.ParentStatus{says(at, "a", barred)}, e: exposure{unknown: "it may not"}, problem: "NotAllowedByListeners"},
	} {
		t.Run(name, func(t *testing.T) {
			route := &gatewayapi.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "own", Generation: 2}, Spec: gatewayapi.HTTPRouteSpec{
				ParentRefs: []gatewayapi.ParentRef{at}, Hostnames: []string{"box.example"}, Rules: []gatewayapi.Rule{{BackendRefs: []gatewayapi.BackendRef{{Port: 8080}}}},
			}}
			route.Status.Parents = c.parents
			if c.expects {
				route.Annotations = map[string]string{annotationExpects: "true"}
			}
			c.e.route = route
			got := c.e.address(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{AnnotationHTTPRoute: "x", AnnotationIngress: "web"}}})
			want := &core.Service{Mode: "web", Problem: got.Problem, Ports: []core.ServicePort{{ContainerPort: 8080, Protocol: "TCP"}}}
			if c.address {
				want.Address = "box.example"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if (c.problem == "") != (got.Problem == "") || !strings.Contains(got.Problem, c.problem) {
				t.Errorf("the problem is %q, want %q", got.Problem, c.problem)
			}
		})
	}
}

// TestCopies: a copy shares nothing with what it is of.
func TestCopies(t *testing.T) {
	route := gatewayapi.HTTPRoute{Spec: gatewayapi.HTTPRouteSpec{
		ParentRefs: []gatewayapi.ParentRef{{Name: "a"}}, Hostnames: []string{"a"},
		Rules: []gatewayapi.Rule{{Matches: []gatewayapi.Match{{Path: gatewayapi.PathMatch{Value: "a"}}}, BackendRefs: []gatewayapi.BackendRef{{Name: "a"}}}},
	}, Status: gatewayapi.HTTPRouteStatus{Parents: []gatewayapi.ParentStatus{{Conditions: []metav1.Condition{{Reason: "a"}}}}}}
	list := gatewayapi.HTTPRouteList{Items: []gatewayapi.HTTPRoute{route}}
	c := list.DeepCopyObject().(*gatewayapi.HTTPRouteList).Items[0] //nolint:forcetypeassert // its own type
	if diff := cmp.Diff(route, c); diff != "" {
		t.Errorf("-of +copy:\n%s", diff)
	}
	c.Spec.ParentRefs[0].Name, c.Spec.Hostnames[0], c.Spec.Rules[0].Matches[0].Path.Value, c.Spec.Rules[0].BackendRefs[0].Name = "b", "b", "b", "b"
	c.Status.Parents[0].Conditions[0].Reason = "b"
	for _, text := range []string{
		route.Spec.ParentRefs[0].Name, route.Spec.Hostnames[0], route.Spec.Rules[0].Matches[0].Path.Value, route.Spec.Rules[0].BackendRefs[0].Name,
		route.Status.Parents[0].Conditions[0].Reason,
	} {
		if text != "a" {
			t.Error("the copy changed what it is of")
		}
	}
	gateways := gatewayapi.GatewayList{Items: []gatewayapi.Gateway{{Status: gatewayapi.GatewayStatus{Addresses: []gatewayapi.Address{{Value: "a"}}}}}}
	gateways.DeepCopyObject().(*gatewayapi.GatewayList).Items[0].Status.Addresses[0].Value = "b" //nolint:forcetypeassert // its own type
	if gateways.Items[0].Status.Addresses[0].Value != "a" {
		t.Error("the copy changed what it is of")
	}
}
