package control_test

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// outage is a store that can be away, for writers or for all.
type outage struct {
	store.Store
	all, writers atomic.Bool
}

func (o *outage) View(ctx context.Context, fn func(store.Reader) error) error {
	if o.all.Load() {
		return fault.New(fault.Unavailable, "STORE_AWAY", "the store is away")
	}
	return o.Store.View(ctx, fn)
}

func (o *outage) Update(ctx context.Context, fn func(store.Tx) error) error {
	if o.all.Load() || o.writers.Load() {
		return fault.New(fault.Unavailable, "STORE_AWAY", "the store is away")
	}
	return o.Store.Update(ctx, fn)
}

// sharing is a first server over a store, with the runner lab, which is not attached.
func sharing(t *testing.T, lostAfter time.Duration) (w *world, o *outage) {
	t.Helper()
	w = newWorldWith(t, control.Config{LostAfter: lostAfter}, fake.Config{})
	w.close()
	w.open()
	w.svc.Close()
	o = &outage{Store: w.store}
	w.svc = w.serverAt(o, "1111111111111111")
	v, _, err := w.svc.CreateRunner(w.ctx(), w.admin, control.RunnerInput{RunnerID: "lab", Zone: "lab", ClusterName: "lab", Bindings: []core.Binding{{ProfileID: w.profile.ID, Default: true}}})
	w.must(err)
	w.runners["lab"], w.fakes["lab"] = v.Runner, fake.New(fake.Config{})
	return w, o
}

// serverAt starts a server of a place of its own over a store.
func (w *world) serverAt(s store.Store, place string) *control.Service {
	w.Helper()
	cfg := w.cfg
	cfg.Store = s
	svc := control.New(w.ctx(), cfg)
	_, err := svc.Bootstrap(w.ctx(), control.Bootstrap{Place: place})
	w.must(err)
	w.must(svc.Recover(w.ctx()))
	return svc
}

// TestStoreIsBack: a store that was away for longer than a runner may be out of contact. The server that reads it first does not take what
// the other could not write for a loss.
func TestStoreIsBack(t *testing.T) {
	for ms := 0; ms < 6000; ms += 1500 {
		synctest.Test(t, func(t *testing.T) {
			w, o := sharing(t, time.Minute)
			w.must(w.svc.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
			sb := w.running(&specpb.Launch{RunnerIds: []string{"lab"}})
			time.Sleep(2500 * time.Millisecond)
			second := w.serverAt(o, "2222222222222222")
			time.Sleep(10 * time.Minute)
			o.all.Store(true)
			time.Sleep(70*time.Second + time.Duration(ms)*time.Millisecond)
			o.all.Store(false)
			time.Sleep(30 * time.Second)
			synctest.Wait()
			w.statusAt(second, sb.ID, core.StatusRunning)
			second.Close()
		})
	}
}

// TestSilenceOfAll: servers that could not be seen while nobody could look are not held to be gone: what one of them hands over goes on, and
// its lines keep others out.
func TestSilenceOfAll(t *testing.T) {
	for ms := 0; ms < 5000; ms += 1000 {
		synctest.Test(t, func(t *testing.T) {
			w, o := sharing(t, time.Hour)
			w.must(w.svc.Attach(w.ctx(), w.runners["lab"].ID, &gate{Link: w.agent(w.fakes["lab"]), w: w}))
			time.Sleep(2500 * time.Millisecond)
			second := w.serverAt(o, "2222222222222222")
			time.Sleep(time.Minute)
			open := w.shutGate()
			id := w.launching()
			w.must(second.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
			_, err := w.svc.HoldLine(w.ctx(), w.runners["lab"].ID, "the first process")
			w.must(err)
			o.all.Store(true)
			time.Sleep(40*time.Second + time.Duration(ms)*time.Millisecond)
			o.all.Store(false)
			time.Sleep(7 * time.Second)
			if other, err := second.HoldLine(w.ctx(), w.runners["lab"].ID, "another"); other == "" || err != nil {
				t.Errorf("another process is let in: %v", err)
			}
			open()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			w.statusAt(second, id, core.StatusRunning)
			second.Close()
		})
	}
}

// TestLineEndsDuringAnOutage: the end of a line that could not be written is written later, and the runner is let in elsewhere.
func TestLineEndsDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := sharing(t, time.Hour)
		second := w.serverAt(o.Store, "2222222222222222")
		lab := w.runners["lab"].ID
		_, err := w.svc.HoldLine(w.ctx(), lab, "one")
		w.must(err)
		o.writers.Store(true)
		w.svc.DropLine(lab)
		if other, err := second.HoldLine(w.ctx(), lab, "two"); other == "" || err != nil {
			t.Errorf("let in too early: %v", err)
		}
		o.writers.Store(false)
		time.Sleep(3 * control.DefaultServerBeat)
		synctest.Wait()
		if other, err := second.HoldLine(w.ctx(), lab, "two"); other != "" || err != nil {
			t.Errorf("kept out by %q: %v", other, err)
		}
		second.Close()
	})
}

