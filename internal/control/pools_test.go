package control_test

import (
	"context"
	"slices"
	"strings"
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
)

// warm returns the event of a sandbox's pool: its attributes and its message, "" for none.
func warm(sb *core.Sandbox) string {
	for _, e := range sb.Timeline {
		if e.Name == core.EventWarm {
			return strings.TrimSpace(e.Attrs[core.AttrWarmResult]+" "+e.Attrs[core.AttrWarmReason]) + ": " + e.Message
		}
	}
	return ""
}

// TestWarmPools: the pools of a runner follow its configuration, and no launch gets what was prepared from another one.
func TestWarmPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := w.fakes["r1"]
		if sb := w.running(nil); warm(sb) != "" || f.SetPoolsCalls() != 0 {
			t.Errorf("without pools: %q, told %d times", warm(sb), f.SetPoolsCalls())
		}
		p := w.newProfile("agent", `{"container_image":"host","resource_defaults":{"cpu_limit":"2","memory_limit":"1Gi"}}`)
		other := w.newProfile("other", `{}`)
		w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true, Warm: 2}, core.Binding{ProfileID: other.ID}))
		synctest.Wait()
		have := f.Pools()
		if len(have) != 1 || have[0].ProfileName != "agent" || have[0].Size != 2 || have[0].Ready != 2 {
			t.Fatalf("%+v", have)
		}
		if sb := w.running(nil); !strings.HasPrefix(warm(sb), "hit") || sb.Digest != have[0].Digest {
			t.Errorf("%q, digest %s, prepared %s", warm(sb), sb.Digest, have[0].Digest)
		}
		// What published clients always send is what the profile says.
		if sb := w.running(&specpb.Launch{ContainerImage: "host", Command: "sleep", Args: []string{"infinity"}}); !strings.HasPrefix(warm(sb), "hit") {
			t.Errorf("%q", warm(sb))
		}
		if sb := w.running(&specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "1"}}); !strings.HasPrefix(warm(sb), "miss SPEC_DIFFERS") || !strings.Contains(warm(sb), "resource_defaults.cpu_limit") {
			t.Errorf("%q", warm(sb))
		}
		if sb := w.running(&specpb.Launch{ProfileNames: []string{"other"}}); !strings.HasPrefix(warm(sb), "miss NO_POOL") {
			t.Errorf("%q", warm(sb))
		}
		time.Sleep(2 * lineHeartbeat) // what is known of pools over a line is as old as the last sign of life
		v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
		w.must(err)
		if len(v.Status.Pools) != 1 || v.Status.Pools[0].Hits != 2 || v.Status.Pools[0].Misses != 1 || v.Runner.Bindings[0].Warm != 2 {
			t.Errorf("%+v", v.Status.Pools)
		}
		// They count for nobody.
		if live := v.Status.Live; live != 5 || w.count() != 5 {
			t.Errorf("%d live, %d in the list", live, w.count())
		}

		w.editProfile("agent", `{"container_image":"host","resource_defaults":{"cpu_limit":"3","memory_limit":"1Gi"}}`)
		synctest.Wait()
		if now := f.Pools(); len(now) != 1 || now[0].Digest == have[0].Digest {
			t.Errorf("%+v", now)
		}
		if sb := w.running(nil); !strings.HasPrefix(warm(sb), "hit") || f.Work(sb.ID).Spec.GetResourceDefaults().GetCpuLimit() != "3" {
			t.Errorf("%q", warm(sb))
		}
		// A restart of the server tells again; nothing new, and the runner keeps what it has.
		w.restart()
		w.attach("r1")
		synctest.Wait()
		if now := f.Pools(); len(now) != 1 || now[0].Size != 2 {
			t.Errorf("%+v", now)
		}
		w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true}))
		synctest.Wait()
		if now := f.Pools(); len(now) != 0 {
			t.Errorf("%+v", now)
		}
	})
}

