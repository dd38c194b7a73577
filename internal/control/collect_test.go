package control_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestRetention: a sandbox that has ended is kept for the time named, and then gone without a trace; one that lives stays.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const kept = 48 * time.Hour
		w := newWorldWith(t, control.Config{Retention: kept}, fake.Config{})
		lives, ends, later := w.running(nil), w.running(nil), w.running(nil)
		w.must(w.svc.Delete(w.ctx(), w.user, ends.ID))
		time.Sleep(10 * time.Hour)
		w.must(w.svc.Delete(w.ctx(), w.user, later.ID))
		time.Sleep(kept - 10*time.Hour - time.Minute)
		for _, sb := range []*core.Sandbox{lives, ends, later} {
			w.get(sb.ID)
		}
		time.Sleep(2 * time.Hour)
		_, err := w.svc.Get(w.ctx(), w.user, ends.ID)
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
		_, err = w.svc.Explain(w.ctx(), w.user, ends.ID, "")
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
		w.get(later.ID)
		list, _, err := w.svc.List(w.ctx(), w.user, control.SandboxQuery{IncludeEnded: true})
		w.must(err)
		if len(list) != 2 {
			t.Errorf("%d are listed", len(list))
		}
		// What it was made from stays.
		if revisions, _, err := w.svc.ProfileRevisions(w.ctx(), w.user, control.DefaultProfile, control.Page{}); err != nil || len(revisions) == 0 {
			t.Errorf("%d revisions, %v", len(revisions), err)
		}
		if got := w.get(lives.ID); got.Status != core.StatusRunning {
			t.Errorf("%s", got.Status)
		}
		w.must(w.svc.Delete(w.ctx(), w.user, lives.ID))
	})
}

// TestRetentionOfMany: more than one transaction removes.
func TestRetentionOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{Retention: control.MinRetention}, fake.Config{})
		for range 120 {
			w.must(w.svc.Delete(w.ctx(), w.user, w.running(nil).ID))
		}
		time.Sleep(control.MinRetention + 2*time.Hour)
		if n := w.count(); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}
