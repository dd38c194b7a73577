package control_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

const leaseTTL, leaseGrace = time.Minute, 2 * time.Minute

func (w *world) newLease() *core.Lease {
	w.Helper()
	v, err := w.svc.CreateLease(w.ctx(), w.user, control.LeaseInput{TTL: leaseTTL, Grace: leaseGrace, Purpose: "training"})
	w.must(err)
	return v.Lease
}

func (w *world) leaseState(svc *control.Service, id string, want core.LeaseState) {
	w.Helper()
	v, err := svc.GetLease(w.ctx(), w.user, id)
	w.must(err)
	if v.Lease.State != want {
		w.Errorf("the lease is %s, want %s", v.Lease.State, want)
	}
}

func (w *world) renew(svc *control.Service, id string) {
	w.Helper()
	if _, err := svc.RenewLease(w.ctx(), w.user, id); err != nil {
		w.Errorf("renew: %v", err)
	}
}

// after lets time pass, and what is to happen in it.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) wantEnd(id, reason string) {
	w.Helper()
	sb := w.ended(id)
	stops := 0
	for _, e := range sb.Timeline {
		if e.Name == "stopping" {
			stops++
		}
	}
	if sb.Status != core.StatusCompleted || sb.StatusReason != reason || stops != 1 {
		w.Errorf("%s %q, stopped %d times", sb.Status, sb.StatusReason, stops)
	}
}

// TestLease: for as long as it is renewed its sandboxes run; silence makes it lost, which they say, and which a renewal ends; silence
// beyond the grace stops them, once, with the reason. What has no lease, or another, goes on.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, other := w.newLease(), w.newLease()
		one, two := w.running(&specpb.Launch{LeaseId: l.ID}), w.running(&specpb.Launch{LeaseId: l.ID, Purpose: "a rollout"})
		free, held := w.running(nil), w.running(&specpb.Launch{LeaseId: other.ID})
		for range 20 {
			after(45 * time.Second)
			w.renew(w.svc, l.ID)
			w.renew(w.svc, other.ID)
		}
		w.leaseState(w.svc, l.ID, core.LeaseActive)
		go func() {
			for range 10 {
				time.Sleep(50 * time.Second)
				w.renew(w.svc, other.ID)
			}
		}()
		after(61 * time.Second)
		w.leaseState(w.svc, l.ID, core.LeaseLost)
		if got := w.get(one.ID); got.Status != core.StatusRunning || !strings.HasPrefix(got.StatusReason, core.ReasonLeaseLostNote) {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
		w.renew(w.svc, l.ID)
		w.leaseState(w.svc, l.ID, core.LeaseActive)
		if got := w.get(one.ID); got.StatusReason != "" {
			t.Errorf("revived, it says %q", got.StatusReason)
		}
		after(2*time.Minute + 58*time.Second)
		for _, id := range []string{one.ID, two.ID} {
			if got := w.get(id); got.Status != core.StatusRunning {
				t.Errorf("before the grace is over: %s", got.Status)
			}
		}
		after(4 * time.Second)
		for _, id := range []string{one.ID, two.ID} {
			w.wantEnd(id, core.EndLeaseExpired)
		}
		w.leaseState(w.svc, l.ID, core.LeaseExpired)
		for _, id := range []string{free.ID, held.ID} {
			if got := w.get(id); got.Status != core.StatusRunning {
				t.Errorf("beside it: %s %q", got.Status, got.StatusReason)
			}
		}
		_, err := w.svc.RenewLease(w.ctx(), w.user, l.ID)
		wantFault(t, err, fault.Precondition, fault.ReasonLeaseEnded, "EXPIRED")
		_, _, err = w.svc.Launch(w.ctx(), w.user, &specpb.Launch{LeaseId: l.ID})
		wantFault(t, err, fault.Precondition, fault.ReasonLeaseEnded)
		time.Sleep(10 * time.Minute) // the other renewals are over
	})
}

