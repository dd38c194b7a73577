package resolver

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// cache keeps what was found. It says nothing of who may know it: that is decided on every lookup.
type cache struct {
	ask     func(context.Context, question) (*found, error)
	now     func() time.Time
	entries *lru.Cache[question, entry]
	flights singleflight.Group
}

type entry struct {
	found *found
	err   error
	until time.Time
}

func newCache(ask func(context.Context, question) (*found, error), now func() time.Time) *cache {
	entries, err := lru.New[question, entry](MaxCached)
	if err != nil {
		panic(err) // of a size that is not positive: it is a constant
	}
	return &cache{ask: ask, now: now, entries: entries}
}

// get returns what is found for a question, and how long that holds from now. Those who ask for the same at once share one answer.
// ctx is that of the resolver, not of one who asks.
func (c *cache) get(ctx context.Context, q question) (*found, time.Duration, error) {
	if e, ok := c.entries.Get(q); ok {
		if left := e.until.Sub(c.now()); left > 0 {
			return e.found, left, e.err
		}
	}
	v, _, _ := c.flights.Do(fmt.Sprint(q.typ, " ", q.name), func() (any, error) {
		e := entry{}
		e.found, e.err = c.ask(ctx, q)
		ttl := FailureTTL
		if e.err == nil {
			ttl = e.found.ttl
		}
		e.until = c.now().Add(ttl)
		if ttl > 0 && (e.err != nil || e.found.bytes() <= MaxCachedBytes) {
			c.entries.Add(q, e)
		}
		return e, nil
	})
	e := v.(entry) //nolint:forcetypeassert // made above
	return e.found, max(0, e.until.Sub(c.now())), e.err
}
