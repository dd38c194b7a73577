package control

import (
	"context"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// feedSize is how many changes are kept for those who watch: who is further behind reads the change log.
const feedSize = 4096

// feed hands every change on to all who watch. The change log is read once for all of them, and what a change was about is read once,
// by the first who wants it. States of sandboxes that are never written come from memory and stand between the changes.
type feed struct {
	now func() time.Time
	mu  sync.Mutex
	// size is how many changes are kept at least; ring has up to twice as many.
	size int
	ring []*feedEntry
	// next is the index of the entry that comes next, first that of the oldest in the ring.
	next, first int64
	// seq is the last change in the ring, or before it.
	seq      int64
	woken    chan struct{}
	watchers map[string]int
	started  bool
}

// feedEntry is a change, or with live set a state in memory.
type feedEntry struct {
	store.Change
	live bool

	read    sync.Once
	sandbox *core.Sandbox
	object  *store.Object
	err     error
}

func newFeed(now func() time.Time) *feed {
	return &feed{now: now, size: feedSize, woken: make(chan struct{}), watchers: map[string]int{}}
}

// join counts one who watches. The first makes the feed begin; leave must be called.
func (s *Service) joinFeed(ctx context.Context, orgID string) (leave func(), err error) {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers[orgID] >= MaxWatches {
		return nil, fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "%d streams watch this organization at this server, the most there may be", MaxWatches).
			WithHint("close some, or let one stream watch for several readers")
	}
	if !f.started {
		err := s.store.View(ctx, func(r store.Reader) (err error) {
			f.seq, err = r.LastChange(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		f.started = true
		from := f.seq
		s.tasks.run(func(ctx context.Context) { s.fillFeed(ctx, from) })
	}
	f.watchers[orgID]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.watchers[orgID]--; f.watchers[orgID] == 0 {
			delete(f.watchers, orgID)
		}
	}, nil
}

// fillFeed reads the change log until ctx ends.
func (s *Service) fillFeed(ctx context.Context, after int64) {
	for {
		for c, err := range s.store.Changes(ctx, after) {
			if err != nil {
				s.log.WarnContext(ctx, "the change log cannot be read for those who watch, trying again", "error", err, "retry", followRetry)
				break
			}
			s.feed.add(&feedEntry{Change: c})
			after = c.Seq
		}
		if !sleep(ctx, followRetry) {
			return
		}
	}
}

func (f *feed) add(e *feedEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.live {
		f.seq = e.Seq
	}
	if f.ring = append(f.ring, e); len(f.ring) > 2*f.size { // half at a time, so that little is moved
		f.first += int64(len(f.ring) - f.size)
		f.ring = append(make([]*feedEntry, 0, 2*f.size+1), f.ring[len(f.ring)-f.size:]...)
	}
	f.next++
	close(f.woken)
	f.woken = make(chan struct{})
}

// touched says that a sandbox is in another state than before, which is in memory alone. Only an organization that is watched wants to know.
func (f *feed) touched(orgID, id string) {
	f.mu.Lock()
	wanted := f.watchers[orgID] > 0
	f.mu.Unlock()
	if wanted {
		f.add(&feedEntry{Change: store.Change{Kind: store.ChangeSandbox, OrgID: orgID, ID: id, At: f.now()}, live: true})
	}
}

// end returns where the feed is, and the last change before.
func (f *feed) end() (index, seq int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next, f.seq
}

// from returns the entries from an index on, and what is closed when there are more. Not ok: some are not kept any more.
func (f *feed) from(index int64) (entries []*feedEntry, woken <-chan struct{}, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if index < f.first {
		return nil, nil, false
	}
	return f.ring[index-f.first:], f.woken, true
}

// load reads what an entry is about, as it is now: later than the change, but never before it. Both are nil when it is not there any more.
func (s *Service) load(ctx context.Context, e *feedEntry) error {
	e.read.Do(func() {
		if e.Kind == store.ChangeSandbox {
			var row *core.Sandbox
			if row, e.err = s.row(context.WithoutCancel(ctx), e.OrgID, e.ID); e.err == nil {
				slim := *row
				slim.Decision, slim.Launch = nil, nil
				e.sandbox = &slim
			}
		} else {
			e.err = s.store.View(context.WithoutCancel(ctx), func(r store.Reader) (err error) {
				e.object, err = lastObject(ctx, r, e.Change)
				return err
			})
		}
		if fault.Is(e.err, fault.NotFound) {
			e.err = nil
		}
	})
	return e.err
}

// lastObject reads an object, also one that was deleted.
func lastObject(ctx context.Context, r store.Reader, c store.Change) (*store.Object, error) {
	last, _, err := r.Revisions(ctx, store.Kind(c.Kind), c.OrgID, c.ID, store.Page{Size: 1})
	if err != nil || len(last) == 0 {
		return nil, err
	}
	return last[0], nil
}