// TestReleaseLease: who is done says so, and decides what becomes of the sandboxes.
func TestReleaseLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		done, dropped := w.newLease(), w.newLease()
		stopped, kept := w.running(&specpb.Launch{LeaseId: done.ID}), w.running(&specpb.Launch{LeaseId: dropped.ID})
		v, err := w.svc.ReleaseLease(w.ctx(), w.user, done.ID, false)
		w.must(err)
		if v.Lease.State != core.LeaseReleased || v.Lease.EndedAt.IsZero() {
			t.Errorf("%+v", v.Lease)
		}
		w.wantEnd(stopped.ID, core.EndLeaseReleased)
		_, err = w.svc.ReleaseLease(w.ctx(), w.user, dropped.ID, true)
		w.must(err)
		v, err = w.svc.ReleaseLease(w.ctx(), w.user, dropped.ID, false) // the first word counts
		w.must(err)
		if v.Lease.State != core.LeaseDropped {
			t.Errorf("released again: %s", v.Lease.State)
		}
		w.restart()
		w.attach("r1")
		after(time.Hour)
		if got := w.get(kept.ID); got.Status != core.StatusRunning {
			t.Errorf("let go: %s %q", got.Status, got.StatusReason)
		}
		// A fork of one that was let go needs no lease, either.
		if _, _, err := w.svc.Fork(w.ctx(), w.user, kept.ID, 0, nil); err != nil && fault.HasReason(err, fault.ReasonLeaseEnded) {
			t.Error(err)
		}
	})
}

// TestLeaseOfAnEarlierProcess: a holder could not renew while no server was there. Silence is counted anew from the start of the next.
func TestLeaseOfAnEarlierProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.newLease()
		sb := w.running(&specpb.Launch{LeaseId: l.ID})
		after(50 * time.Second)
		w.close()
		after(time.Hour)
		w.open()
		w.must(w.svc.Recover(w.ctx()))
		w.attach("r1")
		after(leaseTTL + leaseGrace - 2*time.Second)
		if got := w.get(sb.ID); got.Status != core.StatusRunning {
			t.Errorf("stopped too early: %s %q", got.Status, got.StatusReason)
		}
		after(4 * time.Second)
		w.wantEnd(sb.ID, core.EndLeaseExpired)
	})
}

// TestLeaseEndedBeforeItsSandboxesWere: a process that died between the end of a lease and the stops; and a runner that was out of contact
// meanwhile.
func TestLeaseEndedBeforeItsSandboxesWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.newLease()
		sb := w.running(&specpb.Launch{LeaseId: l.ID})
		w.fakes["r1"].Unreachable(true)
		after(leaseTTL + leaseGrace + time.Second)
		w.leaseState(w.svc, l.ID, core.LeaseExpired)
		w.restart()
		w.fakes["r1"].Unreachable(false)
		w.attach("r1")
		after(10 * time.Second)
		w.wantEnd(sb.ID, core.EndLeaseExpired)
	})
}

// TestLeaseDuringAnOutage: with one server, renewals need no store; an end that cannot be written stops nothing, and a holder who comes back
// meanwhile has the lease back.
func TestLeaseDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.close()
		w.open()
		w.svc.Close()
		o := &outage{Store: w.store}
		w.svc = w.serverAt(o, "")
		w.attach("r1")
		l := w.newLease()
		sb := w.running(&specpb.Launch{LeaseId: l.ID})
		o.all.Store(true)
		for range 10 {
			after(50 * time.Second)
			w.renew(w.svc, l.ID)
		}
		after(leaseTTL + leaseGrace + 17*time.Second)
		w.renew(w.svc, l.ID)
		o.all.Store(false)
		after(time.Second)
		w.leaseState(w.svc, l.ID, core.LeaseActive)
		after(30 * time.Second)
		if got := w.get(sb.ID); got.Status != core.StatusRunning || got.StatusReason != "" {
			t.Errorf("%s %q", got.Status, got.StatusReason)
		}
	})
}

