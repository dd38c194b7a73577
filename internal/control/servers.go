package control

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// Servers that share a database tell each other there that they are there. A sandbox that is PENDING is handed over to its runner by
// the server that it was launched through; the others see the same runner, and leave the sandbox alone until that server is gone.

const (
	// DefaultServerBeat is how often a server says that it is there, unless told otherwise.
	DefaultServerBeat = 5 * time.Second
	// serverGone is how long another one says nothing before it is held to be gone. What it asked a runner for has come through by then.
	serverGone = 6 * DefaultServerBeat
	// storeSlow is how long a caller waits for the store before his going away counts against it.
	storeSlow = time.Second
	// leaveTimeout is how long a server that stops tries to say so.
	leaveTimeout = 5 * time.Second
)

// sighting is what another server said last, and when that was new here: clocks of servers are not compared.
type sighting struct {
	said  store.Server
	since time.Time
}

// servers are those that share the database, without this one.
type servers struct {
	mu   sync.Mutex
	byID map[string]sighting
	// list are all with this one, as runners are told; joins counts how often this one found that it was not among them. changed is
	// closed, and replaced, when either is another.
	list    []store.Server
	joins   int
	changed chan struct{}
	// looked is when the store was read last, away when it could not be used last.
	looked, away time.Time
	// left says that one which was there is no more, and that nobody here has looked yet at what it left.
	left bool
	// ended are runners whose lines here ended, which could not be written.
	ended map[string]bool
}

func newServers() *servers {
	return &servers{byID: map[string]sighting{}, changed: make(chan struct{}), ended: map[string]bool{}}
}

// tell makes list what runners are told.
func (o *servers) tell(list []store.Server, joined bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	same := func(a, b store.Server) bool { return a.ID == b.ID && a.Address == b.Address }
	if !joined && slices.EqualFunc(o.list, list, same) {
		return
	}
	if o.list = list; joined {
		o.joins++
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// before reports whether a server is an earlier process of this one: both have the data directory, which is one process's.
func (s *Service) before(id string) bool {
	return s.shares() && id != s.self && strings.HasPrefix(id, s.place()+"-")
}

// Self is the name of this server among those that share its database.
func (s *Service) Self() string { return s.self }

// Servers returns those that share the database, none where it is this one's alone, and what is closed when that is to be asked again.
// joins is another number when the others held this one to be gone, and forgot its lines.
func (s *Service) Servers() (joins int, all []store.Server, changed <-chan struct{}) {
	s.servers.mu.Lock()
	defer s.servers.mu.Unlock()
	return s.servers.joins, s.servers.list, s.servers.changed
}

// leaveServers has runners not look for this server any more. What it was about to hand over is decided once it is gone for long enough.
func (s *Service) leaveServers() {
	if _, all, _ := s.Servers(); len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	err := s.store.Update(ctx, func(tx store.Tx) error { return tx.PutServer(ctx, store.Server{ID: s.self, HeardAt: s.now()}) })
	if err != nil {
		s.log.WarnContext(ctx, "other servers could not be told that this one stops", "error", err)
	}
}

// see takes in what the store has, and returns the servers that are gone.
func (o *servers) see(all []store.Server, self string, now time.Time) (gone []store.Server) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// Who could not look did not see that others were there; and they could not write it, if the store was away.
	blind := now.Sub(o.looked) > 2*DefaultServerBeat
	o.looked = now
	seen := make(map[string]sighting, len(all))
	for _, s := range all {
		at, known := o.byID[s.ID]
		switch {
		case s.ID == self:
			continue
		case !known || blind || !at.said.HeardAt.Equal(s.HeardAt):
			at.since = now
		case now.Sub(at.since) > serverGone:
			gone = append(gone, s)
		}
		at.said = s
		seen[s.ID] = at
	}
	for id := range o.byID {
		if _, there := seen[id]; !there {
			o.left = true
		}
	}
	o.byID = seen
	return gone
}

// leavers reports whether a server is no more since this was asked last.
func (o *servers) leavers() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	left := o.left
	o.left = false
	return left
}

// again has leavers report true once more.
func (o *servers) again() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = true
}

// failed notes that the store could not be used.
func (o *servers) failed(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away = now
}

// unheard notes that the store kept a caller from being heard, who may have come to renew a lease. One who went away before it had time to
// answer says nothing of it.
func (s *Service) unheard(ctx context.Context, since time.Time) {
	if now := s.now(); ctx.Err() == nil || now.Sub(since) >= storeSlow {
		s.servers.failed(now)
	}
}

