package control_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
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

// BenchmarkPreview is a preview of an edit of a profile that 100 runners bind, over the last 1,000 launches; refused: the edit would
// refuse all of them.
func BenchmarkPreview(b *testing.B) {
	var runners []string
	for i := range 100 {
		runners = append(runners, fmt.Sprintf("r%d", i))
	}
	w, req := benchWorld(b, runners...)
	for range 1000 {
		sb, _, err := w.svc.Launch(w.ctx(), w.user, req)
		w.must(err)
		w.fakes[sb.RunnerID].Exit(sb.ID, 0)
	}
	for name, text := range map[string]string{
		"changed": `{"resource_defaults":{"memory_limit":"3Gi"},"tags":["x"]}`, "refused": `{"guardrails":{"resources":{"max_memory":"256Mi"}},"resource_defaults":{"memory_limit":"128Mi"}}`,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				got, err := w.svc.Preview(w.ctx(), w.admin, 1000, w.edited("agent", text))
				if err != nil || got.LaunchesSeen != 1000 || len(got.Launches) == 0 {
					b.Fatalf("%+v %v", got, err)
				}
			}
		})
	}
}

// BenchmarkEditOf200Bindings is a PATCH of the list of a runner with 200 bindings, every one with an override.
func BenchmarkEditOf200Bindings(b *testing.B) {
	w := newWorld(b)
	list := []core.Binding{{ProfileID: w.profile.ID, Default: true}}
	for i := range 199 {
		list = append(list, core.Binding{ProfileID: w.profile.ID, Alias: fmt.Sprintf("b%d", i), Overrides: w.layer(`{"tags":["a"],"resource_defaults":{"memory_limit":"1Gi"}}`)})
	}
	latencies := []time.Duration{}
	for i := 0; b.Loop(); i++ {
		list[1].Warm, list[1].Alias = 0, fmt.Sprintf("x%d", i)
		start := time.Now()
		w.must(w.bind("r1", list...))
		latencies = append(latencies, time.Since(start))
	}
	report(b, latencies)
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

// BenchmarkWatch is how long it takes from an edit that was acknowledged until all who watch have been told, beside launches.
func BenchmarkWatch(b *testing.B) {
	for _, c := range []struct {
		n      int
		shared bool
	}{{1, false}, {100, false}, {100, true}} {
		n := c.n
		b.Run(fmt.Sprintf("watchers=%d/postgresql=%v", n, c.shared), func(b *testing.B) {
			dsn := ""
			if c.shared {
				dsn = postgres.Database(b)
			}
			w := newWorldOn(b, dsn, control.Config{}, fake.Config{})
			profile := w.newProfile("watched", `{}`)
			told := make(chan time.Time, n)
			var ready sync.WaitGroup
			ready.Add(n)
			ctx, cancel := context.WithCancel(w.ctx())
			defer cancel()
			for range n {
				go func() {
					events, err := w.svc.Watch(ctx, w.user, control.WatchQuery{Kinds: []string{string(store.KindProfile)}})
					if err != nil {
						b.Error(err)
						return
					}
					for e, err := range events {
						if err != nil {
							b.Error(err)
							return
						}
						if e.Mark {
							ready.Done()
						} else {
							told <- time.Now()
						}
					}
				}()
			}
			ready.Wait()
			delays := make([]time.Duration, 0, b.N)
			b.ResetTimer()
			for i := range b.N {
				_, _, err := w.svc.UpdateProfile(w.ctx(), w.admin, profile.ID, control.ProfilePatch{
					Mask: []string{"description"}, Profile: control.ProfileInput{Description: fmt.Sprint(i)},
				})
				if err != nil {
					b.Fatal(err)
				}
				acknowledged := time.Now()
				for range n {
					delays = append(delays, (<-told).Sub(acknowledged))
				}
			}
			slices.Sort(delays)
			b.ReportMetric(float64(delays[len(delays)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds())/1000, "ms-p99")
		})
	}
}
