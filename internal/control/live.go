package control

import (
	"slices"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// applyState is how far the hand-over of a sandbox to its runner is.
type applyState int

const (
	// applying: the call is under way.
	applying applyState = iota
	// applied: the runner has it, or had it when an earlier process wrote that.
	applied
	// applyUnknown: the call failed in a way that leaves open whether the runner has it.
	applyUnknown
	// recovered: read from the store by a new process; the runner will say whether it has it.
	recovered
)

// liveSandbox is a sandbox that has not ended. Its fields are guarded by liveTable.mu.
type liveSandbox struct {
	// row is the last state written, without decision and request. It is replaced, never changed.
	row *core.Sandbox
	// phase is what was observed last; "" before anything was. unwritten is an observation that changed no written state: its
	// events wait for the next write.
	phase     backend.Phase
	unwritten *backend.Observation
	// left fires when the server that the sandbox was launched through has not written what was observed (servers.go).
	left *time.Timer
	// stopping is set once a stop was accepted by the runner.
	stopping bool
	apply    applyState
	// handed is closed when the first Apply returned, whatever it said.
	handed chan struct{}
	// expire stops the sandbox when its lifetime ends.
	expire *time.Timer
	// warmAt is when the last verdict on the sandbox's pool was, that was counted.
	warmAt time.Time
	// lease is the one that it lives under, "" for none.
	lease string
	// contact is when somebody was last in contact with it through this server, told the latest of it that others were told of.
	contact, told time.Time
	// idle watches for traffic, nil where nothing asks for it.
	idle *idleWatch
	// trace names the span that the launch was, "" for none. It is not written: after a restart the trace has no more.
	trace string
	// changed is closed, and replaced, with every change that a reader could see.
	changed chan struct{}
}

// liveTable holds the sandboxes that have not ended on the runners of this process. It is what makes states that are never
// written, such as CREATING, visible, and what lets waiting work without polling.
type liveTable struct {
	mu   sync.Mutex
	byID map[string]*liveSandbox
	// byLease has the ids of those under each lease.
	byLease map[string]map[string]struct{}
	// coming has, for each time that a sandbox is being read to be entered, the latest revision that the change log told of meanwhile.
	coming map[string][]*int64
	// touched is told of states that memory knows first: not all are written.
	touched func(kind, orgID, id string)
	// open counts what is under way of each sandbox that counts as traffic, also of those that are not entered yet.
	open map[string]int
}

func newLiveTable(touched func(kind, orgID, id string)) *liveTable {
	return &liveTable{touched: touched, byID: map[string]*liveSandbox{}, byLease: map[string]map[string]struct{}{}, coming: map[string][]*int64{}, open: map[string]int{}}
}

// expect says that a sandbox is about to be read and entered. arrived says that this is over, and reports whether it changed since it
// was read at a revision.
func (t *liveTable) expect(id string) (arrived func(revision int64) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	latest := new(int64)
	t.coming[id] = append(t.coming[id], latest)
	return func(revision int64) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.coming[id] = slices.DeleteFunc(t.coming[id], func(o *int64) bool { return o == latest })
		if len(t.coming[id]) == 0 {
			delete(t.coming, id)
		}
		return *latest > revision
	}
}

// behind reports whether what is known of a sandbox is older than a revision. One that is being read is told of it.
func (t *liveTable) behind(id string, revision int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, latest := range t.coming[id] {
		*latest = max(*latest, revision)
	}
	e, ok := t.byID[id]
	return ok && e.row.Revision < revision
}

