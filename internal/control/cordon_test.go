package control_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestCordonRunner(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	var none control.EditState
	_, err := w.svc.CordonRunner(w.ctx(), w.user, "r1", none)
	wantFault(t, err, fault.Denied, fault.ReasonRoleMissing)
	_, err = w.svc.CordonRunner(w.ctx(), w.admin, "nobody", none)
	wantFault(t, err, fault.NotFound, fault.ReasonRunnerNotFound)
	_, err = w.svc.CordonRunner(w.ctx(), w.admin, "r1", control.EditState{Etag: "stale"})
	wantFault(t, err, fault.Conflict, fault.ReasonEtagMismatch)
	_, err = w.svc.CordonRunner(w.ctx(), w.admin, "r1", control.EditState{Reason: strings.Repeat("x", control.MaxCordonReason+1)})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid, "1024")

	m, err := w.svc.CordonRunner(w.ctx(), w.admin, "r1", control.EditState{Reason: "kernel update"})
	w.must(err)
	if m.Cordon == nil || m.Cordon.By != w.admin.Actor || m.Cordon.Reason != "kernel update" || m.Live != 1 {
		t.Errorf("%+v", m)
	}
	_, _, err = w.svc.Launch(w.ctx(), w.user, nil)
	wantFault(t, err, fault.Precondition, fault.ReasonNoSuitableRunner, "takes no new sandboxes", "cordoned by "+w.admin.Actor, "kernel update", "berm runner uncordon r1")
	if after := fault.From(err).RetryAfter; after != 0 {
		t.Errorf("a retry in %s is suggested; only an operator ends a cordon", after)
	}
	if got := w.get(sb.ID); got.Status != core.StatusRunning {
		t.Errorf("what ran is %s", got.Status)
	}
	again, err := w.svc.CordonRunner(w.ctx(), w.admin, "r1", none)
	w.must(err)
	if again.Etag != m.Etag || again.Cordon.Reason != "kernel update" {
		t.Errorf("a cordon without a reason changed %+v to %+v", m, again)
	}
	// An edit of the runner leaves it cordoned.
	_, _, err = w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{Mask: []string{"display_name"}, Runner: control.RunnerInput{DisplayName: "East"}})
	w.must(err)
	all, err := w.svc.CordonedRunners(w.ctx(), w.user)
	w.must(err)
	if len(all) != 1 || all[0].RunnerID != "r1" {
		t.Errorf("%+v", all)
	}
	m, err = w.svc.UncordonRunner(w.ctx(), w.admin, "r1", control.EditState{Reason: "done"})
	w.must(err)
	if m.Cordon != nil {
		t.Errorf("%+v", m)
	}
	w.launch(nil)
	revisions, _, err := w.svc.RunnerRevisions(w.ctx(), w.admin, "r1", control.Page{})
	w.must(err)
	if got := revisions[0].Runner.Reason + "; " + revisions[2].Runner.Reason; got != "uncordoned: done; cordoned: kernel update" {
		t.Errorf("the history says %q", got)
	}
}

func TestDrainRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fakes["r1"].IgnoreTerm(true)
		ids := []string{w.running(nil).ID, w.running(nil).ID, w.running(nil).ID}
		_, err := w.svc.DrainRunner(w.ctx(), w.admin, "r1", 2*control.MaxDrainGrace, control.EditState{})
		wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid, "grace_seconds")
		d, err := w.svc.DrainRunner(w.ctx(), w.admin, "r1", 20*time.Second, control.EditState{Reason: "moving"})
		w.must(err)
		if d.Asked != 3 || d.Failed != 0 || d.Live != 3 || d.Cordon == nil {
			t.Errorf("%+v", d)
		}
		time.Sleep(21 * time.Second)
		synctest.Wait()
		m, err := w.svc.RunnerMaintenance(w.ctx(), w.user, "r1")
		w.must(err)
		if m.Live != 0 || m.Cordon == nil {
			t.Errorf("%+v", m)
		}
		for _, id := range ids {
			if got := w.get(id); !got.Status.Terminal() || !strings.HasPrefix(got.StatusReason, core.EndStopped) {
				t.Errorf("%s: %s %s", id, got.Status, got.StatusReason)
			}
		}
	})
}
