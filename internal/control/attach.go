package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// maxAdopting is how many sandboxes that memory does not know are looked up at a time for one runner.
const maxAdopting = 16

// A line that broke is opened again, at first after the shorter of these.
const (
	minReconnect = 50 * time.Millisecond
	maxReconnect = 5 * time.Second
)

// Attach gives a runner its process. It returns after the first pass of observations: from then on the runner is a
// candidate, and what it lost is known. The line is opened again whenever it breaks, until Detach or Close.
func (s *Service) Attach(ctx context.Context, runnerUUID string, link runner.Link) error {
	r, err := s.findRunner(ctx, runnerUUID)
	if err != nil {
		return err
	}
	failpoint.Hit(fpCapacity)
	capacity := link.Info().Capacity
	if err := s.store.Update(ctx, func(tx store.Tx) error { return tx.SetCapacity(ctx, r.ID, capacity) }); err != nil {
		return err
	}
	detached, detach := context.WithCancel(context.WithoutCancel(ctx))
	s.used.forget(r.ID) // the store has just counted anew
	a := &attachment{link: link, cancel: detach}
	k, err := s.contacts.attach(r, a, capacity, s.now())
	if err != nil {
		detach()
		return err
	}
	first, over := make(chan struct{}), make(chan struct{})
	started := s.tasks.run(func(ctx context.Context) {
		defer close(over)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(detached, cancel)()
		s.observe(ctx, k, a, first)
	})
	if !started {
		s.Detach(runnerUUID)
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the server is shutting down")
	}
	s.tasks.run(func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(detached, cancel)()
		s.followInfo(ctx, k, a, capacity)
	})
	select {
	case <-first:
		return nil
	case <-detached.Done(): // It was deleted, say, before it had said anything.
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s was detached before it said what it runs", r.RunnerID)
	case <-over:
		return s.attachedAtLast(first)
	case <-ctx.Done():
		s.Detach(runnerUUID)
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s did not say what it runs in time", r.RunnerID).WithCause(ctx.Err())
	}
}

// attachedAtLast is the outcome of an attachment whose observing is over: the server is being stopped.
func (s *Service) attachedAtLast(first <-chan struct{}) error {
	select {
	case <-first:
		return nil
	default:
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the server is shutting down")
	}
}

// Detach ends the line to a runner. Its sandboxes go on and are out of contact.
func (s *Service) Detach(runnerUUID string) {
	s.contacts.detach(runnerUUID)
	s.lineDown(runnerUUID, nil)
}

// findRunner looks in all organizations: a process knows its runner by UUID.
func (s *Service) findRunner(ctx context.Context, runnerUUID string) (*core.Runner, error) {
	var found *core.Runner
	err := s.store.View(ctx, func(r store.Reader) error {
		orgs, err := r.Orgs(ctx)
		if err != nil {
			return err
		}
		for _, org := range orgs {
			o, err := r.Object(ctx, store.KindRunner, org.ID, runnerUUID)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			found, err = runnerFrom(o)
			return err
		}
		return fault.NotFoundf(fault.ReasonRunnerNotFound, "runner %.80q does not exist", runnerUUID)
	})
	return found, err
}

// attach enters a link. A runner has one process.
func (c *contacts) attach(r *core.Runner, a *attachment, capacity core.Amounts, now time.Time) (*contact, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.byRunner[r.ID]
	if ok && k.attached != nil {
		return nil, fault.New(fault.Exists, fault.ReasonRunnerExists, "runner %s has a process already", r.RunnerID)
	}
	if !ok {
		k = newContact(r, now)
		c.byRunner[r.ID] = k
	}
	k.link, k.attached, k.capacity = a.link, a, capacity
	return k, nil
}

func (c *contacts) detach(runnerUUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.byRunner[runnerUUID]; ok && k.attached != nil {
		k.attached.cancel()
		k.attached = nil
	}
}

