package control_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// clock is one that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if c.now, err = time.Parse(time.RFC3339, text); err != nil {
		panic(err)
	}
}

// statefulSet is a deployment that changes itself as a runner on Kubernetes does: what is wanted runs in another process.
type statefulSet struct {
	mu     sync.Mutex
	state  rollout.State
	wanted rollout.Wanted
	asked  int
}

func (s *statefulSet) State() rollout.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// change changes what it says, while the server looks on its own.
func (s *statefulSet) change(fn func(*rollout.State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.state)
}

func (s *statefulSet) Want(_ context.Context, w rollout.Wanted) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.state.Trying = w, w.Revision
	s.asked++
	return nil
}

func (s *statefulSet) last() (rollout.Wanted, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted, s.asked
}

// told waits until it was told n times: servers look on their own, too.
func (s *statefulSet) told(t *testing.T, n int) rollout.Wanted {
	t.Helper()
	for range 3000 {
		if w, asked := s.last(); asked >= n {
			if asked > n {
				t.Errorf("told %d times, not %d", asked, n)
			}
			return w
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not told %d times", n)
	return rollout.Wanted{}
}

// replaced is the process that runs what was wanted.
func (s *statefulSet) replaced() *statefulSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &statefulSet{state: s.state}
	spec := rollout.Resolve(s.state.Installed, s.wanted)
	next.state.Revision, next.state.Identity, next.state.Image, next.state.Trying = s.wanted.Revision, s.wanted.Identity, spec.Image, 0
	return next
}

var releases = rollout.Releases{
	rollout.Stable: {Version: "1.0", Image: "registry.example/berm:1.0"}, rollout.Rapid: {Version: "1.1", Image: "registry.example/berm:1.1"},
}

// deployWorld has the runner r1 as a StatefulSet of release 1.0.
func deployWorld(t *testing.T) (*world, *clock, *statefulSet) {
	t.Helper()
	now := &clock{}
	now.set("2026-02-04T12:00:00Z") // a Wednesday
	w := newWorldWith(t, control.Config{Now: now.Now, Releases: releases}, fake.Config{})
	set := &statefulSet{state: rollout.State{
		Kind: rollout.KindStatefulSet, Version: "1.0", Namespace: "berm", Name: "berm-runner", SelfUpdate: true, Images: []string{"registry.example/berm"},
		Image: "registry.example/berm:1.0", Installed: rollout.Spec{Image: "registry.example/berm:1.0", Resources: rollout.Resources{CPURequest: "100m"}},
	}}
	w.replace(set)
	return w, now, set
}

// replace gives r1 another process.
func (w *world) replace(set *statefulSet) {
	w.Helper()
	w.svc.Detach(w.runners["r1"].ID)
	w.deployed = set
	w.attach("r1")
}

// settle has r1 say over new connections that it tries nothing, and why.
func (w *world) settle(set *statefulSet, p *rollout.Problem) {
	w.Helper()
	set.change(func(st *rollout.State) { st.Trying, st.Problem = 0, p })
	w.replace(set)
}

func (w *world) view() *control.RunnerView {
	w.Helper()
	v, err := w.svc.GetRunner(w.ctx(), w.admin, "r1")
	w.must(err)
	return v
}

func (w *world) manage(path string, m core.ManagedSpec) (*control.RunnerView, []string) {
	w.Helper()
	v, warnings, err := w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{Mask: []string{path}, Runner: control.RunnerInput{Managed: m}})
	w.must(err)
	return v, warnings
}

const rapidChannel, overridesPath, policyPath = "managed_spec.release_channel", "managed_spec.overrides", "managed_spec.maintenance_policy"

