package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
)

// Limits of the series that are made anew for each scrape.
const (
	// MaxRunners and MaxPools are how many runners and warm pools have series of their own; those beyond are counted.
	MaxRunners = 1000
	MaxPools   = 4000
)

// Now is how things are at the moment.
type Now struct {
	Pools   []control.RunnerPool
	Runners []control.RunnerHealth
}

// liveStatuses are those that a sandbox can have before it ends.
var liveStatuses = []core.Status{core.StatusPending, core.StatusCreating, core.StatusRunning, core.StatusPaused, core.StatusTerminating}

func (n *Now) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	runners, pools := n.Runners[:min(len(n.Runners), MaxRunners)], n.Pools[:min(len(n.Pools), MaxPools)]
	omitted := gauge(r, "berm_series_omitted", "Runners and warm pools beyond the limit, which have no series.", "what")
	omitted.WithLabelValues("runners").Set(float64(len(n.Runners) - len(runners)))
	omitted.WithLabelValues("pools").Set(float64(len(n.Pools) - len(pools)))
	runnerSeries(r, runners)
	poolSeries(r, pools)
	return r
}

func runnerSeries(r *prometheus.Registry, runners []control.RunnerHealth) {
	connected := gauge(r, "berm_runner_connected", "1 while the process of a runner is in contact.", "org", "runner")
	heard := gauge(r, "berm_runner_last_heartbeat_timestamp_seconds", "When the process of a runner was last in contact, in seconds since 1970; 0 for never.", "org", "runner")
	capacity := gauge(r, "berm_runner_capacity", "What may be reserved on a runner, by resource (cpu in CPUs, memory in bytes, gpus, sandboxes).", "org", "runner", "resource")
	reserved := gauge(r, "berm_runner_reserved", "What is reserved on a runner, by resource.", "org", "runner", "resource")
	sandboxes := gauge(r, "berm_sandboxes", "Sandboxes that have not ended, by runner and status.", "org", "runner", "status")
	amounts := func(g *prometheus.GaugeVec, h *control.RunnerHealth, a core.Amounts) {
		g.WithLabelValues(h.OrgID, h.RunnerID, "cpu").Set(float64(a.CPUMillis) / 1000)
		g.WithLabelValues(h.OrgID, h.RunnerID, "memory").Set(float64(a.MemoryBytes))
		g.WithLabelValues(h.OrgID, h.RunnerID, "gpus").Set(float64(a.GPUs))
		g.WithLabelValues(h.OrgID, h.RunnerID, "sandboxes").Set(float64(a.Sandboxes))
	}
	for i := range runners {
		h := &runners[i]
		connected.WithLabelValues(h.OrgID, h.RunnerID).Set(truth(h.Connected))
		at := 0.0
		if !h.LastHeartbeat.IsZero() {
			at = float64(h.LastHeartbeat.UnixMilli()) / 1000
		}
		heard.WithLabelValues(h.OrgID, h.RunnerID).Set(at)
		amounts(capacity, h, h.Capacity)
		amounts(reserved, h, h.Reserved)
		for _, status := range liveStatuses {
			sandboxes.WithLabelValues(h.OrgID, h.RunnerID, string(status)).Set(float64(h.Sandboxes[status]))
		}
	}
}

func poolSeries(r *prometheus.Registry, pools []control.RunnerPool) {
	series := func(name, help string, value func(*control.RunnerPool) float64) {
		g := gauge(r, name, help, "org", "runner", "profile")
		for i := range pools {
			g.WithLabelValues(pools[i].OrgID, pools[i].RunnerID, pools[i].ProfileName).Set(value(&pools[i]))
		}
	}
	series("berm_warm_pool_size", "How many sandboxes are to be kept prepared.", func(p *control.RunnerPool) float64 { return float64(p.Size) })
	series("berm_warm_pool_ready", "How many prepared sandboxes wait.", func(p *control.RunnerPool) float64 { return float64(p.Ready) })
	series("berm_warm_pool_preparing", "How many sandboxes are being prepared.", func(p *control.RunnerPool) float64 { return float64(p.Preparing) })
	series("berm_warm_pool_failing", "1 while no sandbox can be prepared.", func(p *control.RunnerPool) float64 { return truth(p.Problem != "") })
}

func gauge(r *prometheus.Registry, name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	r.MustRegister(g)
	return g
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
