package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func concurrency(t *testing.T, e *env) {
	t.Run("one of many gets the name", e.oneName)
	t.Run("counting by revision", e.countTogether)
	t.Run("an error never undoes another", e.errorsApart)
	t.Run("a launch and an edit", e.launchAndEdit)
	t.Run("a deletion and a use", e.deleteAndUse)
	t.Run("the last one allowed", e.lastAllowed)
	t.Run("waiting ends with the context", e.waitCanceled)
}

// many runs fn at once n times and waits.
func many(n int, fn func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { fn(i) })
	}
	all.Wait()
}

func (e *env) oneName(t *testing.T) {
	org := e.id("org")
	var won atomic.Int64
	many(20, func(int) {
		o := e.object(store.KindProfile, org)
		o.Name = "agent"
		err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Insert(ctx, o) })
		switch {
		case err == nil:
			won.Add(1)
		case !fault.Is(err, fault.Exists):
			t.Errorf("got %v, want Exists", err)
		}
	})
	if won.Load() != 1 {
		t.Errorf("%d got the name, want 1", won.Load())
	}
}

// countTogether lets everybody read an object and write the next revision, again after a conflict: no revision is lost.
func (e *env) countTogether(t *testing.T) {
	const writers, each = 8, 5
	o := e.inserted(t, e.object(store.KindProfile, e.id("org")))
	many(writers, func(int) {
		for range each {
			err := e.try(t, func(ctx context.Context, tx store.Tx) error {
				current, err := tx.Object(ctx, o.Kind, o.OrgID, o.ID)
				if err != nil {
					return err
				}
				return tx.Update(ctx, current)
			})
			if err != nil {
				t.Errorf("what was read in the transaction is not current in it: %v", err)
			}
		}
	})
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.Object(ctx, o.Kind, o.OrgID, o.ID)
		if err != nil || got.Revision != 1+writers*each {
			t.Errorf("revision %d, %v; want %d", got.Revision, err, 1+writers*each)
		}
	})
}

func (e *env) errorsApart(t *testing.T) {
	org := e.id("org")
	boom := errors.New("boom")
	var all [60]*store.Object
	for i := range all {
		all[i] = e.object(store.KindZone, org)
	}
	many(len(all), func(i int) {
		defer func() {
			if i%3 == 2 && recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		err := e.try(t, func(ctx context.Context, tx store.Tx) error {
			if err := tx.Insert(ctx, all[i]); err != nil {
				return err
			}
			switch i % 3 {
			case 1:
				return boom
			case 2:
				panic(i)
			}
			return nil
		})
		if want := i%3 == 1; errors.Is(err, boom) != want || !want && err != nil {
			t.Errorf("update %d: %v", i, err)
		}
	})
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, _, err := r.Objects(ctx, store.KindZone, org, store.Page{Size: store.MaxPage})
		if err != nil || len(got) != len(all)/3 {
			t.Errorf("%d objects, %v; want %d", len(got), err, len(all)/3)
		}
		for i, o := range all {
			if _, err := r.Object(ctx, o.Kind, org, o.ID); (err == nil) != (i%3 == 0) {
				t.Errorf("object %d: %v", i, err)
			}
		}
	})
}