// TestOverridesAreRolledOut: an edit of the overrides is wanted at once, told to the runner, and there once another process says so.
func TestOverridesAreRolledOut(t *testing.T) {
	w, _, set := deployWorld(t)
	if d := w.view().Deployment; d.Target != 1 || d.Active != 1 || d.InProgress() || d.Available {
		t.Fatalf("%+v", d)
	}
	v, warnings := w.manage(overridesPath, core.ManagedSpec{OverridesJSON: `{"resources":{"cpuRequest":"200m"}}`})
	if d := v.Deployment; d.Target != 2 || d.Active != 1 || !d.InProgress() || d.Spec.Resources.CPURequest != "200m" || d.Pending != "" || len(warnings) > 0 {
		t.Errorf("%+v %v", d, warnings)
	}
	control.LookAtDeployments(w.ctx(), w.svc)
	if got := set.told(t, 1); got.Revision != 2 || got.Image != "" || got.Overrides.Resources.CPURequest != "200m" {
		t.Errorf("%+v", got)
	}
	control.LookAtDeployments(w.ctx(), w.svc)
	if _, asked := set.last(); asked != 1 {
		t.Errorf("told %d times", asked)
	}
	w.replace(set.replaced())
	if d := w.view().Deployment; d.Active != 2 || d.InProgress() {
		t.Errorf("%+v", d)
	}
	// What changes no deployment is no other revision of it; taking the overrides away is.
	if v, _ = w.manage("managed_spec", core.ManagedSpec{OverridesJSON: `{"resources":{"cpuRequest":"200m"},"scaling":{"replicas":1}}`, EnforceResourceLimits: false}); v.Deployment.Target != 2 {
		t.Errorf("%+v", v.Deployment)
	}
	if v, _ = w.manage(overridesPath, core.ManagedSpec{}); v.Deployment.Target != 3 || v.Deployment.Spec.Resources.CPURequest != "100m" || v.Runner.Managed.OverridesJSON != "" {
		t.Errorf("%+v", v.Deployment)
	}
	before := v.Runner.Revision
	if v, _ = w.manage(overridesPath, core.ManagedSpec{}); v.Runner.Revision != before {
		t.Error("clearing what is clear is a revision")
	}
}

// TestRevisionOfAnotherDocument: a number that another runner of this name, another database or a gateway that lied has left is no reason
// not to apply an edit, nor to say that it runs.
func TestRevisionOfAnotherDocument(t *testing.T) {
	for name, state := range map[string]struct {
		revision int32
		identity string
	}{"higher": {9, "9.other"}, "the same": {2, "2.other"}, "by hand": {2147483647, ""}} {
		t.Run(name, func(t *testing.T) {
			w, _, set := deployWorld(t)
			set.change(func(st *rollout.State) { st.Revision, st.Identity = state.revision, state.identity })
			w.replace(set)
			v, _ := w.manage(overridesPath, core.ManagedSpec{OverridesJSON: `{"resources":{"cpuRequest":"200m"}}`})
			if d := v.Deployment; d.Target != 2 || !d.InProgress() {
				t.Errorf("%+v", d)
			}
			control.LookAtDeployments(w.ctx(), w.svc)
			for range 3000 {
				if got, _ := set.last(); got.Revision == 2 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			got, _ := set.last()
			if got.Revision != 2 || !strings.HasPrefix(got.Identity, "2.") || got.Overrides.Resources.CPURequest != "200m" {
				t.Errorf("%+v", got)
			}
			next := set.replaced()
			w.replace(next)
			control.LookAtDeployments(w.ctx(), w.svc)
			if d := w.view().Deployment; d.Active != 2 || d.InProgress() {
				t.Errorf("%+v", d)
			}
			if _, asked := next.last(); asked != 0 {
				t.Errorf("told what it runs %d times", asked)
			}
		})
	}
}

// TestUpdateInWindow: an update waits for its window, never comes in an exclusion, and comes once.
func TestUpdateInWindow(t *testing.T) {
	w, now, set := deployWorld(t)
	w.manage(policyPath, core.ManagedSpec{MaintenancePolicyJSON: `{"windows":[{"cron":"0 2 * * SAT","durationSeconds":7200}],
		"exclusions":[{"startTime":"2026-02-07T00:00:00Z","endTime":"2026-02-07T03:00:00Z","reason":"sale"}]}`})
	v, _ := w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelRapid})
	if d := v.Deployment; !d.Available || d.Target != 1 || d.Offered.Version != "1.1" || d.Next.Format(time.RFC3339) != "2026-02-07T03:00:00Z" {
		t.Fatalf("%+v", d)
	}
	for _, when := range []string{"2026-02-04T12:00:00Z", "2026-02-07T01:59:59Z", "2026-02-07T02:30:00Z"} {
		now.set(when)
		control.LookAtDeployments(w.ctx(), w.svc)
		if d := w.view().Deployment; d.Target != 1 || !d.Available {
			t.Errorf("at %s: %+v", when, d)
		}
	}
	_, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
	wantFault(t, err, fault.Precondition, fault.ReasonUpdateExcluded, "sale", "2026-02-07T03:00:00Z")
	now.set("2026-02-07T03:00:00Z")
	control.LookAtDeployments(w.ctx(), w.svc)
	v = w.view()
	if d := v.Deployment; d.Target != 2 || d.Available || !d.InProgress() || v.Runner.UpdatedBy != "maintenance policy" || !strings.Contains(v.Runner.Reason, "1.1 (registry.example/berm:1.1)") {
		t.Errorf("%+v by %s: %s", d, v.Runner.UpdatedBy, v.Runner.Reason)
	}
	if got := set.told(t, 1); got.Image != "registry.example/berm:1.1" || got.Revision != 2 {
		t.Errorf("%+v", got)
	}
	control.LookAtDeployments(w.ctx(), w.svc)
	if got := w.view().Deployment.Target; got != 2 {
		t.Errorf("applied again: %d", got)
	}
	w.replace(set.replaced())
	if d := w.view().Deployment; d.Active != 2 || d.Available || d.InProgress() || d.State.Image != "registry.example/berm:1.1" {
		t.Errorf("%+v", d)
	}
	// A process that is wrong about its image is not updated to what it is.
	wrong := set.replaced()
	wrong.state.Image = "registry.example/berm:1.0"
	w.replace(wrong)
	control.LookAtDeployments(w.ctx(), w.svc)
	if d := w.view().Deployment; d.Target != 2 || d.Available {
		t.Errorf("%+v", d)
	}
}

