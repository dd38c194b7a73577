package backendtest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// pool returns a pool for the spec of a work.
func pool(w *backend.Work, size int) backend.Pool {
	return backend.Pool{OrgID: w.OrgID, RunnerID: w.RunnerID, ProfileName: w.ProfileName, ZoneName: w.ZoneName, Spec: w.Spec, Digest: w.Digest, Size: size}
}

// setPools sets pools and waits until they are full.
func (s *suite) setPools(t *testing.T, pools ...backend.Pool) {
	t.Helper()
	if err := s.b.SetPools(s.ctx, pools); err != nil {
		t.Fatalf("set pools: %v", err)
	}
	s.full(t)
}

// full waits until every pool that can be is full.
func (s *suite) full(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // Pools tell nobody when they are.
		missing := slices.ContainsFunc(s.b.Pools(), func(p backend.PoolStatus) bool { return p.Problem == "" && p.Ready < p.Size })
		switch {
		case !missing:
			return
		case time.Now().After(end):
			t.Fatalf("the pools did not fill up: %+v", s.b.Pools())
		}
	}
}

// warm returns what a sandbox's event says of its pool, nil for no event.
func (s *suite) warm(t *testing.T, id string) *core.Event {
	t.Helper()
	s.await(t, id, "it runs", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.seen[id] {
		for _, e := range o.Events {
			if e.Name == core.EventWarm {
				return &e
			}
		}
	}
	return nil
}

func (s *suite) wantWarm(t *testing.T, id string, reason core.WarmReason) *core.Event {
	t.Helper()
	e := s.warm(t, id)
	switch {
	case e == nil:
		t.Fatalf("nothing was said of the pool")
	case reason == "" && e.Attrs[core.AttrWarmResult] != core.WarmHit, reason != "" && e.Attrs[core.AttrWarmReason] != string(reason):
		t.Errorf("%+v, want %q", e, reason)
	}
	return e
}

// testWarm is about pools of prepared sandboxes.
func (s *suite) testWarm() {
	w := s.work("sleep", "infinity")
	s.sub("without pools nothing is said", func(t *testing.T) {
		id := s.idle(t)
		if e := s.warm(t, id); e != nil || len(s.b.Pools()) > 0 {
			t.Errorf("%+v %+v", e, s.b.Pools())
		}
	})
	if s.opts.NoPools {
		s.sub("pools are refused", func(t *testing.T) {
			wantFault(t, s.b.SetPools(s.ctx, []backend.Pool{pool(w, 1)}), fault.Precondition, fault.ReasonBackendUnsupported)
			s.setPools(t)
		})
		return
	}
	s.sub("a launch of the same digest takes one, and it is filled again", func(t *testing.T) {
		s.setPools(t, pool(w, 2))
		for range 3 {
			launched := withSecret(s.work("sh", "-c", "printenv STORED && exit 7"), "STORED", "x")
			launched.Launch.EnvironmentVariables = map[string]string{"A": "b"}
			s.wantWarmEnd(t, s.create(t, launched))
			s.full(t)
		}
		if p := s.b.Pools(); len(p) != 1 || p[0].Hits != 3 || p[0].Misses != 0 || p[0].Size != 2 || p[0].Digest != w.Digest {
			t.Errorf("%+v", p)
		}
	})
	s.sub("it is like any other", func(t *testing.T) {
		launched := s.work("sleep", "infinity")
		id := s.create(t, launched)
		s.wantWarm(t, id, "")
		if r := s.exec(t, id, backend.Exec{Argv: []string{"echo", "hi"}}); r.out != "hi\n" {
			t.Errorf("%+v", r)
		}
		if err := s.b.Create(s.ctx, launched); err != nil {
			t.Errorf("again: %v", err)
		}
	})
	s.sub("what differs is a miss", s.testWarmMisses)
	s.sub("another digest discards what was prepared", func(t *testing.T) {
		changed := s.work("sleep", "infinity")
		changed.Spec = proto.CloneOf(w.Spec)
		changed.Spec.ResourceDefaults.CpuLimit, changed.Digest = proto.String("500m"), "sha256:changed"
		s.setPools(t, pool(changed, 1))
		if e := s.wantWarm(t, s.create(t, s.work("sleep", "infinity")), core.WarmSpecDiffers); !strings.Contains(e.Message, "resource_defaults.cpu_limit") {
			t.Errorf("%q", e.Message)
		}
		s.wantWarm(t, s.create(t, changed), "")
	})
	s.sub("pools that depend on the user hold nothing", func(t *testing.T) {
		scoped := s.work("sleep", "infinity")
		scoped.Spec = proto.CloneOf(w.Spec)
		scoped.Spec.Network.Egress.Modes["own"] = &specpb.EgressMode{Type: "user"}
		scoped.Spec.Network.Egress.Selected, scoped.Digest = proto.String("own"), "sha256:scoped"
		s.setPools(t, pool(scoped, 1))
		if p := s.b.Pools(); len(p) != 1 || p[0].Ready != 0 || !strings.Contains(p[0].Problem, "user") {
			t.Errorf("%+v", p)
		}
	})
	s.sub("no pools again", func(t *testing.T) {
		s.setPools(t)
		if p := s.b.Pools(); len(p) > 0 {
			t.Errorf("%+v", p)
		}
	})
}

func (s *suite) testWarmMisses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*backend.Work)
		reason core.WarmReason
	}{
		"another digest": {func(w *backend.Work) {
			w.Spec = proto.CloneOf(w.Spec)
			w.Spec.ResourceDefaults.MemoryLimit, w.Digest = proto.String("64Mi"), "sha256:own"
		}, core.WarmSpecDiffers},
		"another binding":      {func(w *backend.Work) { w.ProfileName = "other" }, core.WarmNoPool},
		"another organization": {func(w *backend.Work) { w.OrgID = "org-other" }, core.WarmNoPool},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.work("sleep", "infinity")
			tt.change(w)
			s.wantWarm(t, s.create(t, w), tt.reason)
		})
	}
}

// wantWarmEnd checks a prepared sandbox whose main process ends with code 7.
func (s *suite) wantWarmEnd(t *testing.T, id string) {
	t.Helper()
	o := s.ended(t, id)
	if o.ExitCode == nil || *o.ExitCode != 7 || o.Reason != core.EndExited || o.StartedAt.IsZero() {
		t.Errorf("%+v", o)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	hit := slices.ContainsFunc(s.seen[id], func(o *backend.Observation) bool {
		return slices.ContainsFunc(o.Events, func(e core.Event) bool {
			return e.Name == core.EventWarm && e.Attrs[core.AttrWarmResult] == core.WarmHit
		})
	})
	if !hit {
		t.Error("it did not take a prepared one")
	}
}
