package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/store"
)

const limited = `{"container_image":"host","resource_defaults":{"cpu_limit":"2","memory_limit":"1Gi","cpu_request":"500m"},"network":{"egress":{"default":"none","modes":{"none":{"type":"none"}}}}}`

func TestLaunch(t *testing.T) {
	w := newWorld(t, "r1=us")
	agent := w.newProfile("agent", limited)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: agent.ID, Overrides: w.layer(`{"node_selector":{"pool":"a"}}`)}))
	req := &specpb.Launch{ProfileNames: []string{"agent"}, Tags: []string{"x", "y"}, ResourceLimits: &specpb.ResourceAmounts{Cpu: "1"}, MaxLifetimeSeconds: 60}
	sb, pl, err := w.svc.Launch(w.ctx(), w.user, req)
	w.must(err)
	if sb.OrgID != w.user.OrgID || sb.RunnerID != "r1" || sb.ProfileName != "agent" || sb.ProfileID != agent.ID || sb.ProfileRevision != 1 ||
		sb.ZoneName != "us" || sb.ZoneRevision != 0 || sb.CreatedBy != w.user.Actor || sb.UserID != w.user.TokenID || sb.Status.Terminal() {
		t.Errorf("%+v", sb)
	}
	if pl.Runner.Runner.RunnerID != "r1" || pl.EgressMode != "none" || sb.Digest != pl.Digest {
		t.Errorf("plan: %+v", pl)
	}
	if got := sb.ExpiresAt.Sub(sb.CreatedAt).Seconds(); got != 60 {
		t.Errorf("lives %v s", got)
	}
	if want := (core.Amounts{CPUMillis: 500, MemoryBytes: 1 << 30, Sandboxes: 1}); sb.Reserved != want || w.reserved("r1") != want {
		t.Errorf("reserved %+v, counted %+v, want %+v", sb.Reserved, w.reserved("r1"), want)
	}
	stored := w.wait(sb.ID, control.Settled)
	if stored.Status != core.StatusRunning || stored.StartedAt.IsZero() || stored.CPULimitMillis != 1000 || len(stored.Decision) == 0 || stored.Launch.GetMaxLifetimeSeconds() != 60 {
		t.Errorf("%+v", stored)
	}
	// The runner got what the layers say, and who it is for.
	work := w.fakes["r1"].Work(sb.ID)
	if work.Spec.GetResourceDefaults().GetCpuLimit() != "1" || work.Spec.GetResourceDefaults().GetMemoryLimit() != "1Gi" || work.Spec.GetNodeSelector()["pool"] != "a" {
		t.Errorf("spec: %v", work.Spec)
	}
	if work.OrgID != sb.OrgID || work.ProfileName != "agent" || work.ZoneName != "us" || work.Digest != sb.Digest {
		t.Errorf("work: %+v", work)
	}
	var names []string
	for _, e := range w.get(sb.ID).Timeline {
		names = append(names, e.Name)
	}
	if want := []string{"accepted", "planned", "reserved", "created", "started"}; !slices.Equal(names, want) {
		t.Errorf("timeline %v, want %v", names, want)
	}
}

