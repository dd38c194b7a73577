package fake

import (
	"cmp"
	"context"
	"slices"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// pool is what the fake has in place of prepared sandboxes: their number. It is guarded by Backend.mu.
type pool struct {
	want         backend.Pool
	ready        int
	hits, misses int64
	problem      string
}

type poolKey struct{ org, profile string }

// SetPools makes the pools what the list says. They are full at once, unless a test holds that up.
func (b *Backend) SetPools(_ context.Context, want []backend.Pool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.reachable(); err != nil {
		return err
	}
	next := map[poolKey]*pool{}
	for _, w := range want {
		key := poolKey{w.OrgID, w.ProfileName}
		p := b.pools[key]
		if p == nil || p.want.Digest != w.Digest {
			p = &pool{problem: backend.UserScoped(w.Spec)}
		}
		p.want = w
		p.ready = min(p.ready, w.Size)
		next[key] = p
	}
	b.pools = next
	b.setPools++
	b.refill()
	return nil
}

// refill fills the pools.
func (b *Backend) refill() {
	for _, p := range b.pools {
		if p.problem == "" && !b.inject.holdPools {
			p.ready = p.want.Size
		}
	}
}

// HoldPools keeps pools from being filled again, until it is called with false.
func (b *Backend) HoldPools(hold bool) {
	b.locked(func() {
		b.inject.holdPools = hold
		b.refill()
	})
}

// SetPoolsCalls returns how often pools were set.
func (b *Backend) SetPoolsCalls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.setPools
}

// Pools returns the status of each pool.
func (b *Backend) Pools() []backend.PoolStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]backend.PoolStatus, 0, len(b.pools))
	for _, p := range b.pools {
		out = append(out, backend.PoolStatus{
			OrgID: p.want.OrgID, ProfileName: p.want.ProfileName, Digest: p.want.Digest, Size: p.want.Size, Ready: p.ready,
			Hits: p.hits, Misses: p.misses, Problem: p.problem,
		})
	}
	slices.SortFunc(out, func(x, y backend.PoolStatus) int {
		return cmp.Or(cmp.Compare(x.OrgID, y.OrgID), cmp.Compare(x.ProfileName, y.ProfileName))
	})
	return out
}

// take takes a prepared sandbox for a work, and says how that went; nil when there are no pools.
func (b *Backend) take(w *backend.Work) *core.WarmVerdict {
	if len(b.pools) == 0 {
		return nil
	}
	p, ok := b.pools[poolKey{w.OrgID, w.ProfileName}]
	if !ok {
		return &core.WarmVerdict{Reason: core.WarmNoPool, Message: "the binding keeps no prepared sandboxes"}
	}
	v := &core.WarmVerdict{Hit: true}
	switch {
	case p.want.Digest != w.Digest:
		v = backend.SpecDiffers(p.want.Spec, w.Spec)
	case p.ready == 0 && p.problem != "":
		v = &core.WarmVerdict{Reason: core.WarmFailing, Message: p.problem}
	case p.ready == 0:
		v = &core.WarmVerdict{Reason: core.WarmRefilling, Message: "all that were prepared are used"}
	}
	if v.Hit {
		p.hits++
		p.ready--
	} else {
		p.misses++
	}
	b.refill()
	return v
}
