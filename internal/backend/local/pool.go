package local

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// A pool keeps sandboxes of one binding prepared, in slots (slot.go). A launch takes one (claim.go). Which sandboxes there shall
// be is told by SetPools; the goroutines of refill see to it that they are, one step at a time, while no launch is under way.

// poolKey names a pool: a binding of an organization.
type poolKey struct{ org, profile string }

// pool is guarded by pools.mu, except for what never changes.
type pool struct {
	want backend.Pool
	// ready are the slots that wait, the oldest first.
	ready     []*slot
	preparing int
	// gone: it was replaced or removed; what is prepared for it is discarded.
	gone bool
	// died counts slots that died since the last one that was handed out, failures preparations that failed in a row.
	died, failures int
	// problem is why the last preparation failed; retry is when the next one may begin, zero for never.
	problem      string
	retry        time.Time
	hits, misses int64
}

// missing is how many slots are to be prepared.
func (p *pool) missing() int { return p.want.Size - len(p.ready) - p.preparing }

// pools are all pools of a backend.
type pools struct {
	mu    sync.Mutex
	byKey map[poolKey]*pool
	// changed wakes one who refills.
	changed chan struct{}
	// slots counts those that exist, discarded ones that are not gone included.
	slots int
	// launching counts launches under way that a preparation would slow down.
	launching int
}

func newPools() *pools { return &pools{byKey: map[poolKey]*pool{}, changed: make(chan struct{}, 1)} }

func (p *pools) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// SetPools makes the pools what the list says.
func (b *Backend) SetPools(_ context.Context, want []backend.Pool) error {
	if len(want) > 0 {
		if err := b.refused(); err != nil {
			return err
		}
	}
	total := 0
	next := map[poolKey]backend.Pool{}
	for _, w := range want {
		if w.Size < 0 || w.Size > core.MaxWarmSize {
			return fault.Invalidf(fault.ReasonLimitExceeded, "a warm pool of %d sandboxes for profile %s; a binding keeps at most %d", w.Size, w.ProfileName, core.MaxWarmSize)
		}
		if total += w.Size; total > core.MaxWarmTotal {
			return fault.Invalidf(fault.ReasonLimitExceeded, "the warm pools have more than %d sandboxes together", core.MaxWarmTotal)
		}
		if w.Size > 0 {
			next[poolKey{w.OrgID, w.ProfileName}] = w
		}
	}
	b.discard(b.pools.replace(next, cannotPrepare))
	b.pools.wake()
	return nil
}

// cannotPrepare says why nothing of a spec can ever be prepared here, "" when it can.
func cannotPrepare(want backend.Pool) string {
	if why := backend.UserScoped(want.Spec); why != "" {
		return "nothing can be prepared before it is known for whom: " + why
	}
	return ""
}

// replace installs the pools of next and returns the slots that are of no use any more. cannot says which stay empty, and why.
func (p *pools) replace(next map[poolKey]backend.Pool, cannot func(backend.Pool) string) []*slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	var useless []*slot
	for key, have := range p.byKey {
		want, stays := next[key]
		if stays && want.Digest == have.want.Digest {
			have.want = want
			if more := len(have.ready) - want.Size; more > 0 {
				useless = append(useless, have.ready[:more]...)
				have.ready = have.ready[more:]
			}
			delete(next, key)
			continue
		}
		have.gone = true
		useless = append(useless, have.ready...)
		delete(p.byKey, key)
	}
	for key, want := range next {
		p.byKey[key] = &pool{want: want, problem: cannot(want)}
	}
	return useless
}

// Pools returns the status of each pool.
func (b *Backend) Pools() []backend.PoolStatus {
	b.pools.mu.Lock()
	defer b.pools.mu.Unlock()
	out := make([]backend.PoolStatus, 0, len(b.pools.byKey))
	for _, p := range b.pools.byKey {
		out = append(out, backend.PoolStatus{
			OrgID: p.want.OrgID, ProfileName: p.want.ProfileName, Digest: p.want.Digest, Size: p.want.Size, Ready: len(p.ready),
			Preparing: p.preparing, Hits: p.hits, Misses: p.misses, Problem: b.hide.Replace(p.problem), RetryAt: p.retry,
		})
	}
	slices.SortFunc(out, func(x, y backend.PoolStatus) int {
		return cmp.Or(cmp.Compare(x.OrgID, y.OrgID), cmp.Compare(x.ProfileName, y.ProfileName))
	})
	return out
}