// awayAt returns when the store could not be used last.
func (o *servers) awayAt() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.away
}

// told returns how long it takes from now until others have written what they could not while the store was away, at one word each period.
func (o *servers) told(now time.Time, period time.Duration) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away.IsZero() {
		return 0
	}
	return max(0, 2*period-now.Sub(o.away))
}

// has reports whether another server is there, as far as this one has seen.
func (o *servers) has(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.byID[id]
	return ok
}

// joinServers says for the first time that this server is there, before it does anything that the others must leave alone. What it
// remembers from then on is kept in step with the store once follow is called.
func (s *Service) joinServers(ctx context.Context) (follow func(), err error) {
	if !s.shares() {
		return func() {}, nil
	}
	s.self = s.place() + "-" + uuid.NewString()
	if err := s.beat(ctx); err != nil {
		return nil, err
	}
	var last int64
	err = s.store.View(ctx, func(r store.Reader) (err error) {
		last, err = r.LastChange(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	// What Bootstrap has read may be older.
	s.configs.invalidateAll()
	s.tokens.clear()
	s.tasks.run(func(ctx context.Context) {
		for sleep(ctx, s.serverBeat) {
			err := s.beat(ctx)
			if err == nil {
				err = s.dropEnded(ctx)
			}
			if err == nil {
				err = s.leasesElsewhere(ctx)
			}
			if err != nil && ctx.Err() == nil {
				s.servers.failed(s.now())
				s.log.WarnContext(ctx, "other servers could not be told that this one is there", "error", err)
			}
		}
	})
	return func() { s.tasks.run(func(ctx context.Context) { s.followChanges(ctx, last) }) }, nil
}

// owner is the server that hands over what is launched here: this one, if anybody else has to know.
func (s *Service) owner() string {
	if !s.shares() {
		return ""
	}
	return s.self
}

// beat says that this server is there, and looks at the others and at what those that are gone left behind.
func (s *Service) beat(ctx context.Context) error {
	var all []store.Server
	var pending []*core.Sandbox
	me, joined := store.Server{ID: s.self, Address: s.advertise, HeardAt: s.now()}, false
	err := s.store.Update(ctx, func(tx store.Tx) (err error) {
		// Before the servers: whoever launched one of these had come by then.
		if pending, err = tx.Pending(ctx); err != nil {
			return err
		}
		if all, err = tx.Servers(ctx); err != nil {
			return err
		}
		if joined = !slices.ContainsFunc(all, func(o store.Server) bool { return o.ID == s.self }); joined {
			all = append(all, me)
		}
		for i := range all {
			if err := s.replace(ctx, tx, &all[i], joined); err != nil {
				return err
			}
		}
		return tx.PutServer(ctx, me)
	})
	if err != nil {
		return err
	}
	for _, gone := range s.servers.see(all, s.self, s.now()) {
		if err := s.buryServer(ctx, gone); err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(o store.Server) bool { return o.ID == gone.ID })
	}
	s.servers.see(all, s.self, s.now())
	s.servers.tell(all, joined)
	s.orphans(ctx, pending)
	if !s.servers.leavers() {
		return nil
	}
	if err = s.takeUp(ctx); err != nil {
		s.servers.again()
	}
	return err
}

// replace takes from another server what cannot be its any more: the lines of an earlier process in the same data directory have ended
// with it, and who had the address that is this one's now is there no more.
func (s *Service) replace(ctx context.Context, tx store.Tx, o *store.Server, joined bool) error {
	if s.before(o.ID) {
		if err := tx.DropLines(ctx, o.ID); err != nil {
			return err
		}
	}
	if joined && o.ID != s.self && o.Address != "" && o.Address == s.advertise {
		o.Address = ""
		return tx.PutServer(ctx, *o)
	}
	return nil
}

// buryServer removes a server that is gone. Any server may, and one does.
func (s *Service) buryServer(ctx context.Context, gone store.Server) error {
	removed := false
	err := s.store.Update(ctx, func(tx store.Tx) (err error) {
		removed, err = tx.RemoveServer(ctx, gone)
		return err
	})
	if removed && err == nil {
		s.log.WarnContext(ctx, "another server is gone", "server", gone.ID, "silent_for", serverGone)
	}
	return err
}
