package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// What a server launches it hands over to the runner itself, and writes what it observes of it. The others see the same runner: here is what
// they do meanwhile, and when that server is gone.

// another reports whether another server, which is there, is the one that a sandbox was launched through.
func (s *Service) another(row *core.Sandbox) bool {
	return row.ServerID != s.self && !s.before(row.ServerID) && s.servers.has(row.ServerID)
}

// handedOverElsewhere reports whether another server, which is there, is about to hand a sandbox over.
func (s *Service) handedOverElsewhere(row *core.Sandbox) bool {
	return row.Status == core.StatusPending && s.another(row)
}

// ownerFirst is how long the server that a sandbox was launched through has for writing what it observes of it.
const ownerFirst = 2 * time.Second

// observedHere writes what was observed of a sandbox. All servers that its runner is connected to observe the same: the one that it was
// launched through writes it, and the others do when that has not.
func (s *Service) observedHere(o *backend.Observation) {
	left := false
	s.live.update(o.SandboxID, func(e *liveSandbox) {
		if left = s.another(e.row); !left {
			return
		}
		e.unwritten = backend.Merge(e.unwritten, o)
		if e.left == nil {
			e.left = time.AfterFunc(ownerFirst, func() { s.tasks.run(func(context.Context) { s.notWritten(o.SandboxID) }) })
		}
	})
	if !left {
		s.submit(o)
	}
}

// notWritten writes what another server has not.
func (s *Service) notWritten(id string) {
	var o *backend.Observation
	s.live.look(id, func(e *liveSandbox) {
		e.left = nil
		o, e.unwritten = e.unwritten, nil
	})
	if o != nil {
		s.submit(o)
	}
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
			s.reread(ctx, row.OrgID, row.ID) // it may have ended since
		case waits:
			s.neverTaken(ctx, &k, row.ID)
		}
	}
}

// letGo gives up sandboxes that this server could not hand over to a runner which only others reach: they decide what became of them.
func (s *Service) letGo(ctx context.Context, runnerUUID string) {
	for _, id := range s.live.on(runnerUUID, func(e *liveSandbox) bool {
		return e.apply == applyUnknown && e.row.ServerID == s.self || e.apply == recovered && s.before(e.row.ServerID)
	}) {
		var next core.Sandbox
		s.live.update(id, func(e *liveSandbox) {
			e.apply = recovered // it is not handed over from here any more
			next = *e.row
		})
		next.ServerID = ""
		err := s.store.Update(ctx, func(tx store.Tx) error { return tx.UpdateSandbox(ctx, &next) })
		if fault.Is(err, fault.Unavailable) || ctx.Err() != nil { // to be given up when the store is back
			s.live.update(id, func(e *liveSandbox) {
				if e.apply == recovered && e.row.ServerID == s.self {
					e.apply = applyUnknown
				}
			})
		}
		if err != nil { // or somebody has seen it run, or end
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