// TestApplyUpdate: now, whatever the window is, and once.
func TestApplyUpdate(t *testing.T) {
	w, now, set := deployWorld(t)
	w.manage(policyPath, core.ManagedSpec{MaintenancePolicyJSON: `{"windows":[{"cron":"0 2 * * SAT","durationSeconds":7200}]}`})
	_, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
	wantFault(t, err, fault.Precondition, fault.ReasonUpdateNotAvailable, "1.0 (registry.example/berm:1.0)")
	w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelRapid})
	for range 2 { // the second is on its way already
		v, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
		w.must(err)
		if v.Deployment.Target != 2 || !v.Deployment.InProgress() {
			t.Errorf("%+v", v.Deployment)
		}
	}
	control.LookAtDeployments(w.ctx(), w.svc)
	set.told(t, 1)
	// A revision that fails: what ran goes on, is said to be what runs, and the reason is there.
	failed := set.replaced()
	failed.state.Revision, failed.state.Image = 1, "registry.example/berm:1.0"
	failed.state.Problem = &rollout.Problem{Revision: 2, Reason: "IMAGE_PULL_FAILED", Message: "the image cannot be pulled", Hints: []string{"push it"}}
	w.replace(failed)
	v := w.view()
	if d := v.Deployment; d.Active != 1 || !d.InProgress() || !strings.Contains(d.Pending, "cannot be pulled") || !cmp.Equal(d.Hints, []string{"push it"}) {
		t.Errorf("%+v", d)
	}
	if v.Status.Install != control.InstallReady {
		t.Errorf("the old process serves, and is %s", v.Status.Install)
	}
	// It is told again, whichever process it is, after a time that doubles; outside of the window, too: a person asked.
	for i, tt := range []struct {
		at   string
		told int
	}{{"12:04:59", 0}, {"12:05:00", 1}, {"12:14:59", 1}, {"12:15:00", 2}, {"12:34:59", 2}, {"12:35:00", 3}} {
		w.settle(failed, failed.state.Problem)
		now.set("2026-02-04T" + tt.at + "Z")
		control.LookAtDeployments(w.ctx(), w.svc)
		// The server that looks on its own may have begun to tell it, which comes soon; what is not due nobody begins.
		if got := failed.told(t, tt.told); tt.told > 0 && got.Revision != 2 {
			t.Errorf("%d: at %s told %+v", i, tt.at, got)
		}
	}
	// Who asks once more need not wait for that: it is another revision, told at once. While it is being tried it is on its way.
	w.settle(failed, failed.state.Problem)
	for range 2 {
		v, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
		w.must(err)
		if d := v.Deployment; d.Target != 3 || d.Pending != "" || d.Available {
			t.Errorf("%+v", d)
		}
	}
	control.LookAtDeployments(w.ctx(), w.svc)
	if got := failed.told(t, 4); got.Revision != 3 {
		t.Errorf("%+v", got)
	}
}