// TestRefusalLeavesNothing: every kind of refusal has its code and reason, and no row, reservation or sandbox stays.
func TestRefusalLeavesNothing(t *testing.T) {
	w := newWorldWith(t, control.Config{}, fake.Config{Refuse: func(wk *workOf) []fault.Field {
		if wk.Launch.GetExposedPorts() != nil || len(wk.Launch.GetPorts()) > 0 {
			return []fault.Field{{Path: "ports", Description: "not here"}}
		}
		return nil
	}})
	agent := w.newProfile("agent", limited)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: agent.ID}))
	big := &specpb.ResourceAmounts{Cpu: "8", Memory: "64Gi"}
	tests := []struct {
		name   string
		l      *specpb.Launch
		code   fault.Code
		reason string
	}{
		{"malformed", &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "1e9Gi"}}, fault.Invalid, fault.ReasonInvalidRequest},
		{"unsupported", &specpb.Launch{Unsupported: []string{"s3_mount"}}, fault.Unimplemented, fault.ReasonNotImplemented},
		{"unknown profile", &specpb.Launch{ProfileNames: []string{"nobody"}}, fault.NotFound, fault.ReasonProfileNotFound},
		{"unknown runner", &specpb.Launch{RunnerIds: []string{"nobody"}}, fault.NotFound, fault.ReasonRunnerNotFound},
		{"named and above", &specpb.Launch{ProfileNames: []string{"agent"}, ResourceLimits: big}, fault.Precondition, fault.ReasonProfileMismatch},
		{"undeclared mode", &specpb.Launch{EgressMode: "internet"}, fault.Precondition, fault.ReasonNoSuitableRunner},
		{"refused by the backend", &specpb.Launch{Ports: []*specpb.Port{{ContainerPort: 80}}}, fault.Precondition, fault.ReasonNoSuitableRunner},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := w.svc.Launch(w.ctx(), w.user, tt.l)
			wantFault(t, err, tt.code, tt.reason)
		})
	}
	_, _, err := w.svc.Launch(w.ctx(), w.user, tests[4].l)
	refusal, ok := fault.From(err).Detail.(*plan.Refusal)
	if !ok || len(refusal.Candidates) == 0 || refusal.Nearest == nil {
		t.Fatalf("the refusal explains nothing: %+v", fault.From(err).Detail)
	}
	// The nearest request that would pass does pass.
	w.running(refusal.Nearest)
	if n := w.count(); n != 1 || w.reserved("r1").Sandboxes != 1 || w.fakes["r1"].Creates() != 1 {
		t.Errorf("%d sandboxes, reserved %+v, %d created", n, w.reserved("r1"), w.fakes["r1"].Creates())
	}
	w.svc.Detach(w.runners["r1"].ID)
	_, _, err = w.svc.Launch(w.ctx(), w.user, nil)
	wantFault(t, err, fault.Unavailable, fault.ReasonNoSuitableRunner)
}

func TestFullRunner(t *testing.T) {
	w := newWorldWith(t, control.Config{}, fakeWith(core.Amounts{CPUMillis: 4000, MemoryBytes: 8 << 30, Sandboxes: 2}))
	first := w.running(nil)
	w.running(nil)
	_, _, err := w.svc.Launch(w.ctx(), w.user, nil)
	wantFault(t, err, fault.Exhausted, fault.ReasonNoSuitableRunner)
	if fault.From(err).RetryAfter <= 0 {
		t.Error("a full runner is worth another try later")
	}
	// The end of a sandbox makes room, for the next launch at once.
	w.fakes["r1"].Exit(first.ID, 0)
	w.ended(first.ID)
	w.running(nil)
	if got := w.reserved("r1").Sandboxes; got != 2 {
		t.Errorf("%d are reserved", got)
	}
}

func TestRunnerTurnsDown(t *testing.T) {
	w := newWorld(t)
	w.fakes["r1"].FailNextCreate(fault.Preconditionf(fault.ReasonDigestMismatch, "the digests differ").WithCause(errors.New("secret")))
	sb, _, err := w.svc.Launch(w.ctx(), w.user, nil)
	w.must(err)
	if sb.Status != core.StatusFailed || !strings.HasPrefix(sb.StatusReason, core.EndStartFailed+": ") || !strings.Contains(sb.StatusReason, "digests differ") || strings.Contains(sb.StatusReason, "secret") || sb.ExitCode != nil {
		t.Errorf("%s %q %v", sb.Status, sb.StatusReason, sb.ExitCode)
	}
	if got := w.reserved("r1"); got != (core.Amounts{}) {
		t.Errorf("still reserved: %+v", got)
	}
	w.fakes["r1"].FailNextCreate(errors.New("secret"))
	if sb := w.launch(nil); sb.Status != core.StatusFailed || sb.StatusReason != core.EndStartFailed+": internal error" {
		t.Errorf("%s %q", sb.Status, sb.StatusReason)
	}
	for reason := range map[string]bool{core.EndStartFailed: true, core.EndImageFailed: true} {
		w.fakes["r1"].FailNextStart(reason, "no")
		sb := w.ended(w.launch(nil).ID)
		if sb.Status != core.StatusFailed || sb.StatusReason != reason+": no" {
			t.Errorf("%s %q", sb.Status, sb.StatusReason)
		}
	}
}

