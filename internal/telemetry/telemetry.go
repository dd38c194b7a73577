// Package telemetry is what a server counts, for Prometheus.
//
// Labels are few and bounded: results, reasons, phases and statuses are constants of this program, and runners and bindings are named
// where there is one series for each, of MaxRunners and MaxPools at most. Nothing is counted by sandbox, user or image.
package telemetry

import (
	"net/http"
	"time"

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
	phases   *prometheus.HistogramVec
}

var _ control.Meter = (*Metrics)(nil)

// phaseBuckets reach from half a millisecond, a plan, to eight minutes, a large image over a slow line.
var phaseBuckets = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 120, 480}

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
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "berm_launch_phase_seconds", Help: "How long each phase of launches took, and all of them together (running).", Buckets: phaseBuckets,
		}, []string{"phase"}),
	}
	m.registry.MustRegister(m.launches, m.warm, m.phases, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.launches.WithLabelValues(string(control.LaunchAccepted), "")
	m.warm.WithLabelValues(core.WarmHit, "")
	for _, r := range core.WarmReasons() {
		m.warm.WithLabelValues(core.WarmMiss, string(r))
	}
	for _, p := range control.LaunchPhases() {
		m.phases.WithLabelValues(string(p))
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

// Took implements control.Meter.
func (m *Metrics) Took(phase control.LaunchPhase, d time.Duration) {
	m.phases.WithLabelValues(string(phase)).Observe(d.Seconds())
}

// Handler serves what was counted, and how things are.
func (m *Metrics) Handler(now Now) http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers{m.registry, now.registry()}, promhttp.HandlerOpts{})
}
