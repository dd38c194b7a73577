package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/tracing"
)

// Limits of waiting for room in a runner group that a profile has before the one that a launch would go to now.
const (
	// MaxRoomWait is how long one launch waits in all groups together.
	MaxRoomWait = time.Minute
	// MaxRoomWaiting is how many launches wait at a time, and MaxRoomWaitingOrg how many of one organization; one more goes on to the
	// next group at once. Each has its call alone, and nothing of the store.
	MaxRoomWaiting    = 256
	MaxRoomWaitingOrg = MaxRoomWaiting / 2
	// roomLook is how often what is reserved on a full runner is asked of the store while anybody waits: what ends under another gateway
	// is announced nowhere here.
	roomLook = 500 * time.Millisecond
	// roomPrecision is how exactly waits are told.
	roomPrecision = 10 * time.Millisecond
)

// eventWaited is the event of a launch that waited for room.
const eventWaited = "waited"

// roomWaits counts the launches that wait.
type roomWaits struct {
	stopping chan struct{}
	stop     sync.Once

	mu      sync.Mutex
	waiting int
	byOrg   map[string]int
	// asked is when a runner was last asked for in the store, by UUID; it has no more than there are runners, and is emptied when
	// nobody waits.
	asked map[string]time.Time
}

func newRoomWaits() *roomWaits {
	return &roomWaits{stopping: make(chan struct{}), byOrg: map[string]int{}, asked: map[string]time.Time{}}
}

// StopWaiting ends all waits for room: those launches fail, as they would if they came now to a server that stops.
func (s *Service) StopWaiting() { s.room.stop.Do(func() { close(s.room.stopping) }) }

func (w *roomWaits) enter(orgID string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting >= MaxRoomWaiting || w.byOrg[orgID] >= MaxRoomWaitingOrg {
		return false
	}
	w.waiting++
	w.byOrg[orgID]++
	return true
}

func (w *roomWaits) leave(orgID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byOrg[orgID]--; w.byOrg[orgID] == 0 {
		delete(w.byOrg, orgID)
	}
	if w.waiting--; w.waiting == 0 {
		clear(w.asked)
	}
}

// due reports whether it is time to ask the store about a runner, for one of all that wait.
func (w *roomWaits) due(runnerUUID string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.asked[runnerUUID]) < roomLook {
		return false
	}
	w.asked[runnerUUID] = now
	return true
}

// roomWait is what one launch has waited for room.
type roomWait struct {
	service *Service
	orgID   string
	entered bool
	waits   []plan.Wait
	// until is when each of waits ended, total how long all took.
	until []time.Time
	total time.Duration
	// most is how long it may wait in all; 0 until it first waits.
	most time.Duration
}

// end gives the place among those that wait to another one.
func (w *roomWait) end() {
	if w.entered {
		w.service.room.leave(w.orgID)
		w.entered = false
	}
}

// plan is Service.plan, again and again for as long as the launch may wait for room in a group before the one it would go to.
func (w *roomWait) plan(ctx context.Context, p core.Principal, l *specpb.Launch, fresh bool) (*plan.Plan, error) {
	defer w.end()
	for {
		freed := w.service.used.room() // before the plan: what ends after it is not missed
		pl, err := w.service.plan(ctx, p, l, fresh, plan.Options{Waits: w.waits})
		if err != nil || pl.Hold == nil {
			return pl, err
		}
		if err := w.wait(ctx, pl.Hold, freed); err != nil {
			return nil, err
		}
		fresh = false
	}
}

// traced is plan in a span.
func (w *roomWait) traced(ctx context.Context, p core.Principal, l *specpb.Launch, fresh bool) (pl *plan.Plan, err error) {
	ctx, span := tracing.Start(ctx, "launch.plan")
	defer func() { span.End(err) }()
	return w.plan(ctx, p, l, fresh)
}

// wait waits for room a while, or notes why it does not.
func (w *roomWait) wait(ctx context.Context, h *plan.Hold, freed <-chan struct{}) error {
	i := w.at(h.Group)
	at := &w.waits[i]
	if w.most == 0 {
		w.most = MaxRoomWait
		if deadline, ok := ctx.Deadline(); ok {
			w.most = min(w.most, time.Until(deadline)/2) // Whoever has no more time is better off in the next group than with an error.
		}
	}
	left := min(h.For-at.For, w.most-w.total)
	if left <= 0 {
		at.Over = "no room came within " + at.For.Round(roomPrecision).String()
		return nil
	}
	if !w.entered && !w.service.room.enter(w.orgID) {
		at.Over = "too many launches were waiting for room already"
		return nil
	}
	w.entered = true
	began := time.Now()
	err := w.pause(ctx, min(left, roomLook), freed)
	waited := time.Since(began)
	at.For += waited
	w.total += waited
	w.until[i] = w.service.now()
	now := time.Now()
	for _, r := range h.Runners {
		if w.service.room.due(r, now) {
			w.service.used.reread(r)
		}
	}
	return err
}

func (w *roomWait) pause(ctx context.Context, d time.Duration, freed <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-freed:
	case <-w.service.room.stopping:
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the server is shutting down; the launch waited for room, and nothing was started").WithRetry(replanRetry)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "the call's time was over while the launch waited for room; nothing was started").WithCause(ctx.Err())
		}
		return fault.New(fault.Canceled, "CANCELED", "the caller went away while the launch waited for room; nothing was started").WithCause(ctx.Err())
	}
	return nil
}

// at returns which of waits is that for a group.
func (w *roomWait) at(group string) int {
	i := slices.IndexFunc(w.waits, func(o plan.Wait) bool { return o.Group == group })
	if i < 0 {
		i = len(w.waits)
		w.waits, w.until = append(w.waits, plan.Wait{Group: group}), append(w.until, w.service.now())
	}
	return i
}

// count counts the wait of a launch that was admitted.
func (w *roomWait) count() {
	if w.total > 0 {
		w.service.meter.Took(PhaseWait, w.total)
	}
}

// events tells of the waits in the timeline of the sandbox.
func (w *roomWait) events() []core.Event {
	out := make([]core.Event, len(w.waits))
	for i, o := range w.waits {
		out[i] = core.Event{Name: eventWaited, At: w.until[i], Message: o.For.Round(roomPrecision).String() + " for room in runner group " + o.Group}
		if o.Over != "" {
			out[i].Message += ": " + o.Over
		}
	}
	return out
}