// launchAndEdit launches from a revision while the revision is replaced, again after a conflict: a sandbox is committed from
// the one in force.
func (e *env) launchAndEdit(t *testing.T) {
	org := e.id("org")
	profile := e.inserted(t, e.object(store.KindProfile, org))
	many(40, func(i int) {
		if i%4 == 0 {
			err := e.try(t, func(ctx context.Context, tx store.Tx) error {
				o, err := tx.Object(ctx, profile.Kind, org, profile.ID)
				if err != nil {
					return err
				}
				if err := tx.Update(ctx, o); err != nil {
					return err
				}
				live, _, err := tx.Sandboxes(ctx, store.SandboxFilter{OrgID: org}, store.Page{Size: store.MaxPage})
				if err != nil {
					return err
				}
				for _, s := range live { // nobody launches from the new revision before it is committed
					if s.ProfileRevision >= o.Revision {
						t.Errorf("a sandbox of revision %d while %d is written", s.ProfileRevision, o.Revision)
					}
				}
				return nil
			})
			if err != nil {
				t.Errorf("edit: %v", err)
			}
			return
		}
		s := e.sandbox(org)
		for {
			var seen *store.Object
			e.view(t, func(ctx context.Context, r store.Reader) { seen, _ = r.Object(ctx, profile.Kind, org, profile.ID) })
			s.ProfileRevision = seen.Revision
			err := e.try(t, func(ctx context.Context, tx store.Tx) error {
				if err := tx.AssertCurrent(ctx, []store.Ref{{Kind: profile.Kind, OrgID: org, ID: profile.ID, Revision: seen.Revision}}); err != nil {
					return err
				}
				return tx.InsertSandbox(ctx, s)
			})
			if err == nil {
				return
			}
			if !fault.Is(err, fault.Conflict) {
				t.Errorf("launch: %v", err)
				return
			}
		}
	})
}

// deleteAndUse deletes an object unless another names it, while somebody makes another that names it unless it is gone:
// both check first, and one of them must lose.
func (e *env) deleteAndUse(t *testing.T) {
	for range 10 {
		org := e.id("org")
		profile := e.inserted(t, e.object(store.KindProfile, org))
		runner := e.object(store.KindRunner, org)
		stop := errors.New("refused")
		var deleted, bound bool
		many(2, func(i int) {
			if i == 0 {
				deleted = e.try(t, func(ctx context.Context, tx store.Tx) error {
					runners, _, err := tx.Objects(ctx, store.KindRunner, org, store.Page{Size: 10})
					if err != nil || len(runners) > 0 {
						return errors.Join(err, stop)
					}
					o := *profile
					return tx.Delete(ctx, &o)
				}) == nil
				return
			}
			bound = e.try(t, func(ctx context.Context, tx store.Tx) error {
				if _, err := tx.Object(ctx, store.KindProfile, org, profile.ID); err != nil {
					return err
				}
				return tx.Insert(ctx, runner)
			}) == nil
		})
		if deleted == bound {
			t.Fatalf("deleted %v, bound %v: exactly one of them is possible", deleted, bound)
		}
	}
}

// lastAllowed counts the usage of a user in the transaction that adds to it.
func (e *env) lastAllowed(t *testing.T) {
	const most = 3
	org := e.id("org")
	refused := errors.New("refused")
	many(12, func(int) {
		s := e.sandbox(org)
		err := e.try(t, func(ctx context.Context, tx store.Tx) error {
			u, err := tx.Usage(ctx, store.UsageSubject{OrgID: org, UserID: s.UserID}, start)
			if err != nil {
				return err
			}
			if u.Concurrent >= most {
				return refused
			}
			return tx.InsertSandbox(ctx, s)
		})
		if err != nil && !errors.Is(err, refused) {
			t.Error(err)
		}
	})
	e.view(t, func(ctx context.Context, r store.Reader) {
		all, _, err := r.Sandboxes(ctx, store.SandboxFilter{OrgID: org, Statuses: []core.Status{core.StatusPending}}, store.Page{Size: 100})
		if err != nil || len(all) != most {
			t.Errorf("%d sandboxes, %v; want %d", len(all), err, most)
		}
	})
}

// waitCanceled holds the configuration in one transaction and cancels another that wants it.
func (e *env) waitCanceled(t *testing.T) {
	org := e.id("org")
	o := e.inserted(t, e.object(store.KindZone, org))
	holds, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- e.try(t, func(ctx context.Context, tx store.Tx) error {
			_, err := tx.Object(ctx, o.Kind, org, o.ID)
			close(holds)
			<-release
			return err
		})
	}()
	within(t, "the first transaction", holds)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		waited <- e.store.Update(ctx, func(tx store.Tx) error {
			_, err := tx.Object(ctx, o.Kind, org, o.ID)
			return err
		})
	}()
	<-started
	cancel()
	if err := <-waited; !fault.Is(err, fault.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(fmt.Errorf("the first transaction: %w", err))
	}
}
