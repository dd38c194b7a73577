package control_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// over replaces the first server by one on another store, "" for one that has it to itself.
func (w *world) over(s store.Store, place, runner string) {
	w.Helper()
	w.svc.Close()
	w.svc = w.serverAt(s, place)
	w.attach(runner)
}

// alone is a first server that is not attached yet, so that over can replace it.
func alone(t *testing.T, cfg control.Config) *world {
	t.Helper()
	w := newWorldWith(t, cfg, fake.Config{})
	w.close()
	w.open()
	return w
}

func (w *world) leaseOf(ttl, grace time.Duration) *core.Lease {
	w.Helper()
	v, err := w.svc.CreateLease(w.ctx(), w.user, control.LeaseInput{TTL: ttl, Grace: grace})
	w.must(err)
	return v.Lease
}

// holder renews a lease as one does who is well: every third of the TTL, with a token, and patience for a tenth. It ends with the test.
func (w *world) holder(l *core.Lease) (leave func()) {
	w.Helper()
	_, secret, err := w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "trainer", Role: core.RoleUser})
	w.must(err)
	renew := func() error {
		ctx, cancel := context.WithTimeout(w.ctx(), l.TTL/10)
		defer cancel()
		p, err := w.svc.Authenticate(ctx, secret)
		if err == nil {
			_, err = w.svc.RenewLease(ctx, p, l.ID)
		}
		return err
	}
	gone, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-gone:
				return
			case <-time.After(l.TTL / 3):
			}
			if err := renew(); fault.HasReason(err, fault.ReasonLeaseEnded) {
				w.Errorf("a holder who is well: %v", err)
			}
		}
	}()
	return func() { close(gone); <-done }
}

func (w *world) wantRunning(id string) {
	w.Helper()
	if got := w.get(id); got.Status != core.StatusRunning || got.StatusReason != "" {
		w.Errorf("%s %q", got.Status, got.StatusReason)
	}
}

// hung is a store whose calls take until it is back. A deaf one keeps those that their callers have given up.
type hung struct {
	store.Store
	deaf bool

	mu   sync.Mutex
	gate chan struct{}
	// writers wait now, most did at a time.
	writers, most int
}

func (h *hung) hang() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate = make(chan struct{})
}

func (h *hung) back() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.gate)
	h.gate = nil
}

func (h *hung) wait(ctx context.Context, writers int) error {
	h.mu.Lock()
	gate := h.gate
	if gate != nil {
		h.writers += writers
		h.most = max(h.most, h.writers)
	}
	h.mu.Unlock()
	if gate == nil {
		return nil
	}
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.writers -= writers
	}()
	if h.deaf {
		<-gate
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hung) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := h.wait(ctx, 0); err != nil {
		return err
	}
	return h.Store.View(context.WithoutCancel(ctx), fn)
}

func (h *hung) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := h.wait(ctx, 1); err != nil {
		return err
	}
	return h.Store.Update(context.WithoutCancel(ctx), fn)
}

// TestHolderDuringAnOutage: a holder whose token cannot be looked up is not heard, also by a server whose renewals need no store. For how
// long does not matter, nor that the end of the lease is tried meanwhile.
func TestHolderDuringAnOutage(t *testing.T) {
	for _, away := range []time.Duration{50 * time.Second, 200 * time.Second, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := alone(t, control.Config{})
			o := &outage{Store: w.store}
			w.over(o, "", "r1")
			l := w.leaseOf(leaseTTL, 0)
			sb := w.running(&specpb.Launch{LeaseId: l.ID})
			leave := w.holder(l)
			after(61 * time.Second)
			o.all.Store(true)
			after(away)
			o.all.Store(false)
			after(2 * leaseTTL)
			w.wantRunning(sb.ID)
			leave()
			after(leaseTTL + 2*time.Second)
			w.wantEnd(sb.ID, core.EndLeaseExpired)
		})
	}
}

