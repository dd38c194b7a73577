package plan

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
)

const twoGroups = `{"profiles": {"p": {"placement": {"runner_groups": ["a", "b"], "max_wait_seconds": 5}}}, "runners": [
	{"id": "a1", "group": "a", "capacity": {"sandboxes": 1}, "used": {"sandboxes": 1}, "bindings": [{"profile": "p", "default": true}]},
	{"id": "b1", "group": "b", "bindings": [{"profile": "p", "default": true}]}]}`

// TestAWaitThatIsOver: the next group is taken for good, and both what was waited and why no longer are told.
func TestAWaitThatIsOver(t *testing.T) {
	s := parse(t, twoGroups)
	waiting := []Wait{{Group: "a", For: 2 * time.Second}}
	p, err := Make(s, &specpb.Launch{}, Options{Waits: waiting})
	if err != nil || p.Hold == nil || p.Hold.Group != "a" || p.Hold.For != 5*time.Second || len(p.Hold.Runners) != 1 || p.Hold.Runners[0] != s.Runners[0].Runner.ID {
		t.Fatalf("%+v, %v", p, err)
	}
	waiting[0] = Wait{Group: "a", For: 5 * time.Second, Over: "enough"}
	if p, err = Make(s, &specpb.Launch{}, Options{Waits: waiting}); err != nil || p.Hold != nil || p.Runner.Runner.RunnerID != "b1" {
		t.Fatalf("%+v, %v", p, err)
	}
	if st := p.Steps[0]; st.Outcome != GroupFull || st.Waited != 5*time.Second || !strings.Contains(st.Message, "a1: sandboxes: needs 1, 0 of 1 is free; enough") {
		t.Errorf("%+v", st)
	}
	s.Runners[1].Used = s.Runners[1].Capacity // It filled up meanwhile.
	_, err = Make(s, &specpb.Launch{}, Options{Waits: waiting})
	if !fault.Is(err, fault.Exhausted) || !strings.Contains(err.Error(), "waited 5s for room in runner group a") {
		t.Error(err)
	}
	// Room that appears in the group before is taken, whatever was waited.
	s.Runners[0].Used.Sandboxes = 0
	if p, err = Make(s, &specpb.Launch{}, Options{Waits: waiting}); err != nil || p.Runner.Runner.RunnerID != "a1" || p.Steps[0].Waited != 5*time.Second {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestNoGroupIsPassedOver: a sandbox is in a later group only if no runner of an earlier one could take it now.
func TestNoGroupIsPassedOver(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawWorld(rt).snapshot(t)
		for _, r := range s.Runners {
			for _, b := range r.Bindings {
				b.cpu.order = order{groups: []string{"g"}, wait: time.Second}
				b.gpu.order = b.cpu.order
			}
		}
		l := drawRequest(rt)
		p, err := Make(s, l, Options{Seed: rapid.Uint64().Draw(rt, "seed")})
		if err != nil || p.Runner.Runner.GroupID == "g" {
			return
		}
		for _, r := range s.Runners {
			if r.Runner.GroupID != "g" || r.Runner.OrgID != s.OrgID {
				continue
			}
			alone := *s
			alone.Runners = []*Runner{r}
			if _, err := Make(&alone, l, Options{}); err == nil {
				rt.Fatalf("%s was chosen, and %s, of the group before it, could take it", p.Runner.Runner.RunnerID, r.Runner.RunnerID)
			}
		}
	})
}