// TestUpdateWaitsForWindow: an update that the policy applied and that did not come to its end in the window goes on in the next one, and
// not in an exclusion; at once when a person asks.
func TestUpdateWaitsForWindow(t *testing.T) {
	w, now, set := deployWorld(t)
	w.manage(policyPath, core.ManagedSpec{MaintenancePolicyJSON: `{"windows":[{"cron":"0 2 * * SAT","durationSeconds":7200}],
		"exclusions":[{"startTime":"2026-02-14T00:00:00Z","endTime":"2026-02-15T00:00:00Z","reason":"sale"}]}`})
	w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelRapid})
	now.set("2026-02-07T02:00:00Z")
	control.LookAtDeployments(w.ctx(), w.svc)
	set.told(t, 1)
	failed := &statefulSet{state: set.State()}
	failed.state.Trying, failed.state.Problem = 0, &rollout.Problem{Revision: 2, Reason: "UNSCHEDULABLE", Message: "no node takes it"}
	w.replace(failed)
	for _, when := range []string{"2026-02-07T04:00:00Z", "2026-02-10T12:00:00Z", "2026-02-14T02:30:00Z"} {
		now.set(when)
		control.LookAtDeployments(w.ctx(), w.svc)
		if _, asked := failed.last(); asked != 0 {
			t.Errorf("told at %s", when)
		}
		if d := w.view().Deployment; d.Target != 2 || !d.Available || !strings.Contains(d.Pending, "no node takes it; it is not tried again until its maintenance policy lets it, from 2026-02-21T02:00:00Z") && when > "2026-02-14" {
			t.Errorf("at %s: %+v", when, d)
		}
	}
	w.settle(failed, nil)
	if d := w.view().Deployment; !strings.Contains(d.Pending, "waits until its maintenance policy lets it, from 2026-02-21") || len(d.Hints) != 1 {
		t.Errorf("%+v", d)
	}
	now.set("2026-02-21T02:00:00Z")
	control.LookAtDeployments(w.ctx(), w.svc)
	if got := failed.told(t, 1); got.Revision != 2 {
		t.Errorf("%+v", got)
	}
	w.settle(failed, nil)
	now.set("2026-02-22T12:00:00Z")
	v, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
	w.must(err)
	if v.Deployment.Target != 3 || v.Deployment.Pending != "" {
		t.Errorf("%+v", v.Deployment)
	}
	control.LookAtDeployments(w.ctx(), w.svc)
	if got := failed.told(t, 2); got.Revision != 3 {
		t.Errorf("%+v", got)
	}
}

// TestUpdateAfterFailure: a release that cannot be rolled out does not keep the next one of its channel away, and is not tried as another
// revision again and again.
func TestUpdateAfterFailure(t *testing.T) {
	w, _, set := deployWorld(t)
	w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelRapid})
	control.LookAtDeployments(w.ctx(), w.svc)
	set.told(t, 1)
	failed := &statefulSet{state: set.State()}
	failed.state.Trying, failed.state.Image = 0, "registry.example/berm:0.9"
	failed.state.Problem = &rollout.Problem{Revision: 2, Reason: "IMAGE_PULL_FAILED", Message: "the image cannot be pulled"}
	w.replace(failed)
	for range 2 {
		control.LookAtDeployments(w.ctx(), w.svc)
		if d := w.view().Deployment; d.Target != 2 || !d.InProgress() {
			t.Errorf("%+v", d)
		}
	}
	w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelStable})
	for range 2 {
		control.LookAtDeployments(w.ctx(), w.svc)
		if d := w.view().Deployment; d.Target != 3 || !d.InProgress() {
			t.Errorf("%+v", d)
		}
	}
	if got := failed.told(t, 1); got.Image != "registry.example/berm:1.0" || got.Revision != 3 {
		t.Errorf("%+v", got)
	}
}

