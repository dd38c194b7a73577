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

func TestDeleteRunner(t *testing.T) {
	w := newWorld(t, "r1", "r2")
	sb := w.running(nil)
	busy, idle := sb.RunnerID, "r1"
	if busy == idle {
		idle = "r2"
	}
	wantFault(t, w.svc.DeleteRunner(w.ctx(), w.admin, idle, control.DeleteOptions{Etag: "stale"}), fault.Conflict, fault.ReasonEtagMismatch)
	w.must(w.svc.DeleteRunner(w.ctx(), w.admin, idle, control.DeleteOptions{}))
	_, err := w.svc.GetRunner(w.ctx(), w.user, idle)
	wantFault(t, err, fault.NotFound, fault.ReasonRunnerNotFound)
	err = w.svc.DeleteRunner(w.ctx(), w.admin, busy, control.DeleteOptions{})
	wantFault(t, err, fault.Precondition, fault.ReasonRunnerHasSandboxes, "1 sandbox")
	if fault.From(err).Meta["sandboxes"] != "1" {
		t.Errorf("metadata: %v", fault.From(err).Meta)
	}
	wantFault(t, w.svc.DeleteRunner(w.ctx(), w.admin, "nobody", control.DeleteOptions{Force: true}), fault.NotFound, fault.ReasonRunnerNotFound)
	// Ended sandboxes and revisions stay when the runner goes.
	w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	w.must(w.svc.DeleteRunner(w.ctx(), w.admin, busy, control.DeleteOptions{}))
	if got := w.get(sb.ID); got.RunnerID != busy || got.Status != core.StatusCompleted {
		t.Errorf("%+v", got)
	}
	revisions, _, err := w.svc.RunnerRevisions(w.ctx(), w.user, w.runners[busy].ID, control.Page{})
	w.must(err)
	if len(revisions) != 2 || !revisions[0].Deleted {
		t.Errorf("%+v", revisions)
	}
	e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "")
	w.must(err)
	if len(e.Fields) == 0 || e.Fields[0].Enforcement == "" {
		t.Errorf("what was launched there can still be explained: %+v", e)
	}
}

func TestForcedDeleteDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fakes["r1"].IgnoreTerm(true)
		ids := []string{w.running(nil).ID, w.running(nil).ID, w.running(nil).ID}
		w.must(w.svc.DeleteRunner(w.ctx(), w.admin, "r1", control.DeleteOptions{Force: true}))
		synctest.Wait()
		v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
		w.must(err)
		if v.Status.Install != control.InstallDeleting || v.Status.Live != 3 {
			t.Errorf("%+v", v.Status)
		}
		if _, _, err := w.svc.Launch(w.ctx(), w.user, nil); err == nil {
			t.Error("a runner that is being deleted took a sandbox")
		}
		if err := w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true, Alias: "x"}); !fault.Is(err, fault.Precondition) {
			t.Errorf("an edit of it: %v", err)
		}
		w.must(w.svc.DeleteRunner(w.ctx(), w.admin, "r1", control.DeleteOptions{})) // again
		for _, id := range ids {
			if got := w.get(id); got.Status != core.StatusTerminating {
				t.Errorf("%s", got.Status)
			}
		}
		time.Sleep(control.DrainGrace)
		synctest.Wait()
		for _, id := range ids {
			if got := w.get(id); got.Status != core.StatusCompleted || got.StatusReason != core.EndDeleted {
				t.Errorf("%s %q", got.Status, got.StatusReason)
			}
		}
		_, err = w.svc.GetRunner(w.ctx(), w.user, "r1")
		wantFault(t, err, fault.NotFound, fault.ReasonRunnerNotFound)
	})
}

// TestDrainSurvivesARestart: the deletion goes on where it was, with and without the runner's process.
func TestDrainSurvivesARestart(t *testing.T) {
	for _, back := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorldWith(t, control.Config{LostAfter: time.Minute}, fake.Config{})
			sb := w.running(nil)
			w.svc.Detach(w.runners["r1"].ID)
			w.must(w.svc.DeleteRunner(w.ctx(), w.admin, "r1", control.DeleteOptions{Force: true}))
			w.restart()
			if back {
				w.attach("r1")
			} else {
				time.Sleep(time.Minute + time.Second)
			}
			got := w.ended(sb.ID)
			want := core.EndDeleted
			if !back {
				want = core.EndLost
			}
			if got.StatusReason[:min(len(want), len(got.StatusReason))] != want {
				t.Errorf("back %v: %s %q", back, got.Status, got.StatusReason)
			}
			synctest.Wait()
			_, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
			wantFault(t, err, fault.NotFound, fault.ReasonRunnerNotFound)
		})
	}
}

// TestLastEndWhileTheServerWasAway: nothing lives any more when it comes back; the runner goes.
func TestLastEndWhileTheServerWasAway(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	w.fakes["r1"].IgnoreTerm(true)
	w.must(w.svc.DeleteRunner(w.ctx(), w.admin, "r1", control.DeleteOptions{Force: true}))
	w.close()
	w.fakes["r1"].Exit(sb.ID, 0)
	w.open()
	w.must(w.svc.Recover(w.ctx()))
	w.attach("r1")
	w.ended(sb.ID)
	w.eventually("the runner is gone", func() bool {
		_, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
		return fault.Is(err, fault.NotFound)
	})
}
