package control_test

import (
	"context"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// breaking is a link whose next hand-over happens while the line breaks and comes back.
type breaking struct {
	runner.Link
	during func()
	answer error
	// lag is how long the runner then takes to say that it has said everything that it has.
	lag atomic.Int64
}

func (l *breaking) Observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return func(yield func(*backend.Observation) bool) {
		for o := range l.Link.Observe(ctx) {
			if o == nil {
				time.Sleep(time.Duration(l.lag.Load()))
			}
			if !yield(o) {
				return
			}
		}
	}
}

func (l *breaking) Apply(ctx context.Context, a *runner.Assignment) error {
	during, answer := l.during, l.answer
	l.during, l.answer = nil, nil
	if during != nil {
		during()
	}
	if answer != nil {
		return answer
	}
	if ctx.Err() != nil {
		return fault.New(fault.Canceled, "", "the caller went away").WithCause(ctx.Err())
	}
	return l.Link.Apply(ctx, a)
}

// TestLineBreaksDuringTheHandOver: what the runner could not have said anything about is not declared lost.
func TestLineBreaksDuringTheHandOver(t *testing.T) {
	unavailable := fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "no answer")
	for name, tt := range map[string]struct {
		back   bool
		answer error
		lag    time.Duration
	}{
		"back before the call returned":     {back: true},
		"back before, and not answered":     {back: true, answer: unavailable},
		"back before, and slow to say so":   {back: true, answer: unavailable, lag: time.Minute},
		"back long after, and not answered": {answer: unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.svc.Detach(w.runners["r1"].ID)
				f := w.fakes["r1"]
				link := &breaking{Link: w.agent(f), answer: tt.answer}
				w.must(w.svc.Attach(w.ctx(), w.runners["r1"].ID, link))
				link.during = func() {
					link.lag.Store(int64(tt.lag))
					f.Unreachable(true)
					time.Sleep(time.Millisecond)
					if tt.back {
						f.Unreachable(false)
						time.Sleep(10 * time.Second)
					}
				}
				sb := w.launch(nil)
				if !tt.back {
					time.Sleep(time.Minute)
					if got := w.get(sb.ID); got.Status != core.StatusPending || got.Observation != core.ObservationUnknown {
						t.Errorf("while the line is down: %s %s", got.Status, got.Observation)
					}
					f.Unreachable(false)
				}
				time.Sleep(tt.lag)
				if got := w.wait(sb.ID, control.Settled); got.Status != core.StatusRunning || f.Creates() != 1 {
					t.Errorf("%s %q, made %d times", got.Status, got.StatusReason, f.Creates())
				}
			})
		})
	}
}

// lagging is a link whose observers notice late that they are not wanted any more.
type lagging struct {
	runner.Link
	before, after chan struct{}
}

func (l *lagging) Observe(context.Context) iter.Seq[*backend.Observation] {
	return func(yield func(*backend.Observation) bool) {
		<-l.before
		yield(nil)
		<-l.after
	}
}

// TestLateObserver: an observer of an attachment that is over does not speak for the next one.
func TestLateObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := w.runners["r1"].ID
		connection := func() control.ConnectionStatus {
			synctest.Wait()
			v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
			w.must(err)
			return v.Status.Connection
		}
		w.svc.Detach(id)
		late := &lagging{Link: w.agent(w.fakes["r1"]), before: make(chan struct{}), after: make(chan struct{})}
		ctx, cancel := context.WithTimeout(w.ctx(), time.Second)
		defer cancel()
		wantFault(t, w.svc.Attach(ctx, id, late), fault.Unavailable, fault.ReasonRunnerUnavailable)
		close(late.before)
		if got := connection(); got != control.Disconnected {
			t.Errorf("a first pass after the detach made it %s", got)
		}
		w.attach("r1")
		close(late.after)
		if got := connection(); got != control.Connected {
			t.Errorf("the end of an old observer made it %s", got)
		}
		w.running(nil)
	})
}

// TestAttachThatIsDetached: who attaches a runner that says nothing is told when it is detached, and does not wait for ever.
func TestAttachThatIsDetached(t *testing.T) {
	for name, end := range map[string]func(*world, string){
		"detached": func(w *world, id string) { w.svc.Detach(id) },
		"closed":   func(w *world, _ string) { w.svc.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				id := w.runners["r1"].ID
				w.svc.Detach(id)
				silent := &lagging{Link: runner.NewAgent(w.fakes["r1"], nil), before: make(chan struct{}), after: make(chan struct{})}
				attached := make(chan error, 1)
				go func() { attached <- w.svc.Attach(w.ctx(), id, silent) }()
				synctest.Wait()
				go func() {
					synctest.Wait()
					close(silent.before)
					close(silent.after)
				}()
				end(w, id)
				if err := <-attached; err != nil {
					wantFault(t, err, fault.Unavailable, fault.ReasonRunnerUnavailable)
				} else if name == "detached" {
					t.Error("it was attached")
				}
			})
		})
	}
}

// unwritable is a store in which one sandbox cannot be changed.
type unwritable struct {
	store.Store
	id atomic.Pointer[string]
}

type unwritableTx struct {
	store.Tx
	id string
}

func (u *unwritable) Update(ctx context.Context, fn func(store.Tx) error) error {
	return u.Store.Update(ctx, func(tx store.Tx) error {
		if id := u.id.Load(); id != nil {
			tx = &unwritableTx{tx, *id}
		}
		return fn(tx)
	})
}

func (t *unwritableTx) UpdateSandbox(ctx context.Context, sb *core.Sandbox) error {
	if sb.ID == t.id {
		return fault.Invalidf(fault.ReasonLimitExceeded, "it cannot be stored")
	}
	return t.Tx.UpdateSandbox(ctx, sb)
}

