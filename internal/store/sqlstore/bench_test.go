package sqlstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

const benchOrg = "org-bench"

var benchIDs atomic.Int64

// benchSandbox is as large as a real one: a decision of 6 KiB, a request with an environment, two tags.
func benchSandbox(i int64) *core.Sandbox {
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Millisecond)
	return &core.Sandbox{
		ID: fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(i*2654435761), i), OrgID: benchOrg, RunnerUUID: fmt.Sprintf("runner-uuid-%d", i%10), RunnerID: fmt.Sprintf("r%d", i%10),
		ProfileID: "5b7f3a52-0000-4000-8000-000000000001", ProfileName: fmt.Sprintf("agent-%d", i%20), ProfileRevision: 3, RunnerRevision: 2, ZoneName: "us-east", ZoneRevision: 1,
		Status: core.StatusPending, Observation: core.ObservationCurrent, Tags: []string{"ci", fmt.Sprintf("run-%d", i%1000), fmt.Sprintf("half-%d", i%2)},
		CreatedBy: "token:bench", UserID: fmt.Sprintf("user-%d", i%50), CreatedAt: at, ExpiresAt: at.Add(time.Hour),
		Reserved: core.Amounts{CPUMillis: 500, MemoryBytes: 512 << 20, Sandboxes: 1}, CPULimitMillis: 2000,
		Digest:   "sha256:" + strings.Repeat("ab", 32),
		Decision: json.RawMessage(`{"layers":"` + strings.Repeat("0123456789abcdef", 384) + `"}`),
		Launch: &specpb.Launch{ContainerImage: "python:3.11", Command: "python", Args: []string{"-c", "print(1)"},
			EnvironmentVariables: map[string]string{"A": "1", "B": "2", "PATH": "/usr/bin"}},
		Timeline: []core.Event{{Name: "accepted", At: at}, {Name: "planned", At: at, Message: "runner r1, profile agent"}, {Name: "reserved", At: at}},
	}
}

func benchStore(b *testing.B) store.Store {
	s := open(b, sqliteDSN(b))
	b.Cleanup(func() { _ = s.Close() })
	return s
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// benchConfig makes what a launch asserts.
func benchConfig(b *testing.B, s store.Store) []store.Ref {
	var refs []store.Ref
	must(b, s.Update(b.Context(), func(tx store.Tx) error {
		for _, kind := range []store.Kind{store.KindZone, store.KindProfile, store.KindRunner} {
			o := &store.Object{Kind: kind, OrgID: benchOrg, ID: "id-" + string(kind), Name: "x", Body: json.RawMessage(`{}`), CreatedAt: time.Now(), UpdatedAt: time.Now()}
			if err := tx.Insert(b.Context(), o); err != nil {
				return err
			}
			refs = append(refs, store.Ref{Kind: kind, OrgID: benchOrg, ID: o.ID, Revision: 1})
		}
		return tx.SetCapacity(b.Context(), "runner", core.Amounts{CPUMillis: 1 << 50, MemoryBytes: 1 << 60, Sandboxes: 1 << 50})
	}))
	return refs
}

func launch(ctx context.Context, tx store.Tx, refs []store.Ref, s *core.Sandbox) error {
	if err := tx.AssertCurrent(ctx, refs); err != nil {
		return err
	}
	if ok, err := tx.Reserve(ctx, "runner", s.Reserved); err != nil || !ok {
		return fmt.Errorf("reserve: %v %w", ok, err)
	}
	return tx.InsertSandbox(ctx, s)
}

// parallel runs fn from n goroutines until b.N calls are done.
func parallel(b *testing.B, n int, fn func()) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	before := cpuTime()
	done := make(chan struct{})
	for range n {
		go func() {
			for left.Add(-1) >= 0 {
				fn()
			}
			done <- struct{}{}
		}()
	}
	for range n {
		<-done
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// BenchmarkLaunch is the transaction of a launch: three assertions, a reservation, the sandbox with its record and tags,
// the change.
func BenchmarkLaunch(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("sqlite/%d", n), func(b *testing.B) { benchLaunch(b, benchStore(b), n) })
	}
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("postgres/%d", n), func(b *testing.B) {
			s := open(b, postgres.Database(b))
			b.Cleanup(func() { _ = s.Close() })
			benchLaunch(b, s, n)
		})
	}
}

