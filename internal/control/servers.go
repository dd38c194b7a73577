package control

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// Servers that share a database tell each other there that they are there. A sandbox that is PENDING is handed over to its runner by
// the server that it was launched through; the others see the same runner, and leave the sandbox alone until that server is gone.

const (
	// serverBeat is how often a server says that it is there.
	serverBeat = 5 * time.Second
	// serverGone is how long another one says nothing before it is held to be gone. What it asked a runner for has come through by then.
	serverGone = 6 * serverBeat
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
}

func newServers() *servers { return &servers{byID: map[string]sighting{}} }

// see takes in what the store has, and returns the servers that are gone.
func (o *servers) see(all []store.Server, self string, now time.Time) (gone []store.Server) {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen := make(map[string]sighting, len(all))
	for _, s := range all {
		at, known := o.byID[s.ID]
		switch {
		case s.ID == self:
			continue
		case !known || !at.said.HeardAt.Equal(s.HeardAt):
			at.since = now
		case now.Sub(at.since) > serverGone:
			gone = append(gone, s)
		}
		at.said = s
		seen[s.ID] = at
	}
	o.byID = seen
	return gone
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
		for sleep(ctx, serverBeat) {
			if err := s.beat(ctx); err != nil && ctx.Err() == nil {
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
	err := s.store.Update(ctx, func(tx store.Tx) (err error) {
		if err = tx.PutServer(ctx, store.Server{ID: s.self, HeardAt: s.now()}); err != nil {
			return err
		}
		if all, err = tx.Servers(ctx); err != nil {
			return err
		}
		pending, err = tx.Pending(ctx)
		return err
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
	s.orphans(ctx, pending)
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

// handedOverElsewhere reports whether another server, which is there, is about to hand a sandbox over.
func (s *Service) handedOverElsewhere(row *core.Sandbox) bool {
	return row.Status == core.StatusPending && row.ServerID != s.self && s.servers.has(row.ServerID)
}

// orphans decides about sandboxes whose server is gone. A runner that has one of them shows it to every server that it is connected
// to; so one that is not shown from one look to the next was never handed over.
func (s *Service) orphans(ctx context.Context, pending []*core.Sandbox) {
	for _, row := range pending {
		if row.ServerID == s.self || s.servers.has(row.ServerID) {
			continue
		}
		k, known := s.contacts.get(row.RunnerUUID)
		if !known || !k.connected {
			continue // another server's to decide, or the first pass's
		}
		waits := false
		entered := s.live.look(row.ID, func(e *liveSandbox) { waits = e.apply == recovered && e.phase == "" })
		switch {
		case !entered:
			s.enter(row, recovered)
		case waits:
			s.neverTaken(ctx, &k, row.ID)
		}
	}
}

// letGo gives up sandboxes that this server could not hand over to a runner which only others reach: they decide what became of them.
func (s *Service) letGo(ctx context.Context, runnerUUID string) {
	for _, id := range s.live.on(runnerUUID, func(e *liveSandbox) bool { return e.apply == applyUnknown && e.row.ServerID == s.self }) {
		var next core.Sandbox
		s.live.update(id, func(e *liveSandbox) {
			e.apply = recovered // it is not handed over from here any more
			next = *e.row
		})
		next.ServerID = ""
		err := s.store.Update(ctx, func(tx store.Tx) error { return tx.UpdateSandbox(ctx, &next) })
		if err != nil { // Somebody has seen it run, or end.
			s.log.InfoContext(ctx, "a sandbox was not given up", "sandbox", id, "error", err)
			continue
		}
		s.live.update(id, func(e *liveSandbox) { e.row = &next })
	}
}

// neverTaken ends a sandbox that its server did not hand over before it ended. Its main command never ran.
func (s *Service) neverTaken(ctx context.Context, k *contact, id string) {
	s.log.WarnContext(ctx, "a sandbox was not handed over", "sandbox", id, "runner", k.runnerID)
	now := s.now()
	s.submit(&backend.Observation{
		SandboxID: id, Phase: backend.PhaseEnded, At: now, Failed: true, Reason: core.EndStartFailed,
		Message: "the server ended before runner " + k.runnerID + " had taken it over",
		Events:  []core.Event{{Name: "ended", At: now, Message: core.EndStartFailed}},
	})
}
