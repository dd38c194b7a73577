package edge

import (
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// DefaultMaxCalls is how many calls of all callers may be under way: each has a goroutine at least, and a stream its buffers. One token
	// may have half of them, so that it leaves room for others.
	DefaultMaxCalls = 10_000
	// tryAgain is how long whoever is over a limit is asked to wait.
	tryAgain = time.Second
)

// calls counts the calls under way.
type calls struct {
	most, perToken int

	mu  sync.Mutex
	all int
	of  map[caller]int
}

// caller is a token, by what it is called in revisions and audit.
type caller struct{ org, actor string }

func newCalls(most, perToken int) *calls {
	if most == 0 {
		most = DefaultMaxCalls
	}
	if perToken == 0 {
		perToken = max(1, most/2)
	}
	return &calls{most: most, perToken: perToken, of: map[caller]int{}}
}

// enter counts a call of whoever, before it is known who that is.
func (c *calls) enter() (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most {
		return nil, tooMany("%d calls are under way, as many as this server takes at a time", c.most).
			WithHint("end streams that nobody reads, or try again; an operator can let more in with berm serve --max-calls")
	}
	c.all++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all--
	}, nil
}

// enterAs counts a call of a known caller.
func (c *calls) enterAs(p core.Principal) (leave func(), err error) {
	who := caller{p.OrgID, p.Actor}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[who] >= c.perToken {
		return nil, tooMany("%d calls of this token are under way, as many as one token may have at a time", c.perToken).
			WithHint("end streams that nobody reads, try again, or use a token for each program; an operator can let more in with berm serve --max-calls-per-token")
	}
	c.of[who]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.of[who]--; c.of[who] == 0 {
			delete(c.of, who)
		}
	}, nil
}

func tooMany(format string, args ...any) *fault.Error {
	f := fault.New(fault.Exhausted, fault.ReasonLimitExceeded, format, args...)
	f.RetryAfter = tryAgain
	return f
}
