package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// Servers that share a database each see their own lines. What one of them does not reach may well run, in contact with another: so
// each writes now and then which runners it is in contact with, and reads that before it calls a sandbox LOST.

// contactsPerBound is how often contact is written in the time after which sandboxes are LOST. A server that died was in contact for
// at most one part in so many longer than it wrote.
const contactsPerBound = 10

// shares reports whether other servers may use the same database. One that has it to itself writes nothing of its contacts.
func (s *Service) shares() bool { return s.place() != "" }

// place returns the place of this server, empty for one that has its database to itself.
func (s *Service) place() string {
	place, _ := s.here.Load().(string)
	return place
}

// tellContacts writes which runners this server is in contact with, and reads what others write of those that it misses, until ctx ends.
func (s *Service) tellContacts(ctx context.Context) {
	for sleep(ctx, s.lostAfter/contactsPerBound) {
		var ids []string
		for _, k := range s.contacts.up(func(*contact) bool { return true }) {
			ids = append(ids, k.runnerUUID)
		}
		s.tellContact(ctx, ids...)
		s.lookAround(ctx)
	}
}

// tellContact writes that runners are in contact now. What cannot be written is written with the next round.
func (s *Service) tellContact(ctx context.Context, ids ...string) {
	if len(ids) == 0 || !s.shares() {
		return
	}
	now := s.now()
	if err := s.store.Update(ctx, func(tx store.Tx) error { return tx.Heard(ctx, ids, now) }); err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "other servers could not be told which runners are in contact", "runners", len(ids), "error", err)
		}
		return
	}
	for _, id := range ids {
		s.contacts.word(id, now, now)
	}
}

// lostIn returns how long a runner that is out of contact here has left before its sandboxes are LOST, counted from heard: when it was seen
// here last that another server is in contact with it, zero where none ever was. A store that cannot be read decides nothing: it is asked again.
func (s *Service) lostIn(ctx context.Context, runnerUUID string) (left time.Duration, heard time.Time) {
	if !s.shares() {
		return 0, heard
	}
	said, err := s.catchUp(ctx, runnerUUID)
	period := s.lostAfter / contactsPerBound
	switch {
	case err != nil:
		s.servers.failed(s.now())
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "it cannot be read whether another server is in contact with a runner", "runner", runnerUUID, "error", err)
		}
		return period, heard
	case said.IsZero():
		return 0, heard
	}
	now := s.now()
	heard = s.contacts.word(runnerUUID, said, now)
	left = max(0, s.lostAfter-now.Sub(heard))
	if left == 0 { // or they could not say so: the store was away for them, too
		left = s.servers.told(now, period)
	}
	return left, heard
}

// catchUp makes memory know what other servers launched and ended on a runner, and returns what any wrote last of its contact with it. It
// comes before anything is missed on the runner.
func (s *Service) catchUp(ctx context.Context, runnerUUID string) (said time.Time, err error) {
	if !s.shares() {
		return said, nil
	}
	// What memory knows now was committed before the store is read: if it is not there, it has ended.
	known := s.live.on(runnerUUID, func(e *liveSandbox) bool { return e.apply != applying })
	var rows []*core.Sandbox
	var all []store.Server
	err = s.store.View(ctx, func(r store.Reader) (err error) {
		if all, err = r.Servers(ctx); err != nil {
			return err
		}
		if said, err = r.HeardAt(ctx, runnerUUID); err == nil {
			rows, err = r.Unfinished(ctx, runnerUUID)
		}
		return err
	})
	if err != nil {
		return said, err
	}
	s.servers.see(all, s.self, s.now()) // whoever has launched one of rows is among them, or gone
	unfinished := map[string]bool{}
	for _, row := range rows {
		unfinished[row.ID] = true
		if !s.live.look(row.ID, func(*liveSandbox) {}) {
			s.enter(row, recovered)
		}
	}
	for _, id := range known {
		if !unfinished[id] {
			s.live.remove(id)
		}
	}
	return said, nil
}
