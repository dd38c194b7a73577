package control_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
)

const ordered = `{"container_image":"host","placement":{"runner_groups":["near","far"],"max_wait_seconds":3}}`

// groupedWorld has a runner for one sandbox in the group near, and one in the group far, both with a profile that has them in that order.
func groupedWorld(t *testing.T) *world { return groupedWorldOf(t, 1) }

// groupedWorldOf is groupedWorld with room for so many on each runner.
func groupedWorldOf(t *testing.T, room int64) *world {
	w := newWorldWith(t, control.Config{}, fakeWith(core.Amounts{CPUMillis: 1_000_000, MemoryBytes: 1 << 40, Sandboxes: room}), "a", "b")
	agent := w.newProfile("agent", ordered)
	for name, group := range map[string]string{"a": "near", "b": "far"} {
		_, _, err := w.svc.UpdateRunner(w.ctx(), w.admin, name, control.RunnerPatch{
			Mask:   []string{"identity.runner_group_id", "profile_bindings"},
			Runner: control.RunnerInput{GroupID: group, Bindings: []core.Binding{{ProfileID: agent.ID, Default: true}}},
		})
		w.must(err)
	}
	return w
}

// launched is a launch that is under way.
type launched struct {
	sb   *core.Sandbox
	err  error
	took time.Duration
}

func (w *world) launchAside(ctx context.Context, group *sync.WaitGroup) *launched {
	l := &launched{}
	group.Go(func() {
		began := time.Now()
		l.sb, _, l.err = w.svc.Launch(ctx, w.user, nil)
		l.took = time.Since(began)
	})
	synctest.Wait()
	return l
}

func (w *world) steps(sb *core.Sandbox) []plan.Step {
	e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "")
	w.must(err)
	return e.Steps
}

func timelineOf(sb *core.Sandbox, name string) string {
	for _, e := range sb.Timeline {
		if e.Name == name {
			return e.Message
		}
	}
	return ""
}

// TestSpillover: the next group is taken when no room came in the one before within the time that the profile gives, and explain says so.
func TestSpillover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := groupedWorld(t)
		first := w.running(nil)
		if first.RunnerID != "a" || len(w.steps(first)) != 2 || w.steps(first)[0].Outcome != plan.GroupChosen {
			t.Errorf("the first is on %s: %+v", first.RunnerID, w.steps(first))
		}
		planned, err := w.svc.Plan(w.ctx(), w.user, nil)
		w.must(err)
		if h := planned.Plan.Hold; h == nil || h.Group != "near" || h.For != 3*time.Second || planned.Explanation.RunnerID != "b" {
			t.Errorf("a plan does not say that it would wait: %+v", h)
		}
		began := time.Now()
		second := w.running(nil)
		if second.RunnerID != "b" || time.Since(began).Round(10*time.Millisecond) != 3*time.Second {
			t.Errorf("the second is on %s after %s", second.RunnerID, time.Since(began))
		}
		steps := w.steps(second)
		if steps[0].Outcome != plan.GroupFull || steps[0].Waited.Round(10*time.Millisecond) != 3*time.Second || !strings.Contains(steps[0].Message, "needs 1, 0 of 1 is free; no room came within 3s") ||
			steps[1].Outcome != plan.GroupChosen {
			t.Errorf("%+v", steps)
		}
		if got := timelineOf(second, "waited"); got != "3s for room in runner group near: no room came within 3s" {
			t.Errorf("the timeline says %q", got)
		}
		// All is full: there is nothing to wait for.
		began = time.Now()
		_, _, err = w.svc.Launch(w.ctx(), w.user, nil)
		wantFault(t, err, fault.Exhausted, fault.ReasonNoSuitableRunner)
		if took := time.Since(began); took > time.Second {
			t.Errorf("a launch that has nowhere to go was refused after %s", took)
		}
	})
}

// TestRoomComesWhileALaunchWaits: it stays in the first group, at once.
func TestRoomComesWhileALaunchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := groupedWorld(t)
		first := w.running(nil)
		var group sync.WaitGroup
		l := w.launchAside(w.ctx(), &group)
		time.Sleep(time.Second)
		w.fakes["a"].Exit(first.ID, 0)
		group.Wait()
		w.must(l.err)
		if l.sb.RunnerID != "a" || l.took < time.Second || l.took > 1500*time.Millisecond || w.steps(l.sb)[0].Waited < time.Second {
			t.Errorf("on %s after %s: %+v", l.sb.RunnerID, l.took, w.steps(l.sb))
		}
		if got := timelineOf(l.sb, "waited"); !strings.HasPrefix(got, "1") || !strings.HasSuffix(got, "s for room in runner group near") {
			t.Errorf("the timeline says %q", got)
		}
	})
}