// observe follows a runner until ctx ends.
func (s *Service) observe(ctx context.Context, k *contact, a *attachment, first chan struct{}) {
	retry := minReconnect
	for {
		if _, err := s.catchUp(ctx, k.runnerUUID); err != nil {
			s.log.WarnContext(ctx, "it cannot be read what a runner should have", "runner", k.runnerID, "error", err, "retry", retry)
			if !sleep(ctx, retry) {
				return
			}
			retry = min(2*retry, maxReconnect)
			continue
		}
		// Only what the runner had before this pass began can be missing from it.
		expected := s.live.on(k.runnerUUID, func(e *liveSandbox) bool {
			// What another server hands over just now may arrive after the runner has told what it has, and be RUNNING when the pass ends.
			elsewhere := e.apply == recovered && !k.embedded && s.handedOverElsewhere(e.row)
			return e.apply != applying && !elsewhere
		})
		seen := map[string]bool{}
		passed := false
		for o := range a.link.Observe(ctx) {
			if o == nil {
				passed, retry = true, minReconnect
				s.firstPass(ctx, k, a, expected, seen)
				if first != nil {
					close(first)
					first = nil
				}
				continue
			}
			if !passed {
				seen[o.SandboxID] = true
			}
			s.observed(ctx, k, a.link, o)
		}
		if ctx.Err() != nil {
			return
		}
		if !s.lineDown(k.runnerUUID, a) {
			return
		}
		s.log.WarnContext(ctx, "the line to a runner is down", "runner", k.runnerID, "retry", retry)
		if !sleep(ctx, retry) {
			return
		}
		retry = min(2*retry, maxReconnect)
	}
}

// whose says whose sandbox an observation is of.
type whose int

const (
	unknown whose = iota
	ours
	anothers
)

// note enters an observation into memory. What a runner says of a sandbox that is another's counts for nothing.
func (s *Service) note(k *contact, o *backend.Observation) whose {
	out := unknown
	s.live.update(o.SandboxID, func(e *liveSandbox) {
		if e.row.RunnerUUID != k.runnerUUID {
			out = anothers
			return
		}
		out = ours
		e.phase = o.Phase
		s.countWarm(e, o)
		if e.apply != applying {
			e.apply = applied
		}
	})
	return out
}

// observed takes in one observation.
func (s *Service) observed(ctx context.Context, k *contact, link runner.Link, o *backend.Observation) {
	switch s.note(k, o) {
	case anothers:
		s.log.WarnContext(ctx, "a runner spoke of a sandbox that is another's", "runner", k.runnerID, "sandbox", o.SandboxID)
	case ours:
		s.observedHere(o)
	case unknown:
		// A runner that names many that nobody knows waits here, and nobody else does.
		select {
		case k.adopting <- struct{}{}:
		case <-ctx.Done():
			return
		}
		started := s.tasks.run(func(ctx context.Context) {
			defer func() { <-k.adopting }()
			s.adopt(ctx, k, link, o)
		})
		if !started {
			<-k.adopting
		}
	}
}

// firstPass follows the end of the first pass: the line is up, and what should have been seen but was not is gone.
func (s *Service) firstPass(ctx context.Context, k *contact, a *attachment, expected []string, seen map[string]bool) {
	for _, id := range expected {
		if !seen[id] {
			s.missing(ctx, k, id)
		}
	}
	failpoint.Hit(fpFirstPassObserved)
	s.lineUp(ctx, k, a)
}

// missing decides about a sandbox that its runner does not have. A main command is started at most once: what may have run
// is not started again, and nobody was given the id of what never ran.
func (s *Service) missing(ctx context.Context, k *contact, id string) {
	o := &backend.Observation{SandboxID: id, Phase: backend.PhaseEnded, At: s.now(), Failed: true, Reason: core.EndLost}
	gone := true
	known := s.live.look(id, func(e *liveSandbox) {
		o.Message = "runner " + k.runnerID + " does not have it any more"
		switch {
		case e.apply == applying, e.apply == applyUnknown && !e.stopping:
			// This process asks for it just now; or asked and was not answered, and the runner has not got it: lineUp asks again.
			gone = false
		case e.apply == recovered && !k.embedded && s.handedOverElsewhere(e.row):
			gone = false // and if that server goes first, orphans decides.
		case e.apply == recovered && e.row.Status == core.StatusPending:
			o.Reason = core.EndStartFailed
			o.Message = "the server ended before runner " + k.runnerID + " had taken it over"
		}
	})
	if !known || !gone {
		return
	}
	s.log.WarnContext(ctx, "a sandbox is gone", "sandbox", id, "runner", k.runnerID, "reason", o.Reason)
	o.Events = []core.Event{{Name: "ended", At: o.At, Message: o.Reason}}
	s.submit(o)
}