// add enters a row that was just written or read. One that this process is about to hand over may have been read before it was entered.
func (t *liveTable) add(row *core.Sandbox, state applyState) {
	slim := *row
	slim.Decision, slim.Launch = nil, nil
	e := &liveSandbox{row: &slim, apply: state, lease: leaseOf(row), handed: make(chan struct{}), changed: make(chan struct{})}
	if state != applying {
		close(e.handed)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.byID[row.ID]
	if ok && (state != applying || old.apply != recovered) {
		return
	}
	if t.byID[row.ID] = e; ok {
		old.stopTimers()
		close(old.changed)
	}
	if e.lease != "" {
		if t.byLease[e.lease] == nil {
			t.byLease[e.lease] = map[string]struct{}{}
		}
		t.byLease[e.lease][row.ID] = struct{}{}
	}
}

// belongsTo notes the span that a sandbox was launched in.
func (t *liveTable) belongsTo(id, trace string) {
	if trace != "" {
		t.look(id, func(e *liveSandbox) { e.trace = trace })
	}
}

// update changes an entry, if there is one, and wakes those who wait for it.
func (t *liveTable) update(id string, fn func(*liveSandbox)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.byID[id]
	if !ok {
		return
	}
	before := statusNow(e.row.Status, e)
	fn(e)
	if statusNow(e.row.Status, e) != before {
		t.touched(store.ChangeSandbox, e.row.OrgID, id)
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

// look reads an entry under the lock.
func (t *liveTable) look(id string, fn func(*liveSandbox)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.byID[id]
	if ok {
		fn(e)
	}
	return ok
}

// remove forgets a sandbox that has ended and wakes those who wait.
func (t *liveTable) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.byID[id]
	if !ok {
		return
	}
	e.stopTimers()
	delete(t.byID, id)
	if delete(t.byLease[e.lease], id); len(t.byLease[e.lease]) == 0 {
		delete(t.byLease, e.lease)
	}
	close(e.changed)
}

// on returns the ids on a runner for which ok holds.
func (t *liveTable) on(runnerUUID string, ok func(*liveSandbox) bool) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for id, e := range t.byID {
		if e.row.RunnerUUID == runnerUUID && ok(e) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (t *liveTable) stopTimers() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.byID {
		e.stopTimers()
	}
}

func (e *liveSandbox) stopTimers() {
	if e.expire != nil {
		e.expire.Stop()
	}
	if e.left != nil {
		e.left.Stop()
	}
	if e.idle != nil && e.idle.timer != nil {
		e.idle.timer.Stop()
	}
}

// overlay lays what is known in memory over a row that was read. The row is not changed; what comes back may be the row.
func (s *Service) overlay(row *core.Sandbox) *core.Sandbox {
	if row.Status.Terminal() {
		return row
	}
	out, lease := *row, ""
	s.live.look(row.ID, func(e *liveSandbox) {
		lease = e.lease
		out.Status = statusNow(row.Status, e)
		if e.unwritten != nil { // Who waits for an image sees how far it is.
			out.Timeline = core.AppendEvents(row.Timeline, e.unwritten.Events)
			if e.unwritten.Service != nil {
				out.Service = e.unwritten.Service
			}
		}
	})
	out.Service = s.addressed(row.ID, out.Service)
	if note := s.leases.note(lease); note != "" {
		out.StatusReason = note
	}
	if k, known := s.contacts.get(row.RunnerUUID); !known || !k.connected {
		since := s.born
		if known {
			since = k.since
		}
		out.Observation = core.ObservationUnknown
		out.StatusReason = core.ReasonRunnerLostNote + " since " + since.UTC().Format(time.RFC3339)
	}
	return &out
}

// statusNow is the status that memory makes of a written one.
func statusNow(written core.Status, e *liveSandbox) core.Status {
	switch {
	case e.stopping || e.phase == backend.PhaseStopping:
		return core.StatusTerminating
	case written == core.StatusPending && (e.phase == backend.PhaseCreating || e.phase == backend.PhaseRunning):
		return core.StatusCreating
	case written == core.StatusRunning && e.phase == backend.PhasePaused:
		return core.StatusPaused
	case written == core.StatusPaused && e.phase == backend.PhaseRunning:
		return core.StatusRunning
	}
	return written
}