// TestWaitForRoomEnds: with its caller, in time for the deadline of its caller, with the server, and when too many wait. What does not
// launch leaves nothing behind.
func TestWaitForRoomEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := groupedWorld(t)
		first := w.running(nil)
		var group sync.WaitGroup
		ctx, cancel := context.WithCancel(w.ctx())
		gone := w.launchAside(ctx, &group)
		cancel()
		group.Wait()
		if gone.err == nil || gone.took > time.Second {
			t.Errorf("the launch of a caller who went away: %v after %s", gone.err, gone.took)
		}
		ctx, cancel = context.WithTimeout(w.ctx(), 2*time.Second)
		hurried := w.launchAside(ctx, &group)
		group.Wait()
		cancel()
		w.must(hurried.err)
		if hurried.sb.RunnerID != "b" || hurried.took > 1500*time.Millisecond {
			t.Errorf("a caller with 2 s got %s after %s", hurried.sb.RunnerID, hurried.took)
		}
		w.fakes["b"].Exit(hurried.sb.ID, 0)
		w.ended(hurried.sb.ID)
		var all []*launched
		for range control.MaxRoomWaitingOrg + 1 {
			all = append(all, w.launchAside(w.ctx(), &group))
		}
		// One of them did not wait; the others have nothing to go on to since.
		time.Sleep(time.Millisecond)
		w.svc.StopWaiting()
		group.Wait()
		started, full := 0, 0
		for _, l := range all {
			switch {
			case l.err == nil:
				started++
				if m := w.steps(l.sb)[0].Message; !strings.Contains(m, "launches were waiting for room already") {
					t.Errorf("it did not wait because %q", m)
				}
			case fault.Is(l.err, fault.Unavailable):
			case fault.Is(l.err, fault.Exhausted):
				full++
			default:
				t.Error(l.err)
			}
		}
		if started != 1 || w.count() != 3 {
			t.Errorf("%d started, %d refused for room, there are %d sandboxes", started, full, w.count())
		}
		if got := w.get(first.ID); got.Status != core.StatusRunning {
			t.Errorf("the first is %s", got.Status)
		}
	})
}

// TestOnlyAProfileOrdersGroups: an override and a zone belong to one of the runners that are put in an order.
func TestOnlyAProfileOrdersGroups(t *testing.T) {
	w := newWorld(t)
	err := w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true, Overrides: w.layer(`{"placement":{"runner_groups":["a"]}}`)})
	wantFault(t, err, fault.Invalid, "BINDINGS_INVALID", "overrides_json.placement.runner_groups", "only a profile may set it")
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{Defaults: w.layer(`{"placement":{"max_wait_seconds":1}}`)})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid, "placement.max_wait_seconds", "only a profile may set it")
	_, err = w.svc.CreateProfile(w.ctx(), w.admin, control.ProfileInput{DisplayName: "x", Spec: w.layer(ordered)})
	w.must(err)
	_, err = w.svc.CreateProfile(w.ctx(), w.admin, control.ProfileInput{DisplayName: "y", Spec: w.layer(`{"placement":{"max_wait_seconds":10}}`)})
	w.must(err)
}

// TestADeadRunnerIsNotWaitedFor: room comes by itself, a process that is away may not.
func TestADeadRunnerIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := groupedWorld(t)
		w.running(nil)
		w.fakes["a"].Unreachable(true)
		synctest.Wait()
		began := time.Now()
		sb := w.launch(nil)
		if sb.RunnerID != "b" || time.Since(began) > time.Second {
			t.Errorf("on %s after %s", sb.RunnerID, time.Since(began))
		}
		if st := w.steps(sb)[0]; st.Outcome != plan.GroupUnfit || st.Waited != 0 || !strings.Contains(st.Message, "a: the runner is not connected") {
			t.Errorf("%+v", st)
		}
	})
}

// TestRoomForMany: of many that wait, each that is freed is taken by one, and the others wait on: to be slower than others is no attempt.
func TestRoomForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room, waiting, freed = 30, 25, 10
		w := groupedWorldOf(t, room)
		var first []*core.Sandbox
		for range room {
			first = append(first, w.running(nil))
		}
		var group sync.WaitGroup
		var all []*launched
		for range waiting {
			all = append(all, w.launchAside(w.ctx(), &group))
		}
		for _, sb := range first[:freed] {
			time.Sleep(100 * time.Millisecond)
			w.fakes["a"].Exit(sb.ID, 0)
		}
		group.Wait()
		on := map[string]int{}
		for _, l := range all {
			if l.err != nil {
				t.Errorf("after %s: %v", l.took, l.err)
				continue
			}
			on[l.sb.RunnerID]++
		}
		if on["a"] != freed || on["b"] != waiting-freed {
			t.Errorf("%v", on)
		}
	})
}
