package storetest

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func capacity(t *testing.T, e *env) {
	t.Run("reserve and release", e.capacityCounts)
	t.Run("set counts anew", e.capacityCountsAnew)
	t.Run("extremes", e.capacityExtremes)
	t.Run("never more than there is", e.capacityConcurrent)
}

func (e *env) reserve(t *testing.T, runner string, a core.Amounts) bool {
	t.Helper()
	fits := false
	e.update(t, func(ctx context.Context, tx store.Tx) (err error) {
		fits, err = tx.Reserve(ctx, runner, a)
		return err
	})
	return fits
}

func (e *env) release(t *testing.T, runner string, a core.Amounts) {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Release(ctx, runner, a) })
}

func (e *env) setCapacity(t *testing.T, runner string, a core.Amounts) {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.SetCapacity(ctx, runner, a) })
}

func (e *env) wantReserved(t *testing.T, runner string, want core.Amounts) {
	t.Helper()
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.Reserved(ctx, runner)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "reserved", got, want)
	})
}

func (e *env) capacityCounts(t *testing.T) {
	runner := e.id("runner")
	half := core.Amounts{CPUMillis: 1000, MemoryBytes: 1 << 30, Sandboxes: 1}
	e.wantReserved(t, runner, core.Amounts{})
	if e.reserve(t, runner, half) {
		t.Fatal("reserved on a runner whose capacity is not known")
	}
	e.setCapacity(t, runner, core.Amounts{CPUMillis: 2000, MemoryBytes: 2 << 30, Sandboxes: 10})
	for _, want := range []bool{true, true, false} {
		if got := e.reserve(t, runner, half); got != want {
			t.Fatalf("reserve: %v, want %v", got, want)
		}
	}
	e.wantReserved(t, runner, core.Amounts{CPUMillis: 2000, MemoryBytes: 2 << 30, Sandboxes: 2})
	if !e.reserve(t, runner, core.Amounts{Sandboxes: 1}) {
		t.Error("what takes no CPU does not fit where there is none left")
	}
	if e.reserve(t, runner, core.Amounts{GPUs: 1}) {
		t.Error("reserved a GPU of a runner without")
	}
	e.release(t, runner, half)
	if !e.reserve(t, runner, half) {
		t.Error("released and still full")
	}
	e.wantReserved(t, e.id("runner"), core.Amounts{})
	err := e.try(t, func(ctx context.Context, tx store.Tx) error {
		if _, err := tx.Reserve(ctx, runner, core.Amounts{Sandboxes: 1}); err != nil {
			return err
		}
		return fault.Invalidf("TEST", "give up")
	})
	wantCode(t, err, fault.Invalid)
	e.wantReserved(t, runner, core.Amounts{CPUMillis: 2000, MemoryBytes: 2 << 30, Sandboxes: 3})
}

func (e *env) capacityCountsAnew(t *testing.T) {
	runner := e.id("runner")
	for range 3 {
		s := e.sandbox(e.id("org"))
		s.RunnerUUID = runner
		e.launched(t, s)
		ended := e.sandbox(s.OrgID)
		ended.RunnerUUID, ended.Status = runner, core.StatusFailed
		e.launched(t, ended)
	}
	e.setCapacity(t, runner, core.Amounts{CPUMillis: 1000, MemoryBytes: 8 << 30, Sandboxes: 10})
	want := core.Amounts{CPUMillis: 1500, MemoryBytes: 3 << 30, Sandboxes: 3}
	e.wantReserved(t, runner, want) // more than there is: the runner has shrunk
	if e.reserve(t, runner, core.Amounts{CPUMillis: 1}) {
		t.Error("reserved on a runner that has too much already")
	}
	e.release(t, runner, core.Amounts{CPUMillis: 1 << 40})
	e.wantReserved(t, runner, core.Amounts{MemoryBytes: want.MemoryBytes, Sandboxes: want.Sandboxes})
	e.setCapacity(t, runner, core.Amounts{CPUMillis: 2000, MemoryBytes: 8 << 30, Sandboxes: 10})
	e.wantReserved(t, runner, want)
}

func (e *env) capacityExtremes(t *testing.T) {
	runner := e.id("runner")
	most := core.Amounts{CPUMillis: math.MaxInt64, MemoryBytes: math.MaxInt64, GPUs: math.MaxInt64, Sandboxes: math.MaxInt64}
	e.setCapacity(t, runner, most)
	if !e.reserve(t, runner, most) {
		t.Error("all of it does not fit")
	}
	if e.reserve(t, runner, most) {
		t.Error("twice all of it fits")
	}
	for _, a := range []core.Amounts{{CPUMillis: -1}, {MemoryBytes: -1}, {GPUs: -1}, {Sandboxes: -1}} {
		for name, fn := range map[string]func(ctx context.Context, tx store.Tx) error{
			"set":     func(ctx context.Context, tx store.Tx) error { return tx.SetCapacity(ctx, runner, a) },
			"reserve": func(ctx context.Context, tx store.Tx) error { _, err := tx.Reserve(ctx, runner, a); return err },
			"release": func(ctx context.Context, tx store.Tx) error { return tx.Release(ctx, runner, a) },
		} {
			if err := e.try(t, fn); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s %+v: got %v, want Invalid", name, a, err)
			}
		}
	}
	e.wantReserved(t, runner, most)
}

