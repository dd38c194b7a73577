package control_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
)

// benchWorld is a server with a profile of ordinary size, bound with an override.
func benchWorld(b *testing.B, runners ...string) (*world, *specpb.Launch) {
	b.Helper()
	w := newWorld(b, runners...)
	agent := w.newProfile("agent", limited)
	for name := range w.runners {
		w.must(w.bind(name, core.Binding{ProfileID: agent.ID, Default: true, Overrides: w.layer(`{"node_selector":{"pool":"a"}}`)}))
	}
	return w, &specpb.Launch{Command: "sleep", Args: []string{"infinity"}, Tags: []string{"bench"}, ResourceLimits: &specpb.ResourceAmounts{Cpu: "500m", Memory: "512Mi"}}
}

// BenchmarkLaunch is a launch from the call to the runner's acceptance: plan, durable commit on SQLite, hand-over to the fake
// backend. The write that makes it RUNNING goes on beside it; with end, so does a third that ends it.
func BenchmarkLaunch(b *testing.B) {
	for _, callers := range []int{1, 32} {
		for _, end := range []bool{false, true} {
			b.Run(fmt.Sprintf("callers=%d/end=%v", callers, end), func(b *testing.B) {
				w, req := benchWorld(b)
				w.running(req) // warm
				latencies := make([]time.Duration, b.N)
				var next atomic.Int64
				var group sync.WaitGroup
				b.ResetTimer()
				for range callers {
					group.Go(func() {
						for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
							start := time.Now()
							sb, _, err := w.svc.Launch(w.ctx(), w.user, req)
							latencies[i] = time.Since(start)
							if err != nil {
								b.Error(err)
								return
							}
							if end {
								w.fakes["r1"].Exit(sb.ID, 0)
							}
						}
					})
				}
				group.Wait()
				report(b, latencies)
			})
		}
	}
}

// BenchmarkLaunchAtRate is the latency of launches that come 200 a second, whether or not earlier ones are done.
func BenchmarkLaunchAtRate(b *testing.B) {
	const perSecond = 200
	w, req := benchWorld(b)
	w.running(req)
	latencies := make([]time.Duration, b.N)
	var group sync.WaitGroup
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		group.Go(func() {
			start := time.Now()
			sb, _, err := w.svc.Launch(w.ctx(), w.user, req)
			latencies[i] = time.Since(start)
			if err != nil {
				b.Error(err)
				return
			}
			w.fakes["r1"].Exit(sb.ID, 0)
		})
	}
	group.Wait()
	report(b, latencies)
}

// BenchmarkPlanSnapshot is what a launch pays for its snapshot of 20 runners.
func BenchmarkPlanSnapshot(b *testing.B) {
	var runners []string
	for i := range 20 {
		runners = append(runners, fmt.Sprintf("r%d", i))
	}
	w, req := benchWorld(b, runners...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.svc.Plan(w.ctx(), w.user, req); err != nil {
			b.Fatal(err)
		}
	}
}

func report(b *testing.B, latencies []time.Duration) {
	b.Helper()
	elapsed := b.Elapsed()
	slices.Sort(latencies)
	at := func(q float64) float64 {
		return float64(latencies[int(q*float64(len(latencies)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(float64(len(latencies))/elapsed.Seconds(), "launches/s")
}