// TestLeaseAtTwoServers: a renewal at one server counts at the other; an outage of the store that neither can write in counts for nobody;
// and the end is one.
func TestLeaseAtTwoServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := sharing(t, time.Hour)
		w.attach("lab")
		second := w.serverAt(o, "2222222222222222")
		w.must(second.Attach(w.ctx(), w.runners["lab"].ID, w.agent(w.fakes["lab"])))
		l := w.newLease()
		sb := w.running(&specpb.Launch{RunnerIds: []string{"lab"}, LeaseId: l.ID})
		for range 20 { // each hears of it every second time alone
			after(40 * time.Second)
			w.renew(second, l.ID)
		}
		w.leaseState(w.svc, l.ID, core.LeaseActive)
		w.statusAt(second, sb.ID, core.StatusRunning)

		for _, away := range []func(bool){func(b bool) { o.all.Store(b) }, func(b bool) { o.writers.Store(b) }} {
			away(true)
			after(20 * time.Minute)
			_, err := w.svc.RenewLease(w.ctx(), w.user, l.ID)
			wantFault(t, err, fault.Unavailable, "STORE_AWAY")
			away(false)
			after(50 * time.Second)
			w.statusAt(second, sb.ID, core.StatusRunning)
			w.renew(w.svc, l.ID)
		}
		after(70 * time.Second)
		w.leaseState(second, l.ID, core.LeaseLost)
		w.leaseState(w.svc, l.ID, core.LeaseLost)
		w.renew(second, l.ID)
		after(6 * time.Second)
		w.leaseState(w.svc, l.ID, core.LeaseActive)
		after(leaseTTL + leaseGrace + 10*time.Second)
		w.statusAt(second, sb.ID, core.StatusCompleted)
		w.wantEnd(sb.ID, core.EndLeaseExpired)
		_, err := second.RenewLease(w.ctx(), w.user, l.ID)
		wantFault(t, err, fault.Precondition, fault.ReasonLeaseEnded)
		second.Close()
	})
}

// TestLeaseReleasedElsewhere: the other server refuses it at once, and the sandbox that it launches at that moment is stopped.
func TestLeaseReleasedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, second, _, _ := twoServers(t)
		l := w.newLease()
		after(time.Second)
		w.renew(second, l.ID)
		open := w.shutGate()
		done := make(chan string, 1)
		go func() {
			sb, _, err := w.svc.Launch(w.ctx(), w.user, &specpb.Launch{RunnerIds: []string{"lab"}, LeaseId: l.ID})
			w.must(err)
			done <- sb.ID
		}()
		synctest.Wait()
		_, err := second.ReleaseLease(w.ctx(), w.user, l.ID, false)
		w.must(err)
		_, err = second.RenewLease(w.ctx(), w.user, l.ID)
		wantFault(t, err, fault.Precondition, fault.ReasonLeaseEnded, "RELEASED")
		open()
		w.wantEnd(<-done, core.EndLeaseReleased)
		second.Close()
	})
}

// TestLeaseIsToldToWatchers: that it is lost is told at once, and that it is back.
func TestLeaseIsToldToWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.newLease()
		sb := w.running(&specpb.Launch{LeaseId: l.ID})
		ctx, cancel := context.WithCancel(w.ctx())
		events, err := w.svc.Watch(ctx, w.user, control.WatchQuery{})
		w.must(err)
		told := make(chan string, 100)
		over := make(chan struct{})
		go func() {
			defer close(over)
			for e, err := range events {
				if err != nil {
					t.Error(err)
				}
				if e.Sandbox != nil && e.Sandbox.ID == sb.ID {
					told <- e.Sandbox.StatusReason
				}
			}
		}()
		after(leaseTTL)
		w.renew(w.svc, l.ID)
		synctest.Wait()
		cancel()
		<-over
		close(told)
		var got []string
		for reason := range told {
			got = append(got, strings.SplitN(reason, ":", 2)[0])
		}
		if strings.Join(got, ",") != core.ReasonLeaseLostNote+"," {
			t.Errorf("told %q", got)
		}
	})
}