// TestUpdateAgain: an update that was taken back on the cluster is not under way, and is tried again as another revision when somebody asks.
func TestUpdateAgain(t *testing.T) {
	w, _, set := deployWorld(t)
	w.manage(policyPath, core.ManagedSpec{MaintenancePolicyJSON: `{"windows":[{"cron":"0 2 * * SAT","durationSeconds":7200}]}`})
	w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelRapid})
	_, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
	w.must(err)
	back := &statefulSet{state: set.State()}
	back.state.Trying = 0
	back.state.Problem = &rollout.Problem{Revision: 2, Reason: rollout.ReasonUndone, Message: "taken back"}
	w.replace(back)
	control.LookAtDeployments(w.ctx(), w.svc)
	back.told(t, 1)
	w.settle(back, back.state.Problem) // It looks, and does not try.
	if d := w.view().Deployment; d.Target != 2 || !d.Available || !strings.Contains(d.Pending, "taken back") {
		t.Errorf("%+v", d)
	}
	v, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
	w.must(err)
	if d := v.Deployment; d.Target != 3 || !d.InProgress() || d.Available {
		t.Errorf("%+v", d)
	}
}

// TestRollbackKeepsRelease: a rollback is one of the configuration. What release runs its channel decides, which is said.
func TestRollbackKeepsRelease(t *testing.T) {
	w, _, _ := deployWorld(t)
	w.manage(policyPath, core.ManagedSpec{MaintenancePolicyJSON: `{"windows":[{"cron":"0 2 * * SAT","durationSeconds":7200}]}`})
	v, _ := w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelRapid})
	installed := v.Runner.Revision
	v, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
	w.must(err)
	updated := v.Runner.Revision
	v, _ = w.manage(overridesPath, core.ManagedSpec{OverridesJSON: `{"env":{"TZ":"x"}}`})
	overridden := v.Runner.Revision
	back := func(revision int32) (*control.RunnerView, string) {
		t.Helper()
		v, warnings, err := w.svc.RollbackRunner(w.ctx(), w.admin, "r1", revision, control.EditState{})
		w.must(err)
		if d := v.Runner.Deployment; d.Image != "registry.example/berm:1.1" || d.Version != "1.1" {
			t.Errorf("to revision %d: %+v", revision, d)
		}
		return v, strings.Join(warnings, "\n")
	}
	// The same release: the overrides alone change, as another revision of the deployment.
	v, said := back(updated)
	if v.Deployment.Target != 4 || v.Runner.Managed.OverridesJSON != "" || said != "" {
		t.Errorf("%+v %s", v.Deployment, said)
	}
	v, said = back(overridden)
	if v.Deployment.Target != 5 || !strings.Contains(v.Runner.Managed.OverridesJSON, "TZ") || said != "" {
		t.Errorf("%+v %s", v.Deployment, said)
	}
	v, said = back(installed)
	if v.Deployment.Target != 6 || v.Runner.Managed.OverridesJSON != "" {
		t.Errorf("%+v", v.Deployment)
	}
	for _, part := range []string{"it stays 1.1 (registry.example/berm:1.1)", "revision 3 had the one that was installed", "berm runner upgrade r1"} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in %s", part, said)
		}
	}
	// Nothing else differs: nothing is written, and why is said.
	now := v.Runner.Revision
	if v, said = back(installed); v.Runner.Revision != now || !strings.Contains(said, "not part of a rollback") {
		t.Errorf("revision %d: %s", v.Runner.Revision, said)
	}
}

func TestApplyUpdateRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*rollout.State)
		reason string
		parts  []string
	}{
		"by hand": {func(s *rollout.State) { s.SelfUpdate = false }, fault.ReasonUpdateByHand, []string{
			"helm upgrade berm-runner deploy/helm/berm-runner --namespace berm --reset-then-reuse-values --set image=registry.example/berm:1.1",
		}},
		"a machine":          {func(s *rollout.State) { *s = rollout.State{Kind: rollout.KindProcess, Version: "1.0"} }, fault.ReasonUpdateByHand, []string{"Put berm 1.1 on its machine"}},
		"a server":           {func(s *rollout.State) { *s = rollout.State{Kind: rollout.KindServer, Version: "1.0"} }, fault.ReasonUpdateByHand, []string{"together with it"}},
		"an older release":   {func(s *rollout.State) { *s = rollout.State{Version: "0.9"} }, fault.ReasonUpdateByHand, []string{"Put berm 1.1"}},
		"another repository": {func(s *rollout.State) { s.Images = []string{"other.example/berm"} }, fault.ReasonUpdateRefused, []string{"its owner allows other.example/berm"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, set := deployWorld(t)
			state := set.state
			tt.change(&state)
			w.replace(&statefulSet{state: state}) // First: an update that may come at any time is applied at once.
			w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelRapid})
			if d := w.view().Deployment; !d.Available {
				t.Errorf("%+v", d)
			}
			_, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
			wantFault(t, err, fault.Precondition, tt.reason)
			text := err.Error() + " " + fault.From(err).Hint
			for _, part := range tt.parts {
				if !strings.Contains(text, part) {
					t.Errorf("%q is not in %s", part, text)
				}
			}
			control.LookAtDeployments(w.ctx(), w.svc)
			if d := w.view().Deployment; d.Target != 1 {
				t.Errorf("it is wanted all the same: %+v", d)
			}
		})
	}
	w, _, _ := deployWorld(t)
	w.svc.Detach(w.runners["r1"].ID)
	w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelRapid})
	_, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
	wantFault(t, err, fault.Precondition, fault.ReasonRunnerUnavailable, "out of contact")
}