// TestOneBadStatusDoesNotHoldUpTheOthers: what is observed together is written together, but not refused together.
func TestOneBadStatusDoesNotHoldUpTheOthers(t *testing.T) {
	w := newWorld(t)
	bad := &unwritable{Store: w.store}
	cfg := w.cfg
	cfg.Store = bad
	svc := control.New(w.ctx(), cfg)
	defer svc.Close()
	w.svc.Detach(w.runners["r1"].ID)
	w.must(svc.Attach(w.ctx(), w.runners["r1"].ID, w.agent(w.fakes["r1"])))
	var ids []string
	for range 20 {
		sb, _, err := svc.Launch(w.ctx(), w.user, nil)
		w.must(err)
		_, err = svc.Wait(w.ctx(), w.user, sb.ID, control.Settled)
		w.must(err)
		ids = append(ids, sb.ID)
	}
	bad.id.Store(&ids[3])
	for _, id := range ids {
		w.fakes["r1"].Exit(id, 1)
	}
	for _, id := range append(ids[:3:3], ids[4:]...) {
		ctx, cancel := context.WithTimeout(w.ctx(), time.Minute)
		if _, err := svc.Wait(ctx, w.user, id, control.Ended); err != nil {
			t.Fatalf("%v", err)
		}
		cancel()
	}
}

// TestCallerGoesAwayDuringTheHandOver: a sandbox that was committed is handed over whoever waits for it.
func TestCallerGoesAwayDuringTheHandOver(t *testing.T) {
	w := newWorld(t)
	w.svc.Detach(w.runners["r1"].ID)
	link := &breaking{Link: w.agent(w.fakes["r1"])}
	w.must(w.svc.Attach(w.ctx(), w.runners["r1"].ID, link))
	ctx, cancel := context.WithCancel(w.ctx())
	link.during = cancel
	sb, _, err := w.svc.Launch(ctx, w.user, nil)
	w.must(err)
	if got := w.wait(sb.ID, control.Settled); got.Status != core.StatusRunning {
		t.Errorf("%s %q", got.Status, got.StatusReason)
	}
}

// TestStopDuringTheHandOver: a stop waits until the runner has what it is to stop.
func TestStopDuringTheHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.svc.Detach(w.runners["r1"].ID)
		link := &breaking{Link: w.agent(w.fakes["r1"])}
		w.must(w.svc.Attach(w.ctx(), w.runners["r1"].ID, link))
		release := make(chan struct{})
		link.during = func() { <-release }
		go w.launch(nil)
		synctest.Wait()
		all, _, err := w.svc.List(w.ctx(), w.user, control.SandboxQuery{})
		w.must(err)
		ctx, cancel := context.WithTimeout(w.ctx(), time.Second)
		defer cancel()
		if err := w.svc.Stop(ctx, w.user, all[0].ID, 0); !fault.Is(err, fault.Deadline) {
			t.Errorf("a stop that had to wait too long: %v", err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- w.svc.Stop(w.ctx(), w.user, all[0].ID, 0) }()
		synctest.Wait()
		close(release)
		w.must(<-stopped)
		if got := w.ended(all[0].ID); got.Status != core.StatusCompleted || !strings.HasPrefix(got.StatusReason, core.EndStopped) {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
	})
}

// forgetful is a link that does not know sandboxes, or says little about files.
type forgetful struct {
	runner.Link
	err error
}

func (l *forgetful) Exec(context.Context, string, backend.Exec) (backend.Process, error) {
	return nil, l.err
}

func (l *forgetful) ReadFile(context.Context, string, string, int64) (io.ReadCloser, int64, error) {
	return nil, 0, l.err
}

func (l *forgetful) Stop(context.Context, string, time.Duration, string) error { return l.err }

// TestWhatARunnerSays is put into the words of the interface.
func TestWhatARunnerSays(t *testing.T) {
	w := newWorld(t)
	w.svc.Detach(w.runners["r1"].ID)
	link := &forgetful{Link: w.agent(w.fakes["r1"])}
	w.must(w.svc.Attach(w.ctx(), w.runners["r1"].ID, link))
	sb := w.running(nil)
	bare := fault.New(fault.Unavailable, fault.ReasonFileIOFailed, "the disk is broken")
	link.err = bare
	_, _, err := w.svc.ReadFile(w.ctx(), w.user, sb.ID, "/tmp/a", 1)
	wantFault(t, err, fault.Unavailable, fault.ReasonFileIOFailed)
	if fault.From(err).Meta["filepath"] != "/tmp/a" || bare.Meta != nil {
		t.Errorf("metadata: %v, and %v in the runner's own", fault.From(err).Meta, bare.Meta)
	}
	// A sandbox that lives is never a missing one, whatever its runner says.
	link.err = fault.NotFoundf(fault.ReasonSandboxNotFound, "never heard of it")
	_, err = w.svc.Exec(w.ctx(), w.user, sb.ID, execOf("true"))
	wantFault(t, err, fault.Unavailable, fault.ReasonRunnerUnavailable)
	wantFault(t, w.svc.Stop(w.ctx(), w.user, sb.ID, 0), fault.Unavailable, fault.ReasonRunnerUnavailable)
	if got := w.get(sb.ID); got.Status != core.StatusRunning {
		t.Errorf("a stop that failed made it %s", got.Status)
	}
	link.err = fault.Preconditionf(fault.ReasonSandboxNotRunning, "it has ended")
	w.must(w.svc.Stop(w.ctx(), w.user, sb.ID, 0))
}