// TestEditIsSeenByTheNextLaunch: an edit that was acknowledged is never missed, and never changes what runs.
func TestEditIsSeenByTheNextLaunch(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", limited)
	w.must(w.bind("r1", core.Binding{ProfileID: agent.ID, Default: true}))
	before := w.running(nil)
	for i, cpu := range []string{"1", "750m", "1500m", "100m"} {
		w.editProfile("agent", strings.Replace(strings.Replace(limited, `"2"`, `"`+cpu+`"`, 1), `"500m"`, `"100m"`, 1))
		sb, pl, err := w.svc.Launch(w.ctx(), w.user, nil)
		w.must(err)
		if v, _ := pl.Resolved.Lookup("resource_defaults.cpu_limit"); v.String() != cpu || sb.ProfileRevision != int32(i+2) {
			t.Errorf("edit %d: limit %s at revision %d", i, v, sb.ProfileRevision)
		}
	}
	if w.fakes["r1"].Work(before.ID).Spec.GetResourceDefaults().GetCpuLimit() != "2" || w.get(before.ID).Digest != before.Digest {
		t.Error("an edit changed a running sandbox")
	}
}

// TestEditByAnotherGateway: what this process has cached is out of date, and it must not matter.
func TestEditByAnotherGateway(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", limited)
	w.must(w.bind("r1", core.Binding{ProfileID: agent.ID, Default: true}))
	w.running(nil) // fills the cache
	cfg := w.cfg
	cfg.Store = w.store
	other := control.New(w.ctx(), cfg)
	defer other.Close()
	_, _, err := other.UpdateProfile(w.ctx(), w.admin, "agent", control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(strings.Replace(limited, `"2"`, `"3"`, 1))}})
	w.must(err)
	_, pl, err := w.svc.Launch(w.ctx(), w.user, nil)
	w.must(err)
	if v, _ := pl.Resolved.Lookup("resource_defaults.cpu_limit"); v.String() != "3" {
		t.Errorf("the launch used %s", v)
	}
	// A refusal is only believed from what the store says now.
	second, err := other.CreateProfile(w.ctx(), w.admin, control.ProfileInput{DisplayName: "second", Spec: w.layer(limited)})
	w.must(err)
	_, _, err = other.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{Mask: []string{"profile_bindings"}, Runner: control.RunnerInput{
		Bindings: []core.Binding{{ProfileID: agent.ID, Default: true}, {ProfileID: second.ID}},
	}})
	w.must(err)
	if sb := w.launch(&specpb.Launch{ProfileNames: []string{"second"}}); sb.ProfileName != "second" {
		t.Errorf("%+v", sb)
	}
}

// conflicting makes something happen before every transaction.
type conflicting struct {
	store.Store
	before atomic.Pointer[func()]
}

func (c *conflicting) set(fn func()) { c.before.Store(&fn) }

func (c *conflicting) Update(ctx context.Context, fn func(store.Tx) error) error {
	if before := c.before.Load(); before != nil {
		(*before)()
	}
	return c.Store.Update(ctx, fn)
}