// TestOverridesByHand: what a runner does not apply is said when it is written, and as long as it is so.
func TestOverridesByHand(t *testing.T) {
	w, _, set := deployWorld(t)
	set.change(func(st *rollout.State) { st.SelfUpdate = false })
	w.replace(set)
	v, warnings := w.manage(overridesPath, core.ManagedSpec{OverridesJSON: `{"nodeSelector":{"pool":"x"},"env":{"TZ":"b c"},"scaling":{"autoscalingEnabled":true,"maxReplicas":5}}`})
	all := strings.Join(warnings, "\n")
	for _, part := range []string{"scaling is kept and has no effect", "overrides.node_selector is not applied", "overrides.env is not applied", `'nodeSelector={"pool":"x"}' --set-json 'env={"TZ":"b c"}' --set revision=2`} {
		if !strings.Contains(all, part) {
			t.Errorf("%q is not in %s", part, all)
		}
	}
	if d := v.Deployment; !d.InProgress() || !strings.Contains(d.Pending, "node_selector, env of its overrides are not applied") || len(d.Hints) != 2 {
		t.Errorf("%+v", d)
	}
	control.LookAtDeployments(w.ctx(), w.svc)
	if _, asked := set.last(); asked != 0 {
		t.Error("it was asked all the same")
	}
}

func TestDeploymentIsChecked(t *testing.T) {
	w, _, _ := deployWorld(t)
	for text, path := range map[string]string{
		`{"env":{"GRPC_XDS_BOOTSTRAP":"x"}}`: "managed_spec.overrides.env[GRPC_XDS_BOOTSTRAP]", `{"args":["--gateway=x"]}`: "managed_spec.overrides.args[0]",
	} {
		_, _, err := w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{Mask: []string{overridesPath}, Runner: control.RunnerInput{Managed: core.ManagedSpec{OverridesJSON: text}}})
		if !fault.Is(err, fault.Invalid) || !hasField(err, path) {
			t.Errorf("%s: %v", text, err)
		}
	}
	_, _, err := w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{Mask: []string{policyPath}, Runner: control.RunnerInput{
		Managed: core.ManagedSpec{MaintenancePolicyJSON: `{"windows":[{"cron":"daily","durationSeconds":600}]}`}}})
	if !fault.Is(err, fault.Invalid) || !hasField(err, policyPath+".windows[0].cron") {
		t.Error(err)
	}
	if d := w.view().Deployment; d.Target != 1 {
		t.Errorf("%+v", d)
	}
}

// TestDeploymentInHistory: a difference says which fields of policy, overrides and deployment changed.
func TestDeploymentInHistory(t *testing.T) {
	w, _, _ := deployWorld(t)
	w.manage(overridesPath, core.ManagedSpec{OverridesJSON: `{"env":{"TZ":"b"},"resources":{"cpuLimit":"1"}}`})
	w.manage(rapidChannel, core.ManagedSpec{ReleaseChannel: control.ChannelRapid})
	v, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
	w.must(err)
	diff, err := w.svc.DiffRunners(w.ctx(), w.user, control.DiffQuery{ID: "r1", From: 1, To: v.Runner.Revision})
	w.must(err)
	var paths []string
	for _, c := range diff.Changes {
		paths = append(paths, c.Path)
	}
	want := []string{
		"deployment.image", "deployment.revision", "deployment.version", "managed_spec.overrides.env[TZ]", "managed_spec.overrides.resources.cpu_limit", "managed_spec.release_channel",
	}
	if d := cmp.Diff(want, paths); d != "" {
		t.Error(d)
	}
}