// TestGivenUpDuringAnOutage: a server that cannot write that it gives a sandbox up writes it later.
func TestGivenUpDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := sharing(t, time.Minute)
		w.must(w.svc.Attach(w.ctx(), w.runners["lab"].ID, &gate{Link: w.agent(w.fakes["lab"]), w: w}))
		second := w.serverAt(o.Store, "2222222222222222")
		open := w.shutGate()
		id := w.launching()
		w.must(second.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
		w.svc.Detach(w.runners["lab"].ID)
		time.Sleep(50 * time.Second)
		o.writers.Store(true)
		time.Sleep(11 * time.Second)
		open()
		time.Sleep(17 * time.Second)
		o.writers.Store(false)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.statusAt(second, id, core.StatusFailed)
		second.Close()
	})
}

// latePass is a line on which the end of the first pass is late.
type latePass struct {
	runner.Link
	late chan struct{}
}

func (l *latePass) Observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return func(yield func(*backend.Observation) bool) {
		for o := range l.Link.Observe(ctx) {
			if o == nil {
				<-l.late
			}
			if !yield(o) {
				return
			}
		}
	}
}

// TestHandOverDuringTheFirstPass: what another server hands over between what the runner has told and the end of its telling is not lost.
func TestHandOverDuringTheFirstPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, second, _, _ := twoServers(t)
		open := w.shutGate()
		id := w.launching()
		late := make(chan struct{})
		done := make(chan error, 1)
		go func() {
			done <- second.Attach(w.ctx(), w.runners["lab"].ID, &latePass{w.agent(w.fakes["lab"]), late})
		}()
		synctest.Wait()
		open()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := w.get(id); got.Status != core.StatusRunning {
			t.Errorf("it does not run: %s", got.Status)
		}
		close(late)
		w.must(<-done)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		w.statusAt(second, id, core.StatusRunning)
		second.Close()
	})
}

// TestServerAndRunnerEndTogether: a server and the runner that only it reached end together. One that is left, which never heard of either
// sandbox, calls them LOST after the same time as the first would have.
func TestServerAndRunnerEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := sharing(t, 10*time.Minute)
		second := w.serverAt(o.Store, "2222222222222222")
		w.must(w.svc.Attach(w.ctx(), w.runners["lab"].ID, &gate{Link: w.agent(w.fakes["lab"]), w: w}))
		sb := w.running(&specpb.Launch{RunnerIds: []string{"lab"}})
		open := w.shutGate()
		defer open()
		pending := w.launching()
		w.firstDies(second)
		time.Sleep(8 * time.Minute)
		synctest.Wait()
		if got := w.get(sb.ID); got.Status != core.StatusRunning {
			t.Errorf("decided too early: %s %q", got.Status, got.StatusReason)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for _, id := range []string{sb.ID, pending} {
			if got := w.get(id); got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndLost) || got.ExitCode != nil {
				t.Errorf("%s %q %v", got.Status, got.StatusReason, got.ExitCode)
			}
		}
		second.Close()
	})
}

// lateCommit is a store whose next write is said to have failed, and takes effect when it is delivered.
type lateCommit struct {
	store.Store
	armed atomic.Bool
	write func(store.Tx) error
}

func (l *lateCommit) Update(ctx context.Context, fn func(store.Tx) error) error {
	if l.armed.CompareAndSwap(true, false) {
		l.write = fn
		return fault.New(fault.Unavailable, "STORE_AWAY", "the connection to the store was cut")
	}
	return l.Store.Update(ctx, fn)
}

// TestCommitThatComesLate: a launch that took effect after its caller was told that it failed is ended, without a new line of its runner,
// and what it reserved is free again; by a server that has its database to itself, too.
func TestCommitThatComesLate(t *testing.T) {
	for _, place := range []string{"", "1111111111111111"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.close()
			w.open()
			w.svc.Close()
			late := &lateCommit{Store: w.store}
			w.svc = w.serverAt(late, place)
			w.attach("r1")
			synctest.Wait() // what an attachment writes is written
			late.armed.Store(true)
			_, _, err := w.svc.Launch(w.ctx(), w.user, &specpb.Launch{})
			wantFault(t, err, fault.Unavailable, "STORE_AWAY")
			time.Sleep(11 * time.Second) // Not when the server looks, every five: it would end the sandbox before the test sees it.
			w.must(w.store.Update(w.ctx(), late.write))
			all, _, err := w.svc.List(w.ctx(), w.user, control.SandboxQuery{})
			w.must(err)
			if len(all) != 1 || all[0].Status != core.StatusPending {
				t.Fatalf("the write has not taken effect: %v", all)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			got := w.get(all[0].ID)
			if got.Status != core.StatusFailed || !strings.HasPrefix(got.StatusReason, core.EndStartFailed) {
				t.Errorf("%s %q", got.Status, got.StatusReason)
			}
			if w.fakes["r1"].Work(got.ID) != nil {
				t.Error("it was started")
			}
			w.must(w.store.View(w.ctx(), func(r store.Reader) error {
				reserved, err := r.Reserved(w.ctx(), w.runners["r1"].ID)
				if reserved != (core.Amounts{}) {
					t.Errorf("%+v stays reserved", reserved)
				}
				return err
			}))
		})
	}
}