// TestWarmPoolsAreLate: a launch right after an edit misses, whatever the runner was told so far.
func TestWarmPoolsAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.newProfile("agent", `{"resource_defaults":{"cpu_limit":"2"}}`)
		w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true, Warm: 1}))
		synctest.Wait()
		f := w.fakes["r1"]
		old := f.Pools()[0].Digest
		f.HoldPools(true)
		w.must(f.SetPools(w.ctx(), []backend.Pool{{OrgID: w.runners["r1"].OrgID, ProfileName: "agent", Spec: &specpb.ProfileSpec{}, Digest: "sha256:of-yesterday", Size: 1}}))
		if sb := w.running(nil); sb.Digest != old || !strings.HasPrefix(warm(sb), "miss SPEC_DIFFERS") {
			t.Errorf("%q", warm(sb))
		}
	})
}

// TestWarmPoolsEnd: a runner that is deleted keeps nothing.
func TestWarmPoolsEnd(t *testing.T) {
	for _, force := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.newProfile("agent", `{}`)
			w.must(w.bind("r1", core.Binding{ProfileID: p.ID, Default: true, Warm: 1}))
			synctest.Wait()
			if force {
				w.running(nil)
			}
			w.must(w.svc.DeleteRunner(w.ctx(), w.admin, "r1", control.DeleteOptions{Force: force}))
			synctest.Wait()
			if now := w.fakes["r1"].Pools(); len(now) != 0 {
				t.Errorf("%+v", now)
			}
		})
	}
}

// replaced is a link whose runner gets another process while it is told of its pools.
type replaced struct {
	runner.Link
	during func()
}

func (l *replaced) SetPools(ctx context.Context, pools []runner.Pool) error {
	err := l.Link.SetPools(ctx, pools)
	if during := l.during; during != nil {
		l.during = nil
		during()
	}
	return err
}

// TestWarmPoolsOfANewProcess: what the process before was told just then, the new one is told again.
func TestWarmPoolsOfANewProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id, fresh := w.runners["r1"].ID, fake.New(fake.Config{})
		w.svc.Detach(id)
		w.must(w.svc.Attach(w.ctx(), id, &replaced{Link: runner.NewAgent(w.fakes["r1"], nil), during: func() {
			w.svc.Detach(id)
			w.must(w.svc.Attach(w.ctx(), id, runner.NewAgent(fresh, nil)))
		}}))
		w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true, Warm: 1}))
		synctest.Wait()
		if have := fresh.Pools(); len(have) != 1 || have[0].Ready != 1 {
			t.Errorf("the new process keeps %+v", have)
		}
	})
}

func TestWarmSizeIsBounded(t *testing.T) {
	w := newWorld(t)
	id := w.profile.ID
	for _, size := range []int32{-1, core.MaxWarmSize + 1} {
		err := w.bind("r1", core.Binding{ProfileID: id, Default: true, Warm: size})
		wantFault(t, err, fault.Invalid, fault.ReasonBindingsInvalid, "0 to 64")
		if !hasField(err, "profile_bindings[0].warm.size") {
			t.Errorf("%v", fault.From(err).Fields)
		}
	}
	var many []core.Binding
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		many = append(many, core.Binding{ProfileID: id, Alias: name, Default: name == "a", Warm: core.MaxWarmSize})
	}
	err := w.bind("r1", many...)
	wantFault(t, err, fault.Invalid, fault.ReasonBindingsInvalid, "256")
	if got := fault.From(err).Fields; len(got) != 1 || got[0].Path != "profile_bindings[4].warm.size" {
		t.Errorf("%v", got)
	}
	w.must(w.bind("r1", slices.Clone(many[:4])...))
	v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	if len(v.Runner.Bindings) != 4 || v.Runner.Bindings[3].Warm != core.MaxWarmSize {
		t.Errorf("%+v", v.Runner.Bindings)
	}
}
