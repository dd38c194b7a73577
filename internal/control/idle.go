package control

import (
	"context"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// idleLooks is how often in an idle time a runner is asked for traffic that does not pass through here: an end for want of
// traffic is late by at most one part in so many.
const idleLooks = 4

// minIdleLook bounds how often that is.
const minIdleLook = time.Second

// idleWatch is what is known of the traffic of a sandbox that may not be idle for ever. It is guarded by liveTable.mu.
type idleWatch struct {
	// after is the longest time without traffic, last when there was some.
	after time.Duration
	last  time.Time
	// passed is what the runner counted when it was asked last.
	passed int64
	timer  *time.Timer
}

// idleText is how a sandbox remembers for how long it may be idle, "" for ever.
func idleText(seconds int32) string {
	if seconds <= 0 {
		return ""
	}
	return strconv.Itoa(int(seconds))
}

// idleAfter returns how long a sandbox may be idle, 0 for ever.
func idleAfter(row *core.Sandbox) time.Duration {
	seconds, err := strconv.ParseInt(rememberedAttrs(row)[attrIdle], 10, 32)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// watchIdle begins to watch the traffic of a sandbox, if something bounds how long it may have none.
func (s *Service) watchIdle(row *core.Sandbox) {
	after := idleAfter(row)
	if after == 0 {
		return
	}
	s.live.look(row.ID, func(e *liveSandbox) {
		if e.idle == nil {
			e.idle = &idleWatch{after: after, last: s.now()}
			s.lookIdleIn(row.ID, e.idle, after)
		}
	})
}

// lookIdleIn looks at the traffic after d, or sooner for what does not pass through here. The table is locked.
func (s *Service) lookIdleIn(id string, w *idleWatch, d time.Duration) {
	d = max(min(d, max(w.after/idleLooks, minIdleLook)), minExpiry)
	w.timer = time.AfterFunc(d, func() { s.tasks.run(func(ctx context.Context) { s.lookIdle(ctx, id) }) })
}

// busy says that something of a sandbox is under way that counts as traffic, until the function that it returns is called. The sandbox may
// be one that this server has not entered yet: another one launched it just now.
func (s *Service) busy(id string) (over func()) {
	s.live.mu.Lock()
	s.live.open[id]++
	s.live.mu.Unlock()
	now := s.now()
	tell := false
	s.live.look(id, func(e *liveSandbox) {
		every := tellContactEvery
		if w := e.idle; w != nil {
			every = min(every, w.after/idleLooks)
		}
		e.contact = now
		tell = now.Sub(e.told) >= every
	})
	if tell {
		s.tasks.run(func(ctx context.Context) { s.tellTraffic(ctx, id, now) })
	}
	return sync.OnceFunc(func() {
		s.live.mu.Lock()
		defer s.live.mu.Unlock()
		if s.live.open[id]--; s.live.open[id] == 0 {
			delete(s.live.open, id)
		}
		if e := s.live.byID[id]; e != nil {
			e.contact = s.now()
			if e.idle != nil {
				e.idle.last = e.contact
			}
		}
	})
}

// lookIdle stops a sandbox that had no traffic for too long, and else looks again later.
func (s *Service) lookIdle(ctx context.Context, id string) {
	passed, asked := s.passed(ctx, id)
	elsewhere, err := s.trafficElsewhere(ctx, id)
	var row *core.Sandbox
	s.live.look(id, func(e *liveSandbox) {
		w, now := e.idle, s.now()
		if elsewhere.After(w.last) {
			w.last = elsewhere
		}
		switch status := statusNow(e.row.Status, e); {
		case status == core.StatusTerminating || status.Terminal():
			return
		case status != core.StatusRunning, s.live.open[id] > 0, asked && passed != w.passed, err != nil:
			// It is not there yet, or paused, and neither is its fault; or there is traffic, or it cannot be known that there is none.
			w.last = now
		}
		if asked {
			w.passed = passed
		}
		if left := w.after - now.Sub(w.last); left > 0 {
			s.lookIdleIn(id, w, left)
			return
		}
		row = e.row
	})
	if row == nil {
		return
	}
	err = s.stop(ctx, row.OrgID, id, LifetimeGrace, core.EndIdle)
	if err == nil || ctx.Err() != nil || fault.Is(err, fault.NotFound) {
		return
	}
	s.log.WarnContext(ctx, "a sandbox without traffic could not be stopped, trying again", "sandbox", id, "error", err)
	s.live.look(id, func(e *liveSandbox) { s.lookIdleIn(id, e.idle, expiryRetry) })
}

// tellTraffic tells other servers of traffic here. What cannot be told now is told with the next.
func (s *Service) tellTraffic(ctx context.Context, id string, at time.Time) {
	if !s.shares() {
		return
	}
	err := s.store.Update(ctx, func(tx store.Tx) error { return tx.Busy(ctx, id, at) })
	if err != nil {
		s.log.WarnContext(ctx, "other servers could not be told of the traffic of a sandbox", "sandbox", id, "error", err)
		return
	}
	s.live.look(id, func(e *liveSandbox) { e.told = at })
}

// trafficElsewhere tells of traffic here and returns until when there was some at any server: what one of them has not told yet is
// counted in.
func (s *Service) trafficElsewhere(ctx context.Context, id string) (until time.Time, err error) {
	if !s.shares() {
		return until, nil
	}
	var w *idleWatch
	var here, told time.Time
	s.live.look(id, func(e *liveSandbox) {
		if w = e.idle; w == nil {
			return
		}
		if s.live.open[id] > 0 {
			e.contact = s.now()
		}
		here, told = e.contact, e.told
	})
	if w == nil {
		return until, nil
	}
	if here.After(told) {
		s.tellTraffic(ctx, id, here)
	}
	err = s.store.View(ctx, func(r store.Reader) (err error) {
		told, err := r.BusyAt(ctx, id)
		until = told[id]
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the traffic of a sandbox at other servers cannot be read", "sandbox", id, "error", err)
	}
	if !until.IsZero() {
		until = until.Add(w.after / idleLooks)
	}
	return until, err
}

// passed asks the runner of a sandbox for the traffic that it counts.
func (s *Service) passed(ctx context.Context, id string) (bytes int64, ok bool) {
	var row *core.Sandbox
	s.live.look(id, func(e *liveSandbox) {
		if statusNow(e.row.Status, e) == core.StatusRunning && s.live.open[id] == 0 {
			row = e.row
		}
	})
	if row == nil {
		return 0, false
	}
	link, _ := s.contacts.linkOf(row.RunnerUUID)
	if link == nil {
		return 0, false
	}
	u, err := link.Usage(ctx, id)
	return u.OutputBytes + u.NetworkBytes, err == nil
}

// busyProcess is a command that counts as traffic until it is over.
type busyProcess struct {
	backend.Process
	over func()
	stop func() bool
}

// Recv returns the next frame.
func (p *busyProcess) Recv() (backend.Frame, error) {
	f, err := p.Process.Recv()
	if err != nil || f.Kind == backend.FrameExit {
		p.stop()
		p.over()
	}
	return f, err
}

// Close kills the command if it still runs.
func (p *busyProcess) Close() error {
	p.stop()
	p.over()
	return p.Process.Close()
}

// busyReader is a file that counts as traffic until it is closed.
type busyReader struct {
	io.ReadCloser
	over func()
}

// Close ends the reading.
func (r *busyReader) Close() error {
	r.over()
	return r.ReadCloser.Close()
}

// busyLogs is output that counts as traffic while somebody reads it.
type busyLogs struct {
	backend.LogReader
	over func()
	stop func() bool
}

// Close ends the reading.
func (r *busyLogs) Close() error {
	r.stop()
	r.over()
	return r.LogReader.Close()
}
