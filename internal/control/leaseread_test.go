package control_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// reads is a store that counts what is read, and whose leases can be away.
type reads struct {
	store.Store
	leases, busy atomic.Int64
	away         atomic.Bool
}

func (c *reads) View(ctx context.Context, fn func(store.Reader) error) error {
	return c.Store.View(ctx, func(r store.Reader) error { return fn(&countedReader{r, c}) })
}

type countedReader struct {
	store.Reader
	c *reads
}

func (r *countedReader) Lease(ctx context.Context, orgID, id string) (*core.Lease, error) {
	if r.c.leases.Add(1); r.c.away.Load() {
		return nil, fault.New(fault.Unavailable, "STORE_AWAY", "the store is away")
	}
	return r.Reader.Lease(ctx, orgID, id)
}

func (r *countedReader) BusyAt(ctx context.Context, ids ...string) (map[string]time.Time, error) {
	if len(ids) > 0 {
		r.c.busy.Add(1)
	}
	return r.Reader.BusyAt(ctx, ids...)
}

// TestLeaseIsReadOnce: a lease that cannot be read is asked for by one reader, however many sandboxes name it.
func TestLeaseIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := alone(t, control.Config{})
		c := &reads{Store: w.store}
		w.over(c, "", "r1")
		l := w.newLease()
		sb := w.running(&specpb.Launch{LeaseId: l.ID})
		_, err := w.svc.ReleaseLease(w.ctx(), w.user, l.ID, true)
		w.must(err)
		c.away.Store(true)
		w.over(c, "", "r1")
		c.leases.Store(0)
		row := w.get(sb.ID)
		for range 4 {
			control.HoldUnder(w.svc, row)
			after(time.Second)
		}
		if n := c.leases.Load(); n > 1 {
			t.Errorf("read %d times", n)
		}
		c.away.Store(false)
		after(5 * time.Second)
		w.leaseState(w.svc, l.ID, core.LeaseDropped)
		w.wantRunning(sb.ID)
	})
}

// TestLeaseEndThatWasNotRead: a server that was told of an end, and could not read it, hears of it with its next beat.
func TestLeaseEndThatWasNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := sharing(t, time.Hour)
		w.attach("lab")
		c := &reads{Store: w.store}
		second := w.serverAt(c, "2222222222222222")
		defer second.Close()
		l := w.newLease()
		after(6 * time.Second)
		c.away.Store(true)
		_, err := w.svc.ReleaseLease(w.ctx(), w.user, l.ID, false)
		w.must(err)
		after(2 * time.Second)
		c.away.Store(false)
		after(6 * time.Second)
		c.leases.Store(0)
		_, _, err = second.Launch(w.ctx(), w.user, &specpb.Launch{RunnerIds: []string{"lab"}, LeaseId: l.ID})
		wantFault(t, err, fault.Precondition, fault.ReasonLeaseEnded)
		if n := c.leases.Load(); n != 0 {
			t.Error("it was not known before somebody asked")
		}
	})
}

// TestOrphansOfSeveralServers: what others know of contact is asked for once for all sandboxes of a page, and only of those that count.
func TestOrphansOfSeveralServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := sharing(t, time.Hour)
		c := &reads{Store: w.store}
		w.over(c, "1111111111111111", "lab")
		for range 5 {
			w.running(&specpb.Launch{RunnerIds: []string{"lab"}})
		}
		used := w.running(&specpb.Launch{RunnerIds: []string{"lab"}})
		for _, want := range []struct {
			after          time.Duration
			orphans, reads int
		}{{time.Minute, 0, 0}, {2 * time.Hour, 5, 1}} {
			after(want.after)
			w.must(w.store.Update(w.ctx(), func(tx store.Tx) error { return tx.Busy(w.ctx(), used.ID, time.Now()) }))
			c.busy.Store(0)
			all, _, err := w.svc.ListOrphans(w.ctx(), w.user, time.Hour, control.Page{})
			w.must(err)
			if len(all) != want.orphans || int(c.busy.Load()) != want.reads {
				t.Errorf("%d orphans with %d reads, want %+v", len(all), c.busy.Load(), want)
			}
		}
	})
}
