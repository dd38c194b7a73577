package control

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const (
	// feedSize is how many changes are kept for those who watch: who is further behind reads the change log.
	feedSize = 4096
	// feedPiece is how many of them a stream takes at a time, so that one that is not read holds on to few.
	feedPiece = 64
	// feedLoad bounds how long it is read what a change was about.
	feedLoad = 10 * time.Second
	// feedCatchUps is how many streams read the log themselves at a time.
	feedCatchUps = 8
	// changeContact is the kind of an entry that says that a runner is in contact, or out of contact.
	changeContact = "contact"
)

// feed hands every change on to all who watch. The change log is read once for all of them, and what a change was about is read once,
// by the first who wants it. What is never written comes from memory and stands between the changes.
type feed struct {
	now func() time.Time
	// starting is held by whoever begins to read the log. mu is never held while anything is read.
	starting chan struct{}
	// catching is held by streams that read the log themselves.
	catching chan struct{}
	mu       sync.Mutex
	// size is how many changes are kept at least; ring has up to twice as many. It is empty while nobody watches.
	size int
	ring []*feedEntry
	// next is the index of the entry that comes next, first that of the oldest in the ring.
	next, first int64
	// seq is the last change in the ring, or before it.
	seq      int64
	woken    chan struct{}
	watchers map[string]int
	started  bool
	// failures counts how often the log could not be read; failed is why, the last time.
	failures int
	failed   error
}

// feedEntry is a change, or with live set a state in memory.
type feedEntry struct {
	store.Change
	live bool

	// loading is held by who reads what the entry is about.
	loading chan struct{}
	loaded  bool
	sandbox *core.Sandbox
	object  *store.Object
}

func newEntry(c store.Change, live bool) *feedEntry {
	return &feedEntry{Change: c, live: live, loading: make(chan struct{}, 1)}
}

func newFeed(now func() time.Time) *feed {
	return &feed{now: now, starting: make(chan struct{}, 1), catching: make(chan struct{}, feedCatchUps), size: feedSize, woken: make(chan struct{}), watchers: map[string]int{}}
}

// joinFeed counts one who watches. The first makes the feed begin; leave must be called.
func (s *Service) joinFeed(ctx context.Context, orgID string) (leave func(), err error) {
	f := s.feed
	if !f.count(orgID) {
		return nil, fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "%d streams watch this organization at this server, the most there may be", MaxWatches).
			WithHint("close some, or let one stream watch for several readers")
	}
	if err := s.startFeed(ctx); err != nil {
		f.leave(orgID)
		return nil, err
	}
	return func() { f.leave(orgID) }, nil
}

func (f *feed) count(orgID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers[orgID] >= MaxWatches {
		return false
	}
	f.watchers[orgID]++
	return true
}

func (f *feed) leave(orgID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers[orgID]--; f.watchers[orgID] == 0 {
		delete(f.watchers, orgID)
	}
	if len(f.watchers) == 0 {
		f.ring, f.first = nil, f.next
	}
}

// startFeed begins to read the log, once.
func (s *Service) startFeed(ctx context.Context) error {
	f := s.feed
	select {
	case f.starting <- struct{}{}:
		defer func() { <-f.starting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.begun() {
		return nil
	}
	from, err := s.logEnd(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq, f.started = from, true
	s.tasks.run(func(ctx context.Context) { s.fillFeed(ctx, from) })
	return nil
}

func (f *feed) begun() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.started
}

func (s *Service) logEnd(ctx context.Context) (seq int64, err error) {
	err = s.store.View(ctx, func(r store.Reader) (err error) {
		seq, err = r.LastChange(ctx)
		return err
	})
	return seq, err
}

// fillFeed reads the change log until ctx ends. What fails ends the streams, which their readers go on with: nobody is told that he has
// seen everything while that is not known.
func (s *Service) fillFeed(ctx context.Context, after int64) {
	for {
		for c, err := range s.store.Changes(ctx, after) {
			if err != nil {
				s.log.WarnContext(ctx, "the change log cannot be read for those who watch, trying again", "error", err, "retry", followRetry)
				s.feed.fail(err)
				if fault.Is(err, fault.OutOfRange) { // The database is an earlier one by now.
					if last, err := s.logEnd(ctx); err == nil {
						after = last
					}
				}
				break
			}
			s.feed.add(newEntry(c, false))
			after = c.Seq
		}
		if !sleep(ctx, followRetry) {
			return
		}
	}
}

func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures++
	f.failed = err
	f.wake()
}

func (f *feed) add(e *feedEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.live {
		f.seq = e.Seq
	}
	if f.next++; len(f.watchers) == 0 {
		f.first = f.next
		return
	}
	if f.ring = append(f.ring, e); len(f.ring) > 2*f.size { // half at a time, so that little is moved
		f.first += int64(len(f.ring) - f.size)
		f.ring = append(make([]*feedEntry, 0, 2*f.size+1), f.ring[len(f.ring)-f.size:]...)
	}
	f.wake()
}

func (f *feed) wake() {
	close(f.woken)
	f.woken = make(chan struct{})
}

// touched says that what memory has of a sandbox, or of the contact with a runner, is another than before. Only an organization that is
// watched wants to know.
func (f *feed) touched(kind, orgID, id string) {
	f.mu.Lock()
	wanted := f.watchers[orgID] > 0
	f.mu.Unlock()
	if wanted {
		f.add(newEntry(store.Change{Kind: kind, OrgID: orgID, ID: id, At: f.now()}, true))
	}
}

// place is where a stream is in the feed.
type place struct {
	index    int64
	failures int
}

// end returns where the feed is, and the last change before.
func (f *feed) end() (at place, seq int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return place{f.next, f.failures}, f.seq
}

// from returns the next entries, and what is closed when there are more. Not ok: some are not kept any more.
func (f *feed) from(at place) (entries []*feedEntry, woken <-chan struct{}, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case at.failures != f.failures:
		return nil, nil, false, f.failed
	case at.index < f.first:
		return nil, nil, false, nil
	}
	entries = f.ring[at.index-f.first:]
	return slices.Clone(entries[:min(len(entries), feedPiece)]), f.woken, true, nil
}

// load reads what an entry is about, as it is now: later than the change, but never before it. Both are nil when it is not there any more.
func (s *Service) load(ctx context.Context, e *feedEntry) error {
	select {
	case e.loading <- struct{}{}:
		defer func() { <-e.loading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if e.loaded {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, feedLoad)
	defer cancel()
	var err error
	if e.Kind == store.ChangeSandbox {
		var row *core.Sandbox
		if row, err = s.row(ctx, e.OrgID, e.ID); err == nil {
			slim := *row
			slim.Decision, slim.Launch = nil, nil
			e.sandbox = &slim
		}
	} else {
		err = s.store.View(ctx, func(r store.Reader) (err error) {
			e.object, err = lastObject(ctx, r, e.Change)
			return err
		})
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	e.loaded = true
	return nil
}

// lastObject reads an object, also one that was deleted, without its body, which nobody is sent.
func lastObject(ctx context.Context, r store.Reader, c store.Change) (*store.Object, error) {
	last, _, err := r.Revisions(ctx, store.Kind(c.Kind), c.OrgID, c.ID, store.Page{Size: 1})
	if err != nil || len(last) == 0 {
		return nil, err
	}
	last[0].Body = nil
	return last[0], nil
}
