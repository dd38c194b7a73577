// Package gatewayapi has of Kubernetes' Gateway API what Berm writes and reads: HTTPRoutes, and the addresses of Gateways. The API is served by
// resources that a cluster's owner installs, and its own module would bring much more than these fields.
package gatewayapi

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is what the API is served as.
var GroupVersion = schema.GroupVersion{Group: "gateway.networking.k8s.io", Version: "v1"}

// The resources and kinds.
const (
	HTTPRoutes = "httproutes"
	Gateways   = "gateways"

	KindGateway = "Gateway"
	KindRoute   = "HTTPRoute"
)

// AddToScheme makes the types known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &HTTPRoute{}, &HTTPRouteList{}, &Gateway{}, &GatewayList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// HTTPRoute leads requests for host names, which come to a Gateway, to Services.
type HTTPRoute struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec   HTTPRouteSpec   `json:"spec"`
	Status HTTPRouteStatus `json:"status"`
}

// HTTPRouteSpec is what is wanted. What the API fills in where nothing is said is said: elements without a name can only be compared as a whole.
type HTTPRouteSpec struct {
	ParentRefs []ParentRef `json:"parentRefs"`
	Hostnames  []string    `json:"hostnames"`
	Rules      []Rule      `json:"rules"`
}

// ParentRef names a Gateway. Namespace is that of the route where it is empty, SectionName the name of a listener.
type ParentRef struct {
	Group       string `json:"group,omitempty"`
	Kind        string `json:"kind,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name"`
	SectionName string `json:"sectionName,omitempty"`
}

// Rule leads what matches to backends.
type Rule struct {
	Matches     []Match      `json:"matches"`
	BackendRefs []BackendRef `json:"backendRefs"`
}

// Match is by the path alone.
type Match struct {
	Path PathMatch `json:"path"`
}

// PathMatch is a path, and how it is compared.
type PathMatch struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// BackendRef names a port of a Service in the namespace of the route.
type BackendRef struct {
	Group  string `json:"group"`
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Port   int32  `json:"port"`
	Weight int32  `json:"weight"`
}

// HTTPRouteStatus is what controllers make of a route, each for the parents that are its own.
type HTTPRouteStatus struct {
	Parents []ParentStatus `json:"parents,omitempty"`
}

// ParentStatus is what one controller says of one parent.
type ParentStatus struct {
	ParentRef      ParentRef          `json:"parentRef"`
	ControllerName string             `json:"controllerName"`
	Conditions     []metav1.Condition `json:"conditions,omitempty"`
}

// HTTPRouteList is several.
type HTTPRouteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []HTTPRoute `json:"items"`
}

// Gateway is what listens for routes.
type Gateway struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Status GatewayStatus `json:"status"`
}

// GatewayStatus has the addresses that a Gateway was given.
type GatewayStatus struct {
	Addresses []Address `json:"addresses,omitempty"`
}

// Address is an address, or a name.
type Address struct {
	Value string `json:"value"`
}

// GatewayList is several.
type GatewayList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Gateway `json:"items"`
}