func TestReplanIsBounded(t *testing.T) {
	w := newWorld(t)
	wrapped := &conflicting{Store: w.store}
	cfg := w.cfg
	cfg.Store = wrapped
	svc := control.New(w.ctx(), cfg)
	defer svc.Close()
	w.svc.Detach(w.runners["r1"].ID)
	w.must(svc.Attach(w.ctx(), w.runners["r1"].ID, w.agent(w.fakes["r1"])))
	edits := 0
	wrapped.set(func() {
		edits++
		text := `{"container_image":"host","tags":["` + strings.Repeat("a", edits) + `"]}`
		w.editProfile(control.DefaultProfile, text)
	})
	_, _, err := svc.Launch(w.ctx(), w.user, nil)
	wantFault(t, err, fault.Unavailable, fault.ReasonReplanExhausted)
	if fault.From(err).RetryAfter <= 0 || edits != control.MaxReplans+1 {
		t.Errorf("%d attempts, retry after %v", edits, fault.From(err).RetryAfter)
	}
	wrapped.set(func() {})
	if n := w.count(); n != 0 {
		t.Errorf("%d sandboxes are left", n)
	}
	// One change is survived.
	var once sync.Once
	wrapped.set(func() {
		once.Do(func() { w.editProfile(control.DefaultProfile, `{"container_image":"host","tags":["b"]}`) })
	})
	_, pl, err := svc.Launch(w.ctx(), w.user, nil)
	w.must(err)
	if v, _ := pl.Resolved.Lookup("tags"); v.String() != `["b"]` {
		t.Errorf("planned from %s", v)
	}
}

func TestUsageGuardrails(t *testing.T) {
	w := newWorld(t)
	_, _, err := w.svc.PutZone(w.ctx(), w.admin, "local", control.ZoneInput{Defaults: w.layer(`{"guardrails":{"usage":{"per_user":{"max_concurrent":2}}}}`)})
	w.must(err)
	first := w.running(nil)
	w.running(nil)
	_, _, err = w.svc.Launch(w.ctx(), w.user, nil)
	wantFault(t, err, fault.Exhausted, fault.ReasonUsageExceeded, "max_concurrent")
	other := w.user
	other.TokenID = "another-token"
	if _, _, err := w.svc.Launch(w.ctx(), other, nil); err != nil {
		t.Errorf("another user: %v", err)
	}
	w.must(w.svc.Delete(w.ctx(), w.user, first.ID))
	w.running(nil)
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "local", control.ZoneInput{Defaults: w.layer(`{"guardrails":{"usage":{"per_org":{"max_starts_per_minute":3}}}}`)})
	w.must(err)
	_, _, err = w.svc.Launch(w.ctx(), w.user, nil)
	wantFault(t, err, fault.Exhausted, fault.ReasonUsageExceeded, "max_starts_per_minute")
}

