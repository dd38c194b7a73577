package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/store"
)

// word is what any server wrote last of its contact with a runner, and when that was new here: clocks of servers are not compared.
type word struct{ said, since time.Time }

// word takes in what the store has of a runner, and returns since when nothing newer was said, by the clock of this server.
func (c *contacts) word(runnerUUID string, said, now time.Time) (since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.byRunner[runnerUUID]
	if !ok {
		return now
	}
	if !k.word.said.Equal(said) {
		k.word = word{said, now}
	}
	return k.word.since
}

// missed returns the runners that are waited for.
func (c *contacts) missed() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for id, k := range c.byRunner {
		if k.lost != nil {
			out = append(out, id)
		}
	}
	return out
}

// lookAround reads what other servers say of the runners that are waited for here, so that it is known when that changed.
func (s *Service) lookAround(ctx context.Context) {
	ids := s.contacts.missed()
	if len(ids) == 0 || !s.shares() {
		return
	}
	said := make(map[string]time.Time, len(ids))
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		for _, id := range ids {
			if said[id], err = r.HeardAt(ctx, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.servers.failed(s.now())
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "it cannot be read whether other servers are in contact with runners", "runners", len(ids), "error", err)
		}
		return
	}
	for id, at := range said {
		s.contacts.word(id, at, s.now())
	}
}