func benchLaunch(b *testing.B, s store.Store, n int) {
	refs := benchConfig(b, s)
	ctx := b.Context()
	b.ReportAllocs()
	b.ResetTimer()
	parallel(b, n, func() {
		sandbox := benchSandbox(benchIDs.Add(1))
		if err := s.Update(ctx, func(tx store.Tx) error { return launch(ctx, tx, refs, sandbox) }); err != nil {
			b.Error(err)
		}
	})
}

// BenchmarkStatus is the write of one status, durable.
func BenchmarkStatus(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(fmt.Sprintf("sqlite/%d", n), func(b *testing.B) {
			s := benchStore(b)
			ctx := b.Context()
			rows := make(chan *core.Sandbox, n)
			for range n {
				row := benchSandbox(benchIDs.Add(1))
				must(b, s.Update(ctx, func(tx store.Tx) error { return tx.InsertSandbox(ctx, row) }))
				rows <- row
			}
			b.ReportAllocs()
			b.ResetTimer()
			parallel(b, n, func() {
				row := <-rows
				if err := s.Update(ctx, func(tx store.Tx) error { return tx.UpdateSandbox(ctx, row) }); err != nil {
					b.Error(err)
				}
				rows <- row
			})
		})
	}
}

// BenchmarkLifecycle is what the store does for one sandbox from accept to end: three commits.
func BenchmarkLifecycle(b *testing.B) {
	s := benchStore(b)
	refs := benchConfig(b, s)
	ctx := b.Context()
	b.ResetTimer()
	parallel(b, 32, func() {
		row := benchSandbox(benchIDs.Add(1))
		err := s.Update(ctx, func(tx store.Tx) error { return launch(ctx, tx, refs, row) })
		if err == nil {
			row.Status = core.StatusRunning
			err = s.Update(ctx, func(tx store.Tx) error { return tx.UpdateSandbox(ctx, row) })
		}
		if err == nil {
			row.Status = core.StatusCompleted
			err = s.Update(ctx, func(tx store.Tx) error {
				if err := tx.UpdateSandbox(ctx, row); err != nil {
					return err
				}
				return tx.Release(ctx, "runner", row.Reserved)
			})
		}
		if err != nil {
			b.Error(err)
		}
	})
}

