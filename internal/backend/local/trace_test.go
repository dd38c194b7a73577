package local

import (
	"sort"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim"
)

func TestTraceSteps(t *testing.T) {
	b := open(t, withRuntime("crun"))
	m := map[string][]time.Duration{}
	for range 60 {
		w := work()
		at := time.Now()
		if err := b.Create(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		m["1 create"] = append(m["1 create"], time.Since(at))
		client, err := b.Backend.await(t.Context(), w.SandboxID)
		if err != nil {
			t.Fatal(err)
		}
		m["5 running"] = append(m["5 running"], time.Since(at))
		p, err := client.Exec(t.Context(), shim.ExecRequest{Argv: []string{"echo", "hi"}})
		if err != nil {
			t.Fatal(err)
		}
		p.Recv()
		m["6 first output"] = append(m["6 first output"], time.Since(at))
		p.Close()
		r, _ := shim.ReadRecord(b.place.shimState(w.SandboxID))
		m["2 shim born"] = append(m["2 shim born"], r.CreatedAt.Sub(at))
		m["4 started"] = append(m["4 started"], r.StartedAt.Sub(at))
		b.Stop(t.Context(), w.SandboxID, 0, core.EndDeleted)
		b.ended(w.SandboxID)
		b.Delete(t.Context(), w.SandboxID)
	}
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		t.Logf("%s p50 %v", k, percentile(m[k], 50))
	}
	_ = backend.PhaseCreating
}
