package control_test

import (
	"sync"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

// TestTwoServersInContactAtOnce: while a runner moves, the server that it leaves may not have noticed yet. What either launches and the
// other stops is written once: one end, each event once, and what was reserved is free again, once.
func TestTwoServersInContactAtOnce(t *testing.T) {
	const launches = 24
	dsn := postgres.Database(t)
	w := newWorldOn(t, dsn, control.Config{}, fake.Config{})
	first := w.server(dsn, "1111111111111111")
	v, _, err := first.CreateRunner(w.ctx(), w.admin, control.RunnerInput{
		RunnerID: "lab", Zone: "lab", ClusterName: "lab", Bindings: []core.Binding{{ProfileID: w.profile.ID, Default: true}},
	})
	w.must(err)
	w.runners["lab"] = v.Runner
	second := w.server(dsn, "2222222222222222")
	lab := fake.New(fake.Config{})
	for _, s := range []*control.Service{first, second} {
		w.must(s.Attach(w.ctx(), v.Runner.ID, w.agent(lab)))
	}
	kept, _, err := first.Launch(w.ctx(), w.user, &specpb.Launch{RunnerIds: []string{"lab"}})
	w.must(err)
	ids := make([]string, launches)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			one, other := first, second
			if i%2 == 1 {
				one, other = second, first
			}
			sb, _, err := one.Launch(w.ctx(), w.user, &specpb.Launch{RunnerIds: []string{"lab"}})
			if err != nil {
				t.Errorf("launch: %v", err)
				return
			}
			ids[i] = sb.ID
			if _, err := one.Wait(w.ctx(), w.user, sb.ID, control.Settled); err != nil {
				t.Errorf("wait for the start: %v", err)
			}
			if err := other.Stop(w.ctx(), w.user, sb.ID, time.Second); err != nil {
				t.Errorf("stop: %v", err)
			}
			if _, err := one.Wait(w.ctx(), w.user, sb.ID, control.Ended); err != nil {
				t.Errorf("wait for the end: %v", err)
			}
		})
	}
	group.Wait()
	for _, id := range ids {
		got := w.get(id)
		if got.Status != core.StatusCompleted {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
		times := map[string]int{}
		for _, e := range got.Timeline {
			if times[e.Name]++; times[e.Name] > 1 {
				t.Errorf("%s is there again: %v", e.Name, got.Timeline)
			}
		}
	}
	if used := w.reserved("lab"); used != kept.Reserved {
		t.Errorf("reserved is %+v, of the one that goes on %+v", used, kept.Reserved)
	}
}

// server starts another server on a database.
func (w *world) server(dsn, place string) *control.Service {
	w.Helper()
	st, err := sqlstore.Open(w.ctx(), sqlstore.Config{DSN: dsn})
	w.must(err)
	cfg := w.cfg
	cfg.Store = st
	svc := control.New(w.ctx(), cfg)
	w.Cleanup(func() {
		svc.Close()
		if err := st.Close(); err != nil {
			w.Errorf("close the store: %v", err)
		}
	})
	_, err = svc.Bootstrap(w.ctx(), control.Bootstrap{Place: place})
	w.must(err)
	w.must(svc.Recover(w.ctx()))
	return svc
}
