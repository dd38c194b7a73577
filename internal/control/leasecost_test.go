package control_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
)

// leasedWorld is a server with so many sandboxes under one lease; one of several on its database, if it has a place.
func leasedWorld(t testing.TB, place string, sandboxes int) (w *world, counted *counting, lease string) {
	t.Helper()
	w = newWorld(t)
	w.close()
	w.open()
	w.svc.Close()
	counted = &counting{Store: w.store}
	w.svc = w.serverAt(counted, place)
	runner := "r1"
	if place != "" {
		runner = "lab"
		v, _, err := w.svc.CreateRunner(w.ctx(), w.admin, control.RunnerInput{RunnerID: runner, Zone: "lab", ClusterName: "lab", Bindings: []core.Binding{{ProfileID: w.profile.ID, Default: true}}})
		w.must(err)
		w.runners[runner], w.fakes[runner] = v.Runner, w.fakes["r1"]
	}
	w.attach(runner)
	l := w.newLease()
	for range sandboxes {
		w.running(&specpb.Launch{LeaseId: l.ID, RunnerIds: []string{runner}})
	}
	return w, counted, l.ID
}

// TestRenewalsAreCheap: a server that has its database to itself writes nothing for a renewal; others write once, however many sandboxes
// there are. Nobody asks a runner.
func TestRenewalsAreCheap(t *testing.T) {
	for place, each := range map[string]int64{"": 0, "1111111111111111": 1} {
		w, counted, lease := leasedWorld(t, place, 5)
		before := counted.updates.Load()
		const renewals = 100
		for range renewals {
			w.renew(w.svc, lease)
		}
		// What the servers tell each other meanwhile comes on top.
		if n := counted.updates.Load() - before; n < renewals*each || n > renewals*each+renewals/2 {
			t.Errorf("%d commits for %d renewals, at place %q", n, renewals, place)
		}
	}
}

// BenchmarkRenewLease is a renewal of a lease of many sandboxes, by 32 callers: in memory, and written for other servers.
func BenchmarkRenewLease(b *testing.B) {
	for name, place := range map[string]string{"alone": "", "shared": "1111111111111111"} {
		for _, sandboxes := range []int{1, 1000} {
			b.Run(name+"/sandboxes="+strconv.Itoa(sandboxes), func(b *testing.B) {
				w, counted, lease := leasedWorld(b, place, sandboxes)
				before := counted.updates.Load()
				var failed atomic.Int64
				b.SetParallelism(16)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := w.svc.RenewLease(w.ctx(), w.user, lease); err != nil {
							failed.Add(1)
						}
					}
				})
				b.StopTimer()
				b.ReportMetric(float64(counted.updates.Load()-before)/float64(b.N), "commits/op")
				if failed.Load() > 0 {
					b.Errorf("%d renewals failed", failed.Load())
				}
			})
		}
	}
}
