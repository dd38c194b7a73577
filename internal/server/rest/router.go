package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

// Handler serves one route. param is the decoded variable of its path, "" when there is none. An error that it returns is
// sent; it must not have written then.
type Handler func(w http.ResponseWriter, r *http.Request, param string) error

// Router finds handlers by method and path. Unlike http.ServeMux it never rewrites a path, and it says no in JSON.
type Router struct{ routes []route }

type route struct {
	method string
	// fixed is the path without its variable, which is the last segment when there is one; verb follows it behind a colon.
	fixed, verb string
	variable    bool
	handle      Handler
}

// Handle adds a route. The path may end in /{name} or /{name}:verb.
func (rt *Router) Handle(method, path string, h Handler) {
	r := route{method: method, fixed: path, handle: h}
	if i := strings.LastIndex(path, "/{"); i >= 0 {
		r.fixed, r.variable = path[:i+1], true
		_, r.verb, _ = strings.Cut(path[i:], "}:")
	}
	rt.routes = append(rt.routes, r)
}

// ServeHTTP implements http.Handler.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := rt.serve(w, r); err != nil {
		edge.Fail(r.Context(), w, err)
	}
}

func (rt *Router) serve(w http.ResponseWriter, r *http.Request) error {
	var allowed []string
	for _, route := range rt.routes {
		param, ok := route.match(r.URL.EscapedPath())
		if !ok {
			continue
		}
		if route.method != r.Method {
			allowed = append(allowed, route.method)
			continue
		}
		decoded, err := url.PathUnescape(param)
		if err != nil {
			return fault.Invalidf(fault.ReasonSyntax, "the path is not valid percent-encoding: %v", err)
		}
		return route.handle(w, r, decoded)
	}
	return NoRoute(w, r, allowed)
}

// match returns the variable, still encoded, of a path that the route is for.
func (rt *route) match(path string) (string, bool) {
	if !rt.variable {
		return "", path == rt.fixed
	}
	param, ok := strings.CutPrefix(path, rt.fixed)
	if !ok || param == "" || strings.Contains(param, "/") {
		return "", false
	}
	before, verb, _ := cutLast(param, ":")
	if rt.verb == "" {
		return param, verb == ""
	}
	return before, verb == rt.verb && before != ""
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// NoRoute returns the error of a path that nothing serves: 405 when it is served with other methods, else 404.
func NoRoute(w http.ResponseWriter, r *http.Request, allowed []string) error {
	if len(allowed) == 0 {
		return fault.NotFoundf("PATH_NOT_FOUND", "nothing is served at %s", clipPath(r))
	}
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(slices.Compact(allowed), ", "))
	return &wire.HTTPError{Status: http.StatusMethodNotAllowed, Err: fault.New(fault.Unimplemented, "METHOD_NOT_ALLOWED",
		"%s is not served at %s; use %s", r.Method, clipPath(r), w.Header().Get("Allow"))}
}

func clipPath(r *http.Request) string {
	const most = 200
	path := r.URL.EscapedPath()
	if len(path) > most {
		return path[:most] + "…"
	}
	return path
}
