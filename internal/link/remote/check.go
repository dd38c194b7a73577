package remote

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/backend"
)

const (
	// checkTimeout is how long a runner may take to say what it would refuse. Planning waits for it.
	checkTimeout = 2 * time.Second
	// checkTTL is how long an answer that nothing is refused holds. A refusal is never kept: its cause may be removed at once. One
	// that came meanwhile is noticed when the sandbox is handed over.
	checkTTL = 5 * time.Second
	// maxChecks is how many answers are kept.
	maxChecks = 1024
)

// Check asks the runner what its backend would refuse, unless it has just said that it would refuse nothing.
func (l *Link) Check(w *backend.Work) error {
	in := &linkv1.CheckRequest{Work: l.work(w)}
	key, keyed := checkKey(in)
	now := l.cfg.Now()
	if keyed && l.checks.passed(key, now) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	if _, err := l.control.Check(ctx, in); err != nil {
		return l.fault(ctx, err)
	}
	if keyed {
		l.checks.pass(key, now)
	}
	return nil
}

// checkKey identifies what is asked. What depends on another sandbox has no key.
func checkKey(in *linkv1.CheckRequest) ([sha256.Size]byte, bool) {
	if in.GetWork().GetLaunch().GetForkOf() != "" {
		return [sha256.Size]byte{}, false
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(in)
	return sha256.Sum256(raw), err == nil
}

// checks remembers what would not be refused.
type checks struct {
	mu sync.Mutex
	at map[[sha256.Size]byte]time.Time
}

func newChecks() *checks { return &checks{at: map[[sha256.Size]byte]time.Time{}} }

func (c *checks) passed(key [sha256.Size]byte, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.at[key]
	return ok && now.Sub(at) < checkTTL
}

func (c *checks) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.at)
}

func (c *checks) pass(key [sha256.Size]byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.at) >= maxChecks {
		clear(c.at) // they live for seconds only
	}
	c.at[key] = now
}