func TestNothingOfAnotherOrganization(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	acme := w.otherOrg("acme")
	_, _, err := w.svc.Launch(w.ctx(), acme, nil)
	wantFault(t, err, fault.Unavailable, fault.ReasonNoSuitableRunner)
	_, err = w.svc.Get(w.ctx(), acme, sb.ID)
	missing := err
	wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
	for name, call := range map[string]func() error{
		"stop":    func() error { return w.svc.Stop(w.ctx(), acme, sb.ID, 0) },
		"delete":  func() error { return w.svc.Delete(w.ctx(), acme, sb.ID) },
		"wait":    func() error { _, err := w.svc.Wait(w.ctx(), acme, sb.ID, control.Ended); return err },
		"exec":    func() error { _, err := w.svc.Exec(w.ctx(), acme, sb.ID, execOf("true")); return err },
		"read":    func() error { _, _, err := w.svc.ReadFile(w.ctx(), acme, sb.ID, "/tmp/x", 1); return err },
		"write":   func() error { return w.svc.WriteFile(w.ctx(), acme, sb.ID, "/tmp/x", 0o644, strings.NewReader("")) },
		"explain": func() error { _, err := w.svc.Explain(w.ctx(), acme, sb.ID, ""); return err },
	} {
		err := call()
		if err == nil || err.Error() != missing.Error() || fault.From(err).Reason != fault.From(missing).Reason {
			t.Errorf("%s: %v, want exactly what a missing one gives: %v", name, err, missing)
		}
	}
	for name, call := range map[string]func() error{
		"profile":         func() error { _, err := w.svc.GetProfile(w.ctx(), acme, w.profile.ID); return err },
		"profile by name": func() error { _, err := w.svc.GetProfile(w.ctx(), acme, "default"); return err },
		"runner":          func() error { _, err := w.svc.GetRunner(w.ctx(), acme, w.runners["r1"].ID); return err },
		"delete runner": func() error {
			return w.svc.DeleteRunner(w.ctx(), acme, w.runners["r1"].ID, control.DeleteOptions{Force: true})
		},
		"zone":             func() error { _, err := w.svc.GetZone(w.ctx(), acme, "local"); return err },
		"available runner": func() error { _, err := w.svc.AvailableRunner(w.ctx(), acme, "r1"); return err },
	} {
		if err := call(); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, _, err := w.svc.List(w.ctx(), acme, control.SandboxQuery{IncludeEnded: true}); err != nil || len(all) != 0 {
		t.Errorf("list: %d, %v", len(all), err)
	}
	if all, _, err := w.svc.AvailableRunners(w.ctx(), acme, control.RunnerFilter{}, control.Page{}); err != nil || len(all) != 0 {
		t.Errorf("runners: %d, %v", len(all), err)
	}
	if got := w.get(sb.ID); got.Status != core.StatusRunning {
		t.Errorf("%s", got.Status)
	}
}

// TestStoreFailsAtLaunch: whatever the store says at the commit, nothing runs that is not in it.
func TestStoreFailsAtLaunch(t *testing.T) {
	w := newWorld(t)
	broken := &failing{Store: w.store}
	cfg := w.cfg
	cfg.Store = broken
	var ids []string
	cfg.NewID = func() string {
		ids = append(ids, uuid.NewString())
		return ids[len(ids)-1]
	}
	svc := control.New(w.ctx(), cfg)
	defer svc.Close()
	w.svc.Detach(w.runners["r1"].ID)
	w.must(svc.Attach(w.ctx(), w.runners["r1"].ID, w.agent(w.fakes["r1"])))
	for _, committed := range []bool{false, true} {
		broken.arm(committed)
		_, _, err := svc.Launch(w.ctx(), w.user, nil)
		wantFault(t, err, fault.Unavailable, fault.ReasonStoreUnavailable)
	}
	// Of the one that was not committed nothing is remembered.
	w.eventually("it is unknown", func() bool { return fault.Is(svc.Stop(w.ctx(), w.user, ids[0], 0), fault.NotFound) })
	// The one that was committed although nobody was told is ended, and its reservation with it.
	all, _, err := svc.List(w.ctx(), w.user, control.SandboxQuery{IncludeEnded: true})
	w.must(err)
	if len(all) != 1 || w.fakes["r1"].Creates() != 0 {
		t.Fatalf("%d rows, %d created", len(all), w.fakes["r1"].Creates())
	}
	sb, err := svc.Wait(w.ctx(), w.user, all[0].ID, control.Ended)
	w.must(err)
	if sb.Status != core.StatusFailed || !strings.HasPrefix(sb.StatusReason, core.EndStartFailed) || w.reserved("r1") != (core.Amounts{}) {
		t.Errorf("%s %q, reserved %+v", sb.Status, sb.StatusReason, w.reserved("r1"))
	}
}

// failing is a store whose next launch fails, before or after it took effect.
type failing struct {
	store.Store
	mu               sync.Mutex
	armed, committed bool
}

func (f *failing) arm(committed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.committed = true, committed
}

func (f *failing) disarm() (committed, armed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	armed, f.armed = f.armed, false
	return f.committed, armed
}

// insertSpy sees whether a transaction is a launch.
type insertSpy struct {
	store.Tx
	launch bool
}

func (t *insertSpy) InsertSandbox(ctx context.Context, sb *core.Sandbox) error {
	t.launch = true
	return t.Tx.InsertSandbox(ctx, sb)
}

func (f *failing) Update(ctx context.Context, fn func(store.Tx) error) error {
	full := fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "the disk is full").WithCause(errors.New("ENOSPC"))
	lost := false
	err := f.Store.Update(ctx, func(tx store.Tx) error {
		spy := &insertSpy{Tx: tx}
		if err := fn(spy); err != nil || !spy.launch {
			return err
		}
		if committed, armed := f.disarm(); armed && !committed {
			return full
		} else if armed {
			lost = true
		}
		return nil
	})
	if err == nil && lost {
		return full
	}
	return err
}
