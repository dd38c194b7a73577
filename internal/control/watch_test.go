package control_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// watched is a stream that is read as far as a test wants.
type watched struct {
	*world
	next func() (control.WatchEvent, error, bool)
	end  func()
}

// watch begins a stream and reads its first mark, unless it begins with an error.
func (w *world) watch(svc *control.Service, p core.Principal, q control.WatchQuery) *watched {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	events, err := svc.Watch(ctx, p, q)
	w.must(err)
	next, stop := iter.Pull2(events)
	end := func() { cancel(); stop() }
	w.Cleanup(end)
	return &watched{world: w, next: next, end: end}
}

// until reads events up to the first that is wanted, which it returns with all before it.
func (w *watched) until(what string, ok func(control.WatchEvent) bool) (last control.WatchEvent, all []control.WatchEvent) {
	w.Helper()
	for {
		e, err, more := w.next()
		if err != nil || !more {
			w.Fatalf("the stream ended (%v) before %s; it said %+v", err, what, all)
		}
		if all = append(all, e); ok(e) {
			return e, all
		}
	}
}

func marked(e control.WatchEvent) bool { return e.Mark }

func has(id string, status core.Status) func(control.WatchEvent) bool {
	return func(e control.WatchEvent) bool {
		return e.Sandbox != nil && e.Sandbox.ID == id && e.Sandbox.Status == status
	}
}

// TestWatchTellsWhatBecomesOfSandboxes: from the launch to the end, to those who may see it and asked for it, and again from any event.
func TestWatchTellsWhatBecomesOfSandboxes(t *testing.T) {
	w := newWorld(t)
	all := w.watch(w.svc, w.user, control.WatchQuery{})
	tagged := w.watch(w.svc, w.user, control.WatchQuery{Tags: []string{"a", "b"}})
	foreign := w.watch(w.svc, w.otherOrg("acme"), control.WatchQuery{Kinds: []string{store.ChangeSandbox, string(store.KindProfile)}})
	for _, s := range []*watched{all, tagged, foreign} {
		s.until("the first mark", marked)
	}
	other := w.running(&specpb.Launch{Tags: []string{"a"}})
	sb := w.running(&specpb.Launch{Tags: []string{"b", "a"}})
	all.until("that it runs", has(sb.ID, core.StatusRunning))
	w.must(w.svc.Stop(w.ctx(), w.user, sb.ID, time.Second))
	w.ended(sb.ID)
	w.must(w.svc.Stop(w.ctx(), w.user, other.ID, 0))

	end, _ := all.until("the end", has(sb.ID, core.StatusCompleted))
	if end.Sandbox.ExitCode == nil || end.Sandbox.EndedAt.IsZero() || end.At.IsZero() || end.Token == "" {
		t.Errorf("the end is told as %+v", end)
	}
	_, seen := tagged.until("the end of the tagged one", has(sb.ID, core.StatusCompleted))
	for _, e := range seen {
		if e.Sandbox != nil && e.Sandbox.ID != sb.ID {
			t.Errorf("who asked for tags is told of %+v", e.Sandbox)
		}
	}

	// Going on behind the first event tells the rest: of changes close together at least the last.
	again := w.watch(w.svc, w.user, control.WatchQuery{Token: seen[0].Token})
	_, seen = again.until("the mark behind what was missed", marked)
	if !slices.ContainsFunc(seen, has(sb.ID, core.StatusCompleted)) {
		t.Errorf("after a break: %+v", seen)
	}
}

