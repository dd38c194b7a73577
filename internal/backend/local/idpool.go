package local

import (
	"hash/fnv"
	"sync"

	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/core/fault"
)

// The user and group ids on the machine that sandboxes are mapped to. The range is above those that distributions give to
// people, services, subordinate ids and systemd's containers, and below the ids that are negative for some programs.
const (
	firstID = 0x70000000
	lastID  = 0x7f000000
)

// idPool hands out ranges of ids: each sandbox has its own, so that not even a sandbox that escaped owns anything of
// another. A range is kept in work.json.
type idPool struct {
	// start is where the search begins: two servers on one machine rarely meet.
	start int

	mu    sync.Mutex
	taken map[int]bool
}

func newIDPool(name string) *idPool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return &idPool{start: int(h.Sum32() % MaxSandboxes), taken: map[int]bool{}}
}

// base returns the first id of a range.
func base(n int) uint32 { return firstID + uint32(n)*bundle.IDsPerSandbox }

// take returns a free range, always the same ones first: kernel objects made for a range are reused.
func (p *idPool) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range MaxSandboxes {
		if n := (p.start + i) % MaxSandboxes; !p.taken[n] {
			p.taken[n] = true
			return n, nil
		}
	}
	return 0, fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "this machine has %d sandboxes; there are no user ids for more", MaxSandboxes).
		WithHint("delete sandboxes that have ended")
}

// reserve marks a range that a sandbox of an earlier server has. It reports false when it is taken or does not exist.
func (p *idPool) reserve(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < 0 || n >= MaxSandboxes || p.taken[n] {
		return false
	}
	p.taken[n] = true
	return true
}

func (p *idPool) release(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, n)
}
