package control_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

// pair is two servers on one PostgreSQL database, each with a pool of connections and a change feed of its own, as two processes have
// them, and the runner "lab". The world is the first of them.
type pair struct {
	*world
	second *control.Service
}

// newPair makes one; the runner can hold so many sandboxes. It is in contact with the servers that are attached.
func newPair(t *testing.T, most int64) *pair {
	t.Helper()
	w := newWorldOn(t, postgres.Database(t), control.Config{}, fake.Config{})
	w.close()
	w.open()
	_, err := w.svc.Bootstrap(w.ctx(), control.Bootstrap{Place: "1111111111111111"})
	w.must(err)
	w.must(w.svc.Recover(w.ctx()))
	v, _, err := w.svc.CreateRunner(w.ctx(), w.admin, control.RunnerInput{
		RunnerID: "lab", Zone: "lab", ClusterName: "lab", Bindings: []core.Binding{{ProfileID: w.profile.ID, Default: true}},
	})
	w.must(err)
	w.runners["lab"] = v.Runner
	w.fakes["lab"] = fake.New(fake.Config{Info: backend.Info{Capacity: core.Amounts{CPUMillis: 1 << 30, MemoryBytes: 1 << 50, Sandboxes: most}}})
	cfg := w.cfg
	other, err := sqlstore.Open(w.ctx(), sqlstore.Config{DSN: w.dsn})
	w.must(err)
	cfg.Store = other
	second := control.New(w.ctx(), cfg)
	t.Cleanup(func() {
		second.Close()
		if err := other.Close(); err != nil {
			t.Errorf("close the store of the second server: %v", err)
		}
	})
	_, err = second.Bootstrap(w.ctx(), control.Bootstrap{Place: "2222222222222222"})
	w.must(err)
	w.must(second.Recover(w.ctx()))
	return &pair{world: w, second: second}
}

// attachBoth gives lab a line to each server.
func (p *pair) attachBoth() {
	p.Helper()
	p.attach("lab")
	p.must(p.second.Attach(p.ctx(), p.runners["lab"].ID, p.agent(p.fakes["lab"])))
}

// onLab launches through a server and waits until the sandbox runs.
func (p *pair) onLab(svc *control.Service) *core.Sandbox {
	p.Helper()
	sb, _, err := svc.Launch(p.ctx(), p.user, &specpb.Launch{RunnerIds: []string{"lab"}})
	p.must(err)
	ctx, cancel := context.WithTimeout(p.ctx(), time.Minute)
	defer cancel()
	sb, err = svc.Wait(ctx, p.user, sb.ID, control.Settled)
	p.must(err)
	if sb.Status != core.StatusRunning {
		p.Fatalf("it is %s %q", sb.Status, sb.StatusReason)
	}
	return sb
}

// TestTokenRevokedThroughAnotherServer: what one server remembers of a token ends when another one revokes it.
func TestTokenRevokedThroughAnotherServer(t *testing.T) {
	p := newPair(t, 10)
	token, secret, err := p.svc.CreateToken(p.ctx(), p.admin, control.TokenInput{Name: "ci", Role: core.RoleUser})
	p.must(err)
	_, err = p.second.Authenticate(p.ctx(), secret)
	p.must(err)
	p.must(p.svc.RevokeToken(p.ctx(), p.admin, "", token.ID))
	p.eventually("the token is refused", func() bool {
		_, err := p.second.Authenticate(p.ctx(), secret)
		return fault.Is(err, fault.Unauthenticated)
	})
}

// TestEditThroughAnotherServer: the next launch goes by an edit that was acknowledged, wherever that was.
func TestEditThroughAnotherServer(t *testing.T) {
	p := newPair(t, 100)
	p.attachBoth()
	p.onLab(p.second)
	for i := range 5 {
		patch := control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: p.layer(
			`{"container_image":"host","tags":["edit-` + strconv.Itoa(i) + `"],"network":{"egress":{"default":"none","modes":{"none":{"type":"none"}}}}}`)}}
		edited, _, err := p.svc.UpdateProfile(p.ctx(), p.admin, p.profile.ID, patch)
		p.must(err)
		if got := p.onLab(p.second); got.ProfileRevision != edited.Revision {
			t.Fatalf("launched with revision %d of the profile, after %d was acknowledged", got.ProfileRevision, edited.Revision)
		}
	}
}

