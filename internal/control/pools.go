package control

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/runner"
)

// Runners are told which sandboxes to keep prepared: whenever the configuration may have changed, and when their line comes up. That is
// a service and never a promise: a launch decides by the digest of its own spec, so what is told late is missed, not wrong.

// poolRetry is when runners that could not be told are told again.
const poolRetry = time.Second

// setPoolsTimeout is how long a runner may take to take note.
const setPoolsTimeout = 10 * time.Second

// poolTeller remembers what runners were told.
type poolTeller struct {
	mu sync.Mutex
	// running and again say, by organization, that a round is under way, and that there is to be another.
	running, again map[string]bool
	// told is what each runner was told last, forgotten how often that was forgotten, by UUID.
	told      map[string]string
	forgotten map[string]int
}

func newPoolTeller() *poolTeller {
	return &poolTeller{running: map[string]bool{}, again: map[string]bool{}, told: map[string]string{}, forgotten: map[string]int{}}
}

// begin reports whether the caller is to make a round; else the one that is under way is followed by another.
func (t *poolTeller) begin(orgID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[orgID] {
		t.again[orgID] = true
		return false
	}
	t.running[orgID] = true
	return true
}

// end reports whether there is to be another round.
func (t *poolTeller) end(orgID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	again := t.again[orgID]
	delete(t.again, orgID)
	if !again {
		delete(t.running, orgID)
	}
	return again
}

// knows reports whether a runner was told that, and how often it was forgotten, for remember.
func (t *poolTeller) knows(runnerUUID, what string) (known bool, forgotten int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, ok := t.told[runnerUUID]
	return ok && have == what, t.forgotten[runnerUUID]
}

// remember notes what a runner was told, unless that was forgotten meanwhile: then another process of it may be there by now.
func (t *poolTeller) remember(runnerUUID, what string, forgotten int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.forgotten[runnerUUID] == forgotten {
		t.told[runnerUUID] = what
	}
}

// forget makes the next round tell a runner again: its process may be another.
func (t *poolTeller) forget(runnerUUID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.told, runnerUUID)
	t.forgotten[runnerUUID]++
}

// pokePools has the runners of an organization told, in the background, unless they know.
func (s *Service) pokePools(orgID string) {
	if !s.contacts.any(orgID) || !s.pools.begin(orgID) {
		return
	}
	started := s.tasks.run(func(ctx context.Context) {
		for {
			s.tellPools(ctx, orgID)
			if !s.pools.end(orgID) {
				return
			}
		}
	})
	if !started {
		s.pools.end(orgID)
	}
}

// any reports whether a runner of an organization is in contact.
func (c *contacts) any(orgID string) bool {
	return len(c.ofOrg(orgID)) > 0
}

// ofOrg returns the contacts of an organization that are up.
func (c *contacts) ofOrg(orgID string) []contact {
	return c.up(func(k *contact) bool { return k.orgID == orgID })
}

// up returns the contacts that are up, of those that are wanted.
func (c *contacts) up(wanted func(*contact) bool) []contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []contact
	for _, k := range c.byRunner {
		if k.connected && k.link != nil && wanted(k) {
			out = append(out, *k)
		}
	}
	return out
}

// tellPools tells every runner of an organization that is in contact.
func (s *Service) tellPools(ctx context.Context, orgID string) {
	cfg, err := s.config(ctx, orgID, false)
	if err != nil {
		s.retryPools(ctx, orgID, err)
		return
	}
	for _, k := range s.contacts.ofOrg(orgID) {
		pools, what, err := poolsOf(cfg.find(k.runnerUUID))
		if err != nil {
			s.log.ErrorContext(ctx, "the warm pools of a runner cannot be told", "runner", k.runnerID, "error", err)
			continue
		}
		known, forgotten := s.pools.knows(k.runnerUUID, what)
		if known || what == "" && len(k.link.Pools()) == 0 {
			continue
		}
		failpoint.Hit(fpSetPools)
		if err := setPools(ctx, k.link, pools); err != nil {
			s.retryPools(ctx, orgID, err)
			continue
		}
		s.pools.remember(k.runnerUUID, what, forgotten)
	}
}

// setPools bounds how long a runner may take: the others of its organization wait.
func setPools(ctx context.Context, link runner.Link, pools []runner.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, setPoolsTimeout)
	defer cancel()
	return link.SetPools(ctx, pools)
}

func (s *Service) retryPools(ctx context.Context, orgID string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.log.WarnContext(ctx, "runners could not be told which sandboxes to keep prepared", "error", err, "retry", poolRetry)
	s.tasks.run(func(ctx context.Context) {
		if sleep(ctx, poolRetry) {
			s.pokePools(orgID)
		}
	})
}

// poolsOf returns the pools of a runner's bindings, and a text that is the same for the same pools: "" for none. A runner that is gone
// or going has none, nor has one that takes no sandboxes.
func poolsOf(c *runnerConfig) (pools []runner.Pool, what string, err error) {
	if c == nil || c.runner.DeletingSince != nil || c.runner.Cordon != nil {
		return nil, "", nil
	}
	var text strings.Builder
	for _, b := range c.bindings {
		if b.Spec.Warm <= 0 {
			continue
		}
		resolved, err := runner.Unasked(b.Folded)
		if err != nil {
			return nil, "", err
		}
		p := runner.Pool{Layers: b.Inputs, Pool: backend.Pool{
			OrgID: c.runner.OrgID, RunnerID: c.runner.RunnerID, ProfileName: b.Name, ZoneName: c.runner.Zone,
			Spec: resolved.Message(), Digest: resolved.Digest(), Size: int(b.Spec.Warm),
		}}
		pools = append(pools, p)
		fmt.Fprintf(&text, "%q %s %d\n", p.ProfileName, p.Digest, p.Size)
	}
	return pools, text.String(), nil
}

// dropPools has a runner that is no more keep nothing prepared.
func (s *Service) dropPools(runnerUUID string) {
	k, ok := s.contacts.get(runnerUUID)
	s.pools.forget(runnerUUID)
	if !ok || !k.connected || k.link == nil || len(k.link.Pools()) == 0 {
		return
	}
	s.tasks.run(func(ctx context.Context) {
		if err := k.link.SetPools(ctx, nil); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "a runner that was deleted may keep sandboxes prepared", "runner", k.runnerID, "error", err)
		}
	})
}
