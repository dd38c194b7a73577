package server

import (
	"net/http"

	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/rest"
	"github.com/bermhq/berm/internal/telemetry"
)

// metricsPath is where Prometheus looks by itself. It needs the token of an operator: what is counted there is of all organizations.
const metricsPath = "/metrics"

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		edge.Fail(r.Context(), w, rest.NoRoute(w, r, []string{http.MethodGet}))
		return
	}
	pools, err := s.control.WarmPools(r.Context(), edge.Principal(r.Context()))
	if err != nil {
		edge.Fail(r.Context(), w, err)
		return
	}
	runners, err := s.control.RunnerHealth(r.Context(), edge.Principal(r.Context()))
	if err != nil {
		edge.Fail(r.Context(), w, err)
		return
	}
	s.metrics.Handler(telemetry.Now{Pools: pools, Runners: runners}).ServeHTTP(w, r)
}