// TestCapacityOverTwoServers: servers that launch on one runner at the same time do not take more than it has; and what ends under
// either is free for both.
func TestCapacityOverTwoServers(t *testing.T) {
	const most, tries = 6, 40
	p := newPair(t, most)
	p.attachBoth()
	for range 2 {
		var mu sync.Mutex
		var ids []string
		var group sync.WaitGroup
		for i := range tries {
			group.Go(func() {
				svc := []*control.Service{p.svc, p.second}[i%2]
				sb, _, err := svc.Launch(p.ctx(), p.user, &specpb.Launch{RunnerIds: []string{"lab"}})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					ids = append(ids, sb.ID)
				case !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Exhausted):
					t.Errorf("refused for another reason: %v", err)
				}
			})
		}
		group.Wait()
		if len(ids) != most {
			t.Fatalf("%d were launched where there is room for %d", len(ids), most)
		}
		for i, id := range ids { // through the server that did not launch it, mostly
			svc := []*control.Service{p.second, p.svc}[i%2]
			p.eventually("it can be stopped", func() bool { return svc.Stop(p.ctx(), p.user, id, time.Second) == nil })
		}
		for _, id := range ids {
			p.endedOnce(id)
		}
		p.eventually("all is free", func() bool { return p.reserved("lab") == (core.Amounts{}) })
	}
}

// endedOnce waits at both servers for the end of a sandbox, which both must tell alike.
func (p *pair) endedOnce(id string) {
	p.Helper()
	got := p.ended(id)
	ctx, cancel := context.WithTimeout(p.ctx(), time.Minute)
	defer cancel()
	same, err := p.second.Wait(ctx, p.user, id, control.Ended)
	p.must(err)
	if got.Status != core.StatusCompleted || same.Status != got.Status || same.Revision != got.Revision {
		p.Errorf("one server says %s %q revision %d, the other %s %q %d", got.Status, got.StatusReason, got.Revision, same.Status, same.StatusReason, same.Revision)
	}
	ends := 0
	for _, e := range got.Timeline {
		if e.Name == "ended" {
			ends++
		}
	}
	if ends != 1 {
		p.Errorf("it ended %d times: %v", ends, got.Timeline)
	}
}

// TestEndThatOneServerMisses: the end of a sandbox is written, and the sandbox removed from its runner, before another server was told
// of it. It learns of it from the store.
func TestEndThatOneServerMisses(t *testing.T) {
	p := newPair(t, 10)
	p.attachBoth()
	for range 10 {
		sb := p.onLab(p.second)
		p.eventually("the first knows it", func() bool { return p.get(sb.ID).Status == core.StatusRunning })
		p.fakes["lab"].Exit(sb.ID, 3)
		p.endedOnce(sb.ID)
		p.eventually("it is removed", func() bool { return p.fakes["lab"].Work(sb.ID) == nil })
	}
}

// TestPoolsThroughAnotherServer: the server that an edit comes through has no line to the runner; the one that has tells it.
func TestPoolsThroughAnotherServer(t *testing.T) {
	p := newPair(t, 10)
	p.must(p.second.Attach(p.ctx(), p.runners["lab"].ID, p.agent(p.fakes["lab"])))
	p.onLab(p.second)
	p.must(p.bind("lab", core.Binding{ProfileID: p.profile.ID, Default: true, Warm: 2}))
	p.eventually("the runner keeps two", func() bool {
		pools := p.fakes["lab"].Pools()
		return len(pools) == 1 && pools[0].Size == 2
	})
	p.must(p.bind("lab", core.Binding{ProfileID: p.profile.ID, Default: true}))
	p.eventually("the runner keeps none", func() bool { return len(p.fakes["lab"].Pools()) == 0 })
}

// TestRunnerDeletedThroughAnotherServer: what runs on it is stopped by the server that reaches it.
func TestRunnerDeletedThroughAnotherServer(t *testing.T) {
	p := newPair(t, 10)
	p.must(p.second.Attach(p.ctx(), p.runners["lab"].ID, p.agent(p.fakes["lab"])))
	sb := p.onLab(p.second)
	p.must(p.svc.DeleteRunner(p.ctx(), p.admin, "lab", control.DeleteOptions{Force: true}))
	p.endedOnce(sb.ID)
	p.eventually("it is gone", func() bool {
		_, err := p.second.GetRunner(p.ctx(), p.admin, "lab")
		return fault.Is(err, fault.NotFound)
	})
}
