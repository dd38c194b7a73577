package local

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/library"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// sandbox is what the server knows of one sandbox. What matters is on disk; this is the view of it.
type sandbox struct {
	id string
	// slot names what it has on the machine: directory, box, bundle, control group, container. It is the id, except for one that
	// was prepared before it had an id.
	slot   string
	work   *backend.Work
	ids    int
	client *shim.Client

	// ready is closed when the sandbox left CREATING, released when nothing of it but its records is left.
	ready, released chan struct{}

	// clean says, once released is closed, that everything was removed.
	clean bool
	// pausing lets one Pause or Resume at a time go on, so that they are told in the order in which they happened.
	pausing sync.Mutex
	// deleting lets one Delete at a time remove it.
	deleting sync.Mutex

	mu sync.Mutex
	// last is the last observation published.
	last backend.Observation
	// told are the events published so far, the last of each name: a handful.
	told []core.Event
	// stop is set once a stop was recorded; grace is how long from then.
	stop  *stopRecord
	grace time.Duration
	// submitted is the configuration that was given to a shim; nil before.
	submitted json.RawMessage
	// secrets are what its environment has from secret stores, NAME=value, until it runs: here and on no disk.
	secrets []string
	// image is what keeps its image; nil for the machine's own /usr.
	image *library.Hold
	// usage is the previous sample of Usage.
	usage shim.Stats
	// cancelStart ends the preparations, as long as there is no shim.
	cancelStart context.CancelFunc
}

func newSandbox(w *backend.Work, ids int) *sandbox {
	return &sandbox{id: w.SandboxID, slot: w.SandboxID, work: w, ids: ids, ready: make(chan struct{}), released: make(chan struct{})}
}

// publish completes an observation and makes it the last one. Phases never go back: a late one is dropped, its events kept.
func (b *Backend) publish(s *sandbox, o backend.Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.SandboxID = s.id
	if o.At.IsZero() {
		o.At = b.cfg.Now()
	}
	if s.id == "" { // A slot is nobody's: nobody is told.
		s.remember(b.toldOf(o).Events)
		return
	}
	if rank(o.Phase) < rank(s.last.Phase) {
		events, started := o.Events, o.StartedAt
		o = s.last
		o.Events, o.StartedAt = events, started
	}
	if o.StartedAt.IsZero() {
		o.StartedAt = s.last.StartedAt
	}
	o.Submitted = s.submitted
	o.Service, _ = backend.Expose(s.work.Spec.GetNetwork(), s.work.Launch) // Create has seen that nothing is refused.
	o = b.toldOf(o)
	s.last = o
	s.remember(o.Events)
	b.hub.Publish(o)
	if o.Phase != backend.PhaseCreating {
		s.leaveCreating(o.Phase)
	}
}

// remember notes events that were told. Whoever pauses and resumes a sandbox all day has the last of each remembered.
func (s *sandbox) remember(events []core.Event) {
	for _, e := range events {
		if i := slices.IndexFunc(s.told, func(t core.Event) bool { return t.Name == e.Name }); i >= 0 {
			s.told[i] = e
		} else {
			s.told = append(s.told, e)
		}
	}
}

// submit notes what a shim is given, which is nothing again when the start begins anew.
func (s *sandbox) submit(config json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.submitted = config
}

// leaveCreating lets those go on who wait for the sandbox. Stopping may come before running: then they wait for the end.
func (s *sandbox) leaveCreating(p backend.Phase) {
	if p == backend.PhaseStopping && s.client == nil {
		return
	}
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
}

func rank(p backend.Phase) int {
	switch p {
	case backend.PhaseCreating:
		return 1
	case backend.PhaseRunning, backend.PhasePaused:
		return 2
	case backend.PhaseStopping:
		return 3
	case backend.PhaseEnded:
		return 4
	default:
		return 0
	}
}

func (s *sandbox) phase() backend.Phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.Phase
}

// stopping returns the stop that was recorded, nil for none.
func (s *sandbox) stopping() *stopRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop
}

// hostname is what the sandbox calls itself.
func (s *sandbox) hostname() string {
	if s.id == "" {
		return neutralName
	}
	return hostname(s.id)
}

// event returns an event of now.
func (b *Backend) event(name, message string) core.Event {
	return core.Event{Name: name, At: b.cfg.Now(), Message: message}
}

// created waits until a sandbox is not being created any more.
func (b *Backend) created(ctx context.Context, s *sandbox, id string) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "sandbox %s was still being created when the request ended", id).WithCause(ctx.Err())
	case <-b.ctx.Done():
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner is being stopped")
	}
}

// await returns the client of a running sandbox, waiting while it is being created.
func (b *Backend) await(ctx context.Context, id string) (*shim.Client, error) {
	s, err := b.get(id)
	if err != nil {
		return nil, err
	}
	if err := b.created(ctx, s, id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last.Phase == backend.PhaseEnded || s.client == nil {
		return nil, notRunning(s.last)
	}
	return s.client, nil
}

// notRunning says that a sandbox has ended, and how.
func notRunning(o backend.Observation) *fault.Error {
	e := fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %s has ended: %s", o.SandboxID, o.Reason)
	if o.Message != "" {
		e.Message += ": " + o.Message
	}
	return e
}