// capacityConcurrent lets a hundred launches fight for seven places, while the runner announces itself again and again.
func (e *env) capacityConcurrent(t *testing.T) {
	const launches, places = 100, 7
	runner, org := e.id("runner"), e.id("org")
	one := core.Amounts{CPUMillis: 500, MemoryBytes: 1 << 20, Sandboxes: 1}
	total := core.Amounts{CPUMillis: places * one.CPUMillis, MemoryBytes: 1 << 40, Sandboxes: 1 << 20}
	e.setCapacity(t, runner, total)
	var won atomic.Int64
	var all sync.WaitGroup
	for i := range launches {
		s := e.sandbox(org)
		s.RunnerUUID, s.Reserved = runner, one
		all.Go(func() {
			err := e.try(t, func(ctx context.Context, tx store.Tx) error {
				if i%10 == 0 {
					return tx.SetCapacity(ctx, runner, total)
				}
				fits, err := tx.Reserve(ctx, runner, one)
				if err != nil || !fits {
					return err
				}
				return tx.InsertSandbox(ctx, s)
			})
			if err != nil {
				t.Errorf("launch: %v", err)
			}
			if s.Revision == 1 {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != places {
		t.Errorf("%d launches fit, want %d", won.Load(), places)
	}
	e.wantReserved(t, runner, core.Amounts{CPUMillis: places * one.CPUMillis, MemoryBytes: places * one.MemoryBytes, Sandboxes: places})
	e.view(t, func(ctx context.Context, r store.Reader) {
		if n, err := r.CountLive(ctx, runner); n != places || err != nil {
			t.Errorf("%d live sandboxes, %v; want %d", n, err, places)
		}
	})
}

func usage(t *testing.T, e *env) {
	org := e.id("org")
	now := time.Now()
	launch := func(user, profile string, created, started, ended time.Duration, cpuLimit int64) {
		s := e.sandbox(org)
		s.UserID, s.ProfileID, s.CPULimitMillis = user, profile, cpuLimit
		s.CreatedAt = now.Add(-created)
		if started > 0 {
			s.StartedAt, s.Status = now.Add(-started), core.StatusRunning
		}
		if ended > 0 {
			s.EndedAt, s.Status = now.Add(-ended), core.StatusCompleted
		}
		e.launched(t, s)
	}
	launch("u1", "p1", 30*time.Hour, 30*time.Hour, 0, 2000)         // 24 h of 2 CPUs: 48 vCPU hours
	launch("u1", "p1", 30*time.Hour, 30*time.Hour, 12*time.Hour, 0) // 12 h of one CPU: 12
	launch("u1", "p2", 40*time.Hour, 40*time.Hour, 30*time.Hour, 0) // ended before
	launch("u1", "p1", 30*time.Second, 0, 0, 1000)                  // did not start
	launch("u2", "p1", 30*time.Second, 30*time.Second, 0, 120_000)  // 30 s of 120 CPUs: 1
	launch("u2", "p2", 61*time.Second, 0, 10*time.Second, 0)        // never started
	other := e.sandbox(e.id("org"))
	other.UserID, other.ProfileID, other.CreatedAt = "u1", "p1", now
	e.launched(t, other)

	for _, tt := range []struct {
		subject store.UsageSubject
		want    store.Usage
	}{
		{store.UsageSubject{OrgID: org}, store.Usage{Concurrent: 3, StartsLastMin: 2, VCPUMillisHours: 61_000}},
		{store.UsageSubject{OrgID: org, UserID: "u1"}, store.Usage{Concurrent: 2, StartsLastMin: 1, VCPUMillisHours: 60_000}},
		{store.UsageSubject{OrgID: org, UserID: "u2"}, store.Usage{Concurrent: 1, StartsLastMin: 1, VCPUMillisHours: 1000}},
		{store.UsageSubject{OrgID: org, ProfileID: "p1"}, store.Usage{Concurrent: 3, StartsLastMin: 2, VCPUMillisHours: 61_000}},
		{store.UsageSubject{OrgID: org, ProfileID: "p2"}, store.Usage{}},
		{store.UsageSubject{OrgID: org, ProfileID: "p1", UserID: "u2"}, store.Usage{Concurrent: 1, StartsLastMin: 1, VCPUMillisHours: 1000}},
		{store.UsageSubject{OrgID: e.id("org")}, store.Usage{}},
	} {
		e.view(t, func(ctx context.Context, r store.Reader) {
			got, err := r.Usage(ctx, tt.subject, now)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "usage", got, tt.want)
		})
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, err := r.Usage(ctx, store.UsageSubject{UserID: "u1"}, now)
		wantCode(t, err, fault.Invalid)
	})
}
