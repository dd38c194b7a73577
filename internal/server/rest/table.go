package rest

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bermhq/berm/internal/server/edge"
)

// rule is one google.api.http binding.
type rule struct {
	method   protoreflect.MethodDescriptor
	verb     string
	template string
	// body says that the request body is the message ("*"); no service here uses a single field.
	body bool
}

// table knows every route of a gateway by HTTP method and pattern.
type table struct{ rules map[string]*rule }

func newTable(services []protoreflect.FullName) (*table, error) {
	t := &table{rules: map[string]*rule{}}
	for _, name := range services {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
		methods := d.(protoreflect.ServiceDescriptor).Methods() //nolint:forcetypeassert // a service name
		for i := range methods.Len() {
			t.add(methods.Get(i))
		}
	}
	return t, nil
}

func (t *table) add(m protoreflect.MethodDescriptor) {
	http, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || http == nil {
		return
	}
	for _, binding := range append([]*annotations.HttpRule{http}, http.GetAdditionalBindings()...) {
		r := &rule{method: m, body: binding.GetBody() == "*"}
		r.verb, r.template = verbOf(binding)
		t.rules[r.verb+" "+patternOf(r.template)] = r
	}
}

func verbOf(r *annotations.HttpRule) (verb, template string) {
	switch p := r.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	}
	return "", ""
}

// patternOf spells a template as runtime.Pattern does: a variable without a form matches one segment.
func patternOf(template string) string {
	return regexp.MustCompile(`\{([a-z_.]+)\}`).ReplaceAllString(template, "{$1=*}")
}

// unrouted answers a path or method without a route.
func (t *table) unrouted(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, _ int) {
	var allowed []string
	for _, rule := range t.rules {
		if matches(rule.template, r.URL.EscapedPath()) && rule.verb != r.Method {
			allowed = append(allowed, rule.verb)
		}
	}
	edge.Fail(ctx, w, NoRoute(w, r, allowed))
}

// matches reports whether a path has the form of a template.
func matches(template, path string) bool {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	for i, segment := range want {
		if strings.HasSuffix(segment, "=**}") {
			return len(have) >= i
		}
		if i >= len(have) || have[i] == "" && i > 0 || !strings.HasPrefix(segment, "{") && segment != have[i] {
			return false
		}
	}
	return len(want) == len(have)
}