// refill prepares what is missing, until the backend is closed.
func (b *Backend) refill() {
	for {
		p, wait := b.pools.next(b.cfg.Now())
		if p == nil {
			if !b.pools.sleep(b.ctx, wait) {
				return
			}
			continue
		}
		b.pools.wake() // There may be more to do than this one preparation.
		if !b.pools.quiet(b.ctx) {
			b.pools.prepared(p, nil, nil, b.cfg.Now())
			return
		}
		s, err := b.prepareSlot(b.ctx, p.want)
		if b.ctx.Err() == nil && err != nil {
			b.log.Warn("a sandbox could not be prepared", "profile", p.want.ProfileName, "error", err)
		}
		b.stock(p, s, err)
	}
}

// refillers is how many sandboxes are prepared at a time: half of the CPUs are left to those who wait.
func refillers() int { return max(1, runtime.NumCPU()/2) }

// next returns a pool that lacks a slot, with that counted as being prepared; else how long there is nothing to do, 0 for ever. The
// pool that lacks most comes first.
func (p *pools) next(now time.Time) (*pool, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *pool
	var wait time.Duration
	for _, c := range p.byKey {
		switch {
		case c.missing() <= 0, c.problem != "" && c.retry.IsZero():
		case c.problem != "" && (c.preparing > 0 || now.Before(c.retry)):
			if left := max(c.retry.Sub(now), time.Millisecond); wait == 0 || left < wait {
				wait = left
			}
		case best == nil || c.missing() > best.missing():
			best = c
		}
	}
	if best == nil || p.slots >= core.MaxWarmTotal+refillers() {
		return nil, wait
	}
	best.preparing++
	p.slots++
	return best, 0
}

// sleep waits for a change, for a while (0: for ever). It reports false when ctx has ended.
func (p *pools) sleep(ctx context.Context, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-p.changed:
	case <-over:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// quiet waits until no launch is under way, but not for ever: where there always is one, pools would stay empty.
func (p *pools) quiet(ctx context.Context) bool {
	for end := time.Now().Add(quietPatience); ; {
		p.mu.Lock()
		busy := p.launching > 0
		p.mu.Unlock()
		if !busy || time.Now().After(end) {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(quietPoll):
		case <-ctx.Done():
			return false
		}
	}
}

// launch counts a launch as under way until the function that it returns is called.
func (p *pools) launch() (done func()) {
	p.add(1)
	return sync.OnceFunc(func() { p.add(-1) })
}

func (p *pools) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.launching += n
}

// stock puts a slot that was prepared into its pool, or notes that it failed; one that nobody wants any more is discarded.
func (b *Backend) stock(p *pool, s *slot, err error) {
	if useless := b.pools.prepared(p, s, err, b.cfg.Now()); useless != nil {
		b.discard([]*slot{useless})
		return
	}
	if s != nil {
		b.spawn(func() { b.guard(p, s) })
	}
}

// prepared notes the outcome of a preparation, and returns the slot when it is of no use.
func (p *pools) prepared(to *pool, s *slot, err error, now time.Time) (useless *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to.preparing--
	if s == nil {
		p.slots--
	}
	switch {
	case err != nil:
		to.failed(message(err), now)
	case s != nil && (to.gone || len(to.ready) >= to.want.Size):
		return s
	case s != nil:
		to.ready = append(to.ready, s)
		to.failures, to.problem, to.retry = 0, "", time.Time{}
	}
	return nil
}

// failed backs off.
func (p *pool) failed(problem string, now time.Time) {
	p.problem = problem
	p.retry = now.Add(min(minPrepareRetry<<min(p.failures, 16), maxPrepareRetry))
	p.failures++
}

// guard watches a slot that waits, and takes it out of its pool when it dies.
func (b *Backend) guard(p *pool, s *slot) {
	_, err := s.client.Wait(s.watching)
	if s.watching.Err() != nil {
		return // It was taken, or discarded.
	}
	b.log.Warn("a prepared sandbox died", "profile", p.want.ProfileName, "slot", s.slot, "error", err)
	if b.pools.drop(p, s, b.cfg.Now()) {
		b.discard([]*slot{s})
	}
	b.pools.wake()
}

// drop takes a dead slot out of its pool. It reports false when it was not there any more.
func (p *pools) drop(from *pool, s *slot, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(from.ready, s)
	if i < 0 {
		return false
	}
	from.ready = slices.Delete(from.ready, i, i+1)
	if from.died++; from.died > maxDeaths {
		from.failed("prepared sandboxes die while they wait", now)
	}
	return true
}

// empty takes all slots out of all pools, for good.
func (p *pools) empty() []*slot { return p.replace(nil, nil) }
