package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/bermv1"
	"github.com/bermhq/berm/internal/server/controlplane"
	"github.com/bermhq/berm/internal/server/openapi"
	"github.com/bermhq/berm/internal/server/rest"
	"github.com/bermhq/berm/internal/server/wire"
)

// readyTimeout bounds how long readiness waits for the store.
const readyTimeout = 5 * time.Second

// routes sends REST requests to fronts by prefix. It is no http.ServeMux, which would rewrite paths with two slashes or dots in
// them: such paths name files in sandboxes.
type routes struct {
	server                    *Server
	byHand, dataplane, bermv1 http.Handler
	openapi                   http.Handler
	// metrics is nil where nothing is counted.
	metrics http.Handler
	// link is nil where no runner can connect.
	link http.Handler
}

// linkPrefix is where runners connect.
const linkPrefix = "/berm/link/"

// ServeHTTP implements http.Handler.
func (t *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const zones = bermv1.Prefix + "zones"
	switch path := r.URL.EscapedPath(); {
	case path == "/livez":
		t.health(w, r, func(context.Context) error { return nil })
	case path == "/readyz":
		t.health(w, r, t.ready)
	case path == openapi.Path:
		t.describe(w, r)
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
		t.fail(w, &wire.HTTPError{Status: http.StatusUnsupportedMediaType, Err: fault.Invalidf(fault.ReasonInvalidRequest,
			"content type %.80q over %s is not served", r.Header.Get("Content-Type"), r.Proto).WithHint("gRPC needs HTTP/2 and the content type application/grpc")})
	case path == metricsPath && t.metrics != nil:
		t.metrics.ServeHTTP(w, r)
	case strings.HasPrefix(path, linkPrefix) && t.link != nil:
		t.link.ServeHTTP(w, r)
	case strings.HasPrefix(path, controlplane.Prefix), path == zones, strings.HasPrefix(path, zones+"/") && !strings.Contains(path[len(zones)+1:], "/"):
		t.byHand.ServeHTTP(w, r)
	case strings.HasPrefix(path, "/v1beta2/"):
		t.dataplane.ServeHTTP(w, r)
	case strings.HasPrefix(path, bermv1.Prefix):
		t.bermv1.ServeHTTP(w, r)
	default:
		t.fail(w, rest.NoRoute(w, r, nil))
	}
}

// health answers probes, which have no token and are not logged.
func (t *routes) health(w http.ResponseWriter, r *http.Request, check func(context.Context) error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		t.fail(w, rest.NoRoute(w, r, []string{http.MethodGet, http.MethodHead}))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := check(ctx); err != nil {
		t.fail(w, err)
		return
	}
	rest.WriteJSON(w, []byte(`{"status":"ok"}`))
}

// describe answers with the description of this interface, to everybody.
func (t *routes) describe(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		t.fail(w, rest.NoRoute(w, r, []string{http.MethodGet, http.MethodHead}))
		return
	}
	t.openapi.ServeHTTP(w, r)
}

func (t *routes) ready(ctx context.Context) error {
	if t.server.port.Draining() {
		return fault.New(fault.Unavailable, "SHUTTING_DOWN", "the server is shutting down")
	}
	return t.server.control.Ready(ctx)
}

// fail answers outside the chain.
func (t *routes) fail(w http.ResponseWriter, err error) {
	id := t.server.newID()
	w.Header().Set("X-Request-Id", id)
	wire.WriteError(w, err, id)
}
