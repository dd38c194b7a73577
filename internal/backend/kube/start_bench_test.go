//go:build cluster

package kube_test

import (
	"fmt"
	"testing"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core"
)

// BenchmarkStart is from submitting a sandbox until it is seen to run, with the cluster's network and with rules of its own:
// test/cluster/kube.sh -test.run none -test.bench Start
func BenchmarkStart(b *testing.B) {
	backends := map[kube.Network]*kube.Backend{}
	for _, n := range []kube.Network{kube.NetworkRecorded, kube.NetworkGuard} {
		cfg := config(b, b.TempDir())
		cfg.RunnerName, cfg.Options.Network = "bench-"+string(n), n
		backends[n] = open(b, cfg)
		defer backends[n].Close()
	}
	for _, n := range []kube.Network{kube.NetworkRecorded, kube.NetworkGuard} {
		b.Run(string(n), func(b *testing.B) {
			wait := seen(b, backends[n])
			for i := 0; b.Loop(); i++ {
				w := job(b, fmt.Sprintf("bench-%s-%d-%d", n, b.N, i), "sleep", "infinity")
				if err := backends[n].Create(b.Context(), w); err != nil {
					b.Fatal(err)
				}
				wait(w.SandboxID, "it runs", func(o *backend.Observation) bool { return runs(o) })
				b.StopTimer()
				_ = backends[n].Stop(b.Context(), w.SandboxID, 0, core.EndDeleted)
				wait(w.SandboxID, "it ends", over)
				_ = backends[n].Delete(b.Context(), w.SandboxID)
				b.StartTimer()
			}
		})
	}
}