// TestWatchForeignOrganization: nothing of another organization is told, whatever is asked for, and its tokens are refused.
func TestWatchForeignOrganization(t *testing.T) {
	w := newWorld(t)
	acme := w.otherOrg("acme")
	foreign := w.watch(w.svc, acme, control.WatchQuery{Kinds: []string{store.ChangeSandbox, string(store.KindProfile), string(store.KindRunner)}, Existing: true})
	first, seen := foreign.until("the first mark", marked)
	for _, e := range seen {
		if e.Sandbox != nil || e.Object != nil && e.Object.OrgID != acme.OrgID {
			t.Errorf("told of %+v", e)
		}
	}
	sb := w.running(&specpb.Launch{})
	w.newProfile("ours", `{}`)
	_, err := w.svc.CreateProfile(w.ctx(), acme, control.ProfileInput{DisplayName: "theirs", Spec: w.layer(`{}`)})
	w.must(err)
	theirs, seen := foreign.until("its own profile", func(e control.WatchEvent) bool { return e.Object != nil })
	if theirs.Object.Name != "theirs" || len(seen) > 1 && !seen[0].Mark {
		t.Errorf("told of %+v, %+v", theirs.Object, seen)
	}
	for name, token := range map[string]string{"of another organization": first.Token, "nonsense": "AAAA", "long": string(make([]byte, 5000))} {
		_, err, _ := w.watch(w.svc, w.user, control.WatchQuery{Token: token}).next()
		wantFault(t, err, fault.Invalid, fault.ReasonPageTokenInvalid, "resume_token")
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, err = w.svc.Watch(w.ctx(), w.user, control.WatchQuery{SandboxIDs: []string{sb.ID}, Kinds: []string{string(store.KindZone)}, Token: "x", Existing: true})
	wantFault(t, err, fault.Invalid, fault.ReasonInvalidRequest, "sandbox_ids", "include_existing")
}

// TestWatchOfConfiguration: each revision with who wrote it and why, what is gone too, and what is there first when that is asked for.
func TestWatchOfConfiguration(t *testing.T) {
	w := newWorld(t)
	profile := w.newProfile("agent", `{}`)
	s := w.watch(w.svc, w.user, control.WatchQuery{Kinds: []string{string(store.KindProfile)}, Existing: true})
	_, seen := s.until("the first mark", marked)
	if len(seen) != 3 || seen[0].Object.Name != "agent" || seen[1].Object.Name != "default" || !seen[0].At.IsZero() {
		t.Errorf("what is there: %+v", seen)
	}
	_, _, err := w.svc.UpdateProfile(w.ctx(), w.admin, "agent", control.ProfilePatch{
		Mask: []string{"description"}, Profile: control.ProfileInput{Description: "d", Reason: "to be clear"},
	})
	w.must(err)
	e, _ := s.until("the edit", func(e control.WatchEvent) bool { return e.Object != nil && e.Object.ID == profile.ID })
	if e.Object.Revision != 2 || e.Object.Reason != "to be clear" || e.Object.UpdatedBy != w.admin.Actor || e.Object.Deleted {
		t.Errorf("the edit: %+v", e.Object)
	}
	w.must(w.svc.DeleteProfile(w.ctx(), w.admin, "agent", control.DeleteOptions{Reason: "nobody uses it"}))
	wantFault(t, w.svc.DeleteProfile(w.ctx(), w.admin, "default", control.DeleteOptions{Reason: strings.Repeat("r", control.MaxReason+1)}), fault.Invalid, fault.ReasonFieldInvalid, "reason")
	e, _ = s.until("the deletion", func(e control.WatchEvent) bool { return e.Object != nil && e.Object.Deleted })
	if e.Object.Name != "agent" || e.Object.Reason != "nobody uses it" {
		t.Errorf("the deletion: %+v", e.Object)
	}
}

// TestSlowWatcherLosesNothing: who reads too slowly for what is kept in memory is told the rest from the log.
func TestSlowWatcherLosesNothing(t *testing.T) {
	w := newWorld(t)
	control.ShrinkFeed(w.svc, 2)
	s := w.watch(w.svc, w.user, control.WatchQuery{Kinds: []string{string(store.KindProfile)}})
	s.until("the first mark", marked)
	const n = 50
	for i := range n {
		w.newProfile(fmt.Sprint("p", i), `{}`)
	}
	for i := range n {
		e, _ := s.until("each profile in order", func(e control.WatchEvent) bool { return e.Object != nil })
		if e.Object.Name != fmt.Sprint("p", i) {
			t.Fatalf("%s is told where p%d was made", e.Object.Name, i)
		}
	}
}

// TestWatchThroughAnotherServer: a token is good at any server of the database, and each tells what the others do.
func TestWatchThroughAnotherServer(t *testing.T) {
	w := newWorldOn(t, postgres.Database(t), control.Config{}, fake.Config{})
	second := w.server(w.dsn, "second")
	here := w.watch(w.svc, w.user, control.WatchQuery{Kinds: []string{string(store.KindProfile)}})
	start, _ := here.until("the first mark", marked)
	_, err := second.CreateProfile(w.ctx(), w.admin, control.ProfileInput{DisplayName: "there", Spec: w.layer(`{}`)})
	w.must(err)
	e, _ := here.until("what the other server made", func(e control.WatchEvent) bool { return e.Object != nil })
	if e.Object.Name != "there" {
		t.Errorf("told of %+v", e.Object)
	}
	there := w.watch(second, w.user, control.WatchQuery{Kinds: []string{string(store.KindProfile)}, Token: start.Token})
	if e, _ := there.until("the same at the other server", func(e control.WatchEvent) bool { return e.Object != nil }); e.Object.Name != "there" {
		t.Errorf("told of %+v", e.Object)
	}
}

// TestWatchesHaveALimit: one more than may be is refused, and one that ends makes room.
func TestWatchesHaveALimit(t *testing.T) {
	w := newWorld(t)
	open := make([]*watched, control.MaxWatches)
	for i := range open {
		open[i] = w.watch(w.svc, w.user, control.WatchQuery{})
		open[i].until("a mark", marked)
	}
	_, err, _ := w.watch(w.svc, w.user, control.WatchQuery{}).next()
	wantFault(t, err, fault.Exhausted, fault.ReasonLimitExceeded, "1000")
	w.watch(w.svc, w.otherOrg("acme"), control.WatchQuery{}).until("a mark of another organization", marked)
	open[0].end()
	w.watch(w.svc, w.user, control.WatchQuery{}).until("a mark", marked)
}

// slowStore is a store whose reads and writes wait while it is held.
type slowStore struct {
	store.Store
	reads, writes atomic.Bool
	hold          chan struct{}
}

func (o *slowStore) wait(ctx context.Context, held *atomic.Bool) error {
	if !held.Load() {
		return nil
	}
	select {
	case <-o.hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *slowStore) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := o.wait(ctx, &o.reads); err != nil {
		return err
	}
	return o.Store.View(ctx, fn)
}

func (o *slowStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := o.wait(ctx, &o.writes); err != nil {
		return err
	}
	return o.Store.Update(ctx, fn)
}

// newSlowWorld is a world whose store can be held.
func newSlowWorld(t *testing.T) (*world, *slowStore) {
	w := newWorld(t)
	w.close()
	w.open()
	w.svc.Close()
	o := &slowStore{Store: w.store, hold: make(chan struct{})}
	w.svc = w.serverAt(o, "")
	w.attach("r1")
	return w, o
}

// TestWatchHoldsUpNobody: who watches while the store hangs waits alone, and for no longer than he wants to.
func TestWatchHoldsUpNobody(t *testing.T) {
	w, o := newSlowWorld(t)
	sb := w.running(&specpb.Launch{})
	o.reads.Store(true)
	ctx, cancel := context.WithCancel(w.ctx())
	events, err := w.svc.Watch(ctx, w.user, control.WatchQuery{})
	w.must(err)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range events {
		}
	}()
	w.must(w.svc.Stop(w.ctx(), w.user, sb.ID, 0))
	cancel()
	<-over
	close(o.hold)
}

