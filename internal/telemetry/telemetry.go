// Package telemetry is what a server counts, for Prometheus.
//
// Labels are few and bounded: results and reasons are constants of this program, and runners and bindings are named where there is one
// series for each. Nothing is counted by sandbox, user or image.
package telemetry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
)

// Metrics are those of one server. It is a control.Meter.
type Metrics struct {
	registry *prometheus.Registry
	launches *prometheus.CounterVec
	warm     *prometheus.CounterVec
}

var _ control.Meter = (*Metrics)(nil)

// New returns metrics that have counted nothing. Series whose labels are known are there from the start, so that a first event is seen
// as an increase.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		launches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berm_launches_total", Help: "Answers to launches, by result (accepted, refused, failed) and the reason of a refusal or failure.",
		}, []string{"result", "reason"}),
		warm: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berm_warm_launches_total", Help: "Launches on runners that keep sandboxes prepared, by whether they got one (hit, miss) and why not.",
		}, []string{"result", "reason"}),
	}
	m.registry.MustRegister(m.launches, m.warm, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.launches.WithLabelValues(string(control.LaunchAccepted), "")
	m.warm.WithLabelValues(core.WarmHit, "")
	for _, r := range core.WarmReasons() {
		m.warm.WithLabelValues(core.WarmMiss, string(r))
	}
	return m
}

// Launched implements control.Meter.
func (m *Metrics) Launched(result control.LaunchResult, reason string) {
	m.launches.WithLabelValues(string(result), reason).Inc()
}

// Warm implements control.Meter.
func (m *Metrics) Warm(reason core.WarmReason) {
	result := core.WarmHit
	if reason != "" {
		result = core.WarmMiss
	}
	m.warm.WithLabelValues(result, string(reason)).Inc()
}

// Pool is how a warm pool is now.
type Pool struct {
	Org, Runner, Profile   string
	Size, Ready, Preparing int
	// Failing: none can be prepared.
	Failing bool
}

// Handler serves what was counted, and how pools are.
func (m *Metrics) Handler(pools []Pool) http.Handler {
	now := prometheus.NewRegistry()
	labels := []string{"org", "runner", "profile"}
	gauge := func(name, help string, value func(Pool) float64) {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		for _, p := range pools {
			g.WithLabelValues(p.Org, p.Runner, p.Profile).Set(value(p))
		}
		now.MustRegister(g)
	}
	gauge("berm_warm_pool_size", "How many sandboxes are to be kept prepared.", func(p Pool) float64 { return float64(p.Size) })
	gauge("berm_warm_pool_ready", "How many prepared sandboxes wait.", func(p Pool) float64 { return float64(p.Ready) })
	gauge("berm_warm_pool_preparing", "How many sandboxes are being prepared.", func(p Pool) float64 { return float64(p.Preparing) })
	gauge("berm_warm_pool_failing", "1 while no sandbox can be prepared.", func(p Pool) float64 {
		if p.Failing {
			return 1
		}
		return 0
	})
	return promhttp.HandlerFor(prometheus.Gatherers{m.registry, now}, promhttp.HandlerOpts{})
}