func view(b *testing.B, s store.Store, fn func(ctx context.Context, r store.Reader) error) {
	ctx := b.Context()
	if err := s.View(ctx, func(r store.Reader) error { return fn(ctx, r) }); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSandboxes reads from a store with 100,000 sandboxes, a tenth of them live.
func BenchmarkSandboxes(b *testing.B) {
	const rows = 100_000
	s := benchStore(b)
	ctx := b.Context()
	var all []string
	for len(all) < rows {
		must(b, s.Update(ctx, func(tx store.Tx) error {
			for range 1000 {
				row := benchSandbox(benchIDs.Add(1))
				row.Status = []core.Status{core.StatusRunning, core.StatusFailed, core.StatusCompleted}[min(len(all)/7%10, 2)]
				row.Decision = json.RawMessage(`{}`)
				all = append(all, row.ID)
				if err := tx.InsertSandbox(ctx, row); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		latencies(b, func() {
			i = (i + 7919) % rows
			view(b, s, func(ctx context.Context, r store.Reader) error {
				_, err := r.Sandbox(ctx, benchOrg, all[i])
				return err
			})
		})
	})
	deep := ""
	view(b, s, func(ctx context.Context, r store.Reader) error {
		page := store.Page{Size: store.MaxPage}
		for range 50 {
			_, next, err := r.Sandboxes(ctx, store.SandboxFilter{OrgID: benchOrg, IncludeEnded: true}, page)
			if err != nil {
				return err
			}
			page.After = next
		}
		deep = page.After
		return nil
	})
	for _, tt := range []struct {
		name   string
		filter store.SandboxFilter
		after  string
	}{
		{"live", store.SandboxFilter{}, ""},
		{"all", store.SandboxFilter{IncludeEnded: true}, ""},
		{"all-deep", store.SandboxFilter{IncludeEnded: true}, deep},
		{"status", store.SandboxFilter{Statuses: []core.Status{core.StatusRunning, core.StatusPending}}, ""},
		{"tag-rare", store.SandboxFilter{Tags: []string{"run-77"}, IncludeEnded: true}, ""},
		{"tag-rare-live", store.SandboxFilter{Tags: []string{"run-70"}}, ""},
		{"tag-none", store.SandboxFilter{Tags: []string{"nothing"}}, ""},
		{"tags-two", store.SandboxFilter{Tags: []string{"ci", "run-77"}, IncludeEnded: true}, ""},
		{"profile", store.SandboxFilter{ProfileNames: []string{"agent-7"}, IncludeEnded: true}, ""},
		{"runner-live", store.SandboxFilter{RunnerIDs: []string{"r0"}}, ""},
		{"profile-runner-disjoint", store.SandboxFilter{ProfileNames: []string{"agent-7"}, RunnerIDs: []string{"r8"}, IncludeEnded: true}, ""},
		{"tag-status-disjoint", store.SandboxFilter{Tags: []string{"ci"}, Statuses: []core.Status{core.StatusTerminating}, IncludeEnded: true}, ""},
		{"two-tags-disjoint", store.SandboxFilter{Tags: []string{"half-0", "half-1"}, IncludeEnded: true}, ""},
		{"tag-live-disjoint", store.SandboxFilter{Tags: []string{"half-0"}, Statuses: []core.Status{core.StatusPaused, core.StatusRunning}, ProfileNames: []string{"agent-1"}, IncludeEnded: true}, ""},
		{"status-profile-large-disjoint", store.SandboxFilter{Statuses: []core.Status{core.StatusRunning}, ProfileNames: []string{"agent-1", "agent-2", "agent-3", "agent-4", "agent-5", "agent-6"}, IncludeEnded: true}, ""},
	} {
		tt.filter.OrgID = benchOrg
		b.Run("list/"+tt.name, func(b *testing.B) {
			latencies(b, func() {
				view(b, s, func(ctx context.Context, r store.Reader) error {
					_, _, err := r.Sandboxes(ctx, tt.filter, store.Page{Size: 100, After: tt.after})
					return err
				})
			})
		})
	}
	b.Run("usage", func(b *testing.B) {
		latencies(b, func() {
			view(b, s, func(ctx context.Context, r store.Reader) error {
				_, err := r.Usage(ctx, store.UsageSubject{OrgID: benchOrg, UserID: "user-7"}, time.Now())
				return err
			})
		})
	})
}

// BenchmarkObjects reads a page of 100 of 10,000 objects.
func BenchmarkObjects(b *testing.B) {
	s := benchStore(b)
	ctx := b.Context()
	must(b, s.Update(ctx, func(tx store.Tx) error {
		for i := range 10_000 {
			o := &store.Object{
				Kind: store.KindProfile, OrgID: benchOrg, ID: fmt.Sprintf("id-%d", i), Name: fmt.Sprintf("profile-%05d", i*7919%10_000),
				Body: json.RawMessage(`{"spec":"` + strings.Repeat("x", 1500) + `"}`), CreatedAt: time.Now(), UpdatedAt: time.Now(), UpdatedBy: "token:bench",
			}
			if err := tx.Insert(ctx, o); err != nil {
				return err
			}
		}
		return nil
	}))
	b.Run("page", func(b *testing.B) {
		i := 0
		latencies(b, func() {
			i = (i + 997) % 9900
			view(b, s, func(ctx context.Context, r store.Reader) error {
				_, _, err := r.Objects(ctx, store.KindProfile, benchOrg, store.Page{Size: 100, After: fmt.Sprintf("profile-%05d", i)})
				return err
			})
		})
	})
	b.Run("get", func(b *testing.B) {
		i := 0
		latencies(b, func() {
			i = (i + 997) % 10_000
			view(b, s, func(ctx context.Context, r store.Reader) error {
				_, err := r.ObjectByName(ctx, store.KindProfile, benchOrg, fmt.Sprintf("profile-%05d", i))
				return err
			})
		})
	})
}