// TestWatchTellsWhatIsTakenBack: a state that memory alone had is not the last word when another follows it that is never written either.
func TestWatchTellsWhatIsTakenBack(t *testing.T) {
	w, o := newSlowWorld(t)
	sb, other := w.running(&specpb.Launch{}), w.running(&specpb.Launch{})
	s := w.watch(w.svc, w.user, control.WatchQuery{SandboxIDs: []string{sb.ID}})
	s.until("the first mark", marked)
	o.writes.Store(true)
	w.must(w.svc.Pause(w.ctx(), w.user, other.ID)) // the writer is busy with this one
	w.must(w.svc.Pause(w.ctx(), w.user, sb.ID))
	s.until("that it is paused", has(sb.ID, core.StatusPaused))
	w.must(w.svc.Resume(w.ctx(), w.user, sb.ID))
	close(o.hold)
	s.until("that it runs again", has(sb.ID, core.StatusRunning))
}

// TestWatchTellsOfContact: that a runner is out of contact, and that it is back, is told of each of its sandboxes, also to a reader that
// is slow.
func TestWatchTellsOfContact(t *testing.T) {
	w := newWorld(t)
	control.ShrinkFeed(w.svc, 2)
	const n = 20
	for range n {
		w.running(&specpb.Launch{})
	}
	s := w.watch(w.svc, w.user, control.WatchQuery{})
	s.until("the first mark", marked)
	told := map[string]core.Observation{}
	all := func(want core.Observation) func(control.WatchEvent) bool {
		return func(e control.WatchEvent) bool {
			if e.Sandbox != nil {
				told[e.Sandbox.ID] = e.Sandbox.Observation
			}
			got := 0
			for _, o := range told {
				if o == want {
					got++
				}
			}
			return got == n
		}
	}
	w.svc.Detach(w.runners["r1"].ID)
	s.until("that all are out of contact", all(core.ObservationUnknown))
	w.attach("r1")
	s.until("that all are back", all(core.ObservationCurrent))
}

// TestWatchBeginsBehindItsToken: what was acknowledged before a stream is opened is told before its first mark, and kinds that are named
// many times are told once.
func TestWatchBeginsBehindItsToken(t *testing.T) {
	w := newWorld(t)
	zones := slices.Repeat([]string{string(store.KindZone)}, 1000)
	start, _ := w.watch(w.svc, w.user, control.WatchQuery{Kinds: zones}).until("the first mark", marked)
	acme := w.otherOrg("acme")
	for i := range 20 {
		for _, p := range []core.Principal{acme, w.admin} {
			_, _, err := w.svc.PutZone(w.ctx(), p, fmt.Sprint("z", i), control.ZoneInput{Defaults: w.layer(`{}`)})
			w.must(err)
		}
		_, seen := w.watch(w.svc, w.user, control.WatchQuery{Kinds: zones, Token: start.Token}).until("the mark behind the zones", marked)
		if len(seen) != i+2 {
			t.Fatalf("%d zones are told as %d events and a mark", i+1, len(seen)-1)
		}
	}
}