// TestHolderWhileTheStoreHangs: a store that does not answer keeps holders from being heard as one that is away does, and an end that waited
// in it does not come before the renewals that waited, too.
func TestHolderWhileTheStoreHangs(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		for _, place := range []string{"", "1111111111111111"} {
			synctest.Test(t, func(t *testing.T) {
				w, runner := alone(t, control.Config{}), "r1"
				if place != "" {
					w, _ = sharing(t, time.Hour)
					runner = "lab"
				}
				h := &hung{Store: w.store, deaf: deaf}
				w.over(h, place, runner)
				l := w.leaseOf(leaseTTL, 0)
				sb := w.running(&specpb.Launch{RunnerIds: []string{runner}, LeaseId: l.ID})
				leave := w.holder(l)
				after(61 * time.Second)
				h.hang()
				after(195 * time.Second)
				h.back()
				after(2 * leaseTTL)
				w.wantRunning(sb.ID)
				leave()
			})
		}
	}
}

// TestServerThatStoodStill: what a process misses while it does not run is not silence, and renewals that waited for it come in time.
func TestServerThatStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stood atomic.Int64
		w := alone(t, control.Config{Now: func() time.Time { return time.Now().Add(time.Duration(stood.Load())) }})
		w.over(w.store, "", "r1")
		const ttl = 30 * time.Second
		l := w.leaseOf(ttl, 0)
		sb := w.running(&specpb.Launch{LeaseId: l.ID})
		leave := w.holder(l)
		for range 20 {
			after(46 * time.Second)
			stood.Add(int64(22 * time.Second))
		}
		after(ttl)
		w.wantRunning(sb.ID)
		leave()
		w.renew(w.svc, l.ID)
		after(ttl + 500*time.Millisecond)
		w.renew(w.svc, l.ID) // it had been sent in time
		after(ttl + 2*time.Second)
		w.wantEnd(sb.ID, core.EndLeaseExpired)
	})
}

// slowWrites is a store whose first write from when it is armed fails late, and whose second is late.
type slowWrites struct {
	store.Store
	armed  atomic.Bool
	writes atomic.Int64
}

func (s *slowWrites) Update(ctx context.Context, fn func(store.Tx) error) error {
	if s.armed.Load() {
		switch s.writes.Add(1) {
		case 1:
			time.Sleep(6 * time.Second)
			return errors.New("the store was slow, and failed")
		case 2:
			time.Sleep(12 * time.Second)
		}
	}
	return s.Store.Update(context.WithoutCancel(ctx), fn)
}

// TestOneEndAtATime: after an end that could not be written no other is under way, which a renewal that was heard would not stop.
func TestOneEndAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := alone(t, control.Config{})
		slow := &slowWrites{Store: w.store}
		w.over(slow, "", "r1")
		l := w.leaseOf(30*time.Second, 0)
		sb := w.running(&specpb.Launch{LeaseId: l.ID})
		synctest.Wait() // what the launch writes is written
		slow.armed.Store(true)
		after(38 * time.Second)
		w.renew(w.svc, l.ID)
		after(20 * time.Second)
		w.wantRunning(sb.ID)
		w.leaseState(w.svc, l.ID, core.LeaseActive)
		if n := slow.writes.Load(); n != 1 {
			t.Errorf("%d writes", n)
		}
	})
}

// TestManyEndsAtOnce: however many leases are over, few ends wait in the store at a time; and all of them come.
func TestManyEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := alone(t, control.Config{})
		h := &hung{Store: w.store}
		w.over(h, "", "r1")
		var all []*core.Lease
		for range 60 {
			all = append(all, w.leaseOf(30*time.Second, 0))
		}
		h.hang()
		after(10 * time.Minute)
		if h.most > 12 { // 8 of these, and what a server writes beside them
			t.Errorf("%d writes wait in the store", h.most)
		}
		h.back()
		after(time.Minute)
		for _, l := range all {
			w.leaseState(w.svc, l.ID, core.LeaseExpired)
		}
	})
}