func TestLeaseRefusals(t *testing.T) {
	w := newWorld(t)
	for name, in := range map[string]control.LeaseInput{
		"ttl_seconds":   {TTL: time.Second},
		"grace_seconds": {TTL: time.Minute, Grace: -1},
		"purpose":       {TTL: time.Minute, Purpose: "two\nlines"},
	} {
		_, err := w.svc.CreateLease(w.ctx(), w.user, in)
		if wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid); !hasField(err, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := w.newLease()
	stranger := w.user
	stranger.OrgID = "another"
	for name, call := range map[string]func(p core.Principal, id string) error{
		"get":   func(p core.Principal, id string) error { _, err := w.svc.GetLease(w.ctx(), p, id); return err },
		"renew": func(p core.Principal, id string) error { _, err := w.svc.RenewLease(w.ctx(), p, id); return err },
		"release": func(p core.Principal, id string) error {
			_, err := w.svc.ReleaseLease(w.ctx(), p, id, false)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			wantFault(t, call(stranger, l.ID), fault.NotFound, fault.ReasonLeaseNotFound)
			wantFault(t, call(w.user, "nothing"), fault.NotFound, fault.ReasonLeaseNotFound)
			w.leaseState(w.svc, l.ID, core.LeaseActive)
		})
	}
	_, _, err := w.svc.Launch(w.ctx(), w.user, &specpb.Launch{LeaseId: "nothing"})
	wantFault(t, err, fault.NotFound, fault.ReasonLeaseNotFound)
}

// TestLeaseOfAToken: a token that names a lease has its launches live under it, unless they name another.
func TestLeaseOfAToken(t *testing.T) {
	w := newWorld(t)
	l, other := w.newLease(), w.newLease()
	_, secret, err := w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "trainer", Role: core.RoleUser})
	w.must(err)
	p, err := w.svc.Authenticate(w.ctx(), secret+"~"+l.ID)
	w.must(err)
	for named, want := range map[string]string{"": l.ID, other.ID: other.ID} {
		sb, _, err := w.svc.Launch(w.ctx(), p, &specpb.Launch{LeaseId: named})
		w.must(err)
		if got := w.get(sb.ID); got.Launch.GetLeaseId() != want {
			t.Errorf("it lives under %q, want %q", got.Launch.GetLeaseId(), want)
		}
	}
	if !control.IsToken(secret+"~"+l.ID) || control.IsToken("~"+l.ID) {
		t.Error("a token with a lease behind it would reach the sandbox's program as a header")
	}
	if _, err := w.svc.Authenticate(w.ctx(), "~"+l.ID); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a lease alone: %v", err)
	}
}

// TestOrphans: each reason by itself, and none for those who have an owner.
func TestOrphans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{}, fake.Config{})
		token, secret, err := w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "gone", Role: core.RoleUser})
		w.must(err)
		gone, err := w.svc.Authenticate(w.ctx(), secret)
		w.must(err)
		l := w.newLease()
		leased := w.running(&specpb.Launch{LeaseId: l.ID})
		quiet, used := w.running(&specpb.Launch{Purpose: "a notebook"}), w.running(nil)
		left, _, err := w.svc.Launch(w.ctx(), gone, &specpb.Launch{})
		w.must(err)
		want := func(want map[string]string) {
			t.Helper()
			list, _, err := w.svc.ListOrphans(w.ctx(), w.user, time.Hour, control.Page{})
			w.must(err)
			got := map[string]string{}
			for _, o := range list {
				for _, r := range o.Reasons {
					got[o.Sandbox.ID] += string(r) + " "
				}
				if o.Why == "" {
					t.Errorf("no words for %v", o.Reasons)
				}
			}
			for id, why := range want {
				if got[id] != why {
					t.Errorf("%q, want %q", got[id], why)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%v, want %v", got, want)
			}
		}
		want(nil)
		w.must(w.svc.RevokeToken(w.ctx(), w.admin, "", token.ID))
		after(59 * time.Second)
		want(map[string]string{left.ID: "TOKEN_GONE "})
		after(2 * time.Second)
		want(map[string]string{left.ID: "TOKEN_GONE ", leased.ID: "LEASE_LOST "})
		after(55 * time.Minute)
		w.must(w.svc.WriteFile(w.ctx(), w.user, used.ID, "/tmp/a", 0o644, strings.NewReader("x")))
		after(5 * time.Minute)
		want(map[string]string{left.ID: "TOKEN_GONE NO_CONTACT ", quiet.ID: "NO_CONTACT "})
		w.restart() // who counts from here on does not know better
		w.attach("r1")
		want(map[string]string{left.ID: "TOKEN_GONE "})
	})
}
