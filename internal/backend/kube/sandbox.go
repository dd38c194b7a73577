package kube

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/podwire"
)

// reconnectWait is how long a request waits for a sandbox that runs and cannot be reached.
const reconnectWait = 15 * time.Second

// stopping is why a sandbox was asked to end, and when first.
type stopping struct {
	why string
	at  time.Time
}

// sandbox is one that the cluster has, or had. There are tens of thousands: what most have no use of is behind a pointer.
type sandbox struct {
	id, namespace, name, uid string

	// turn is where it is on the rota. What follows belongs to who attends to it: whether its main container was started, how often in a row its
	// init was not reached, how often the journal of its ended pod was asked for, and why it does not start.
	turn                turn
	started             bool
	failures, autopsies uint8
	hindered            *hindered

	mu sync.Mutex
	// changed, when not nil, is closed at the next change of what follows.
	changed chan struct{}
	// submitted is what was submitted of it.
	submitted likeness
	// state is what was last seen of its pod, "" before; see sighting. gone says that it is no more, listed that the cluster told of it by itself,
	// routed that it has an HTTPRoute; settled that what its ports are reached by is either there, or was deleted.
	state                         string
	gone, listed, routed, settled bool
	// journal is what the init wrote, as it was last read.
	journal *podwire.Journal
	// link reaches the init; nil while it cannot be reached.
	link *link
	stop *stopping
	// last is what was observed last, nil before. It is the hub's, and not changed.
	last *backend.Observation
	// service is where its exposed ports are reached, nil while nothing is known of that.
	service *core.Service
	wording *wording
	// told has a bit for each of eventNames that was told, toldAt is the time of the last.
	told   uint8
	toldAt time.Time
	output *output
	usage  *shim.Stats
}

// change changes s and wakes who waits.
func (s *sandbox) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// look returns what was last seen of the pod, and whether it is gone.
func (s *sandbox) look() (pod *corev1.Pod, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pod(), s.gone
}

// podNow returns what was last seen of the pod.
func (s *sandbox) podNow() *corev1.Pod {
	pod, _ := s.look()
	return pod
}

// pod returns the pod, nil before it was seen. It is called with mu held.
func (s *sandbox) pod() *corev1.Pod {
	if s.state == "" {
		return nil
	}
	return unpackPod(s.namespace, s.name, s.state)
}

// nextChange returns what is closed at the next change. It is called with mu held.
func (s *sandbox) nextChange() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// observed returns what was observed last, without the events that it came with. It is called with mu held.
func (s *sandbox) observed() backend.Observation {
	if s.last == nil {
		return backend.Observation{}
	}
	o := *s.last
	o.Events = nil
	return o
}

func (s *sandbox) ended() bool { return s.last != nil && s.last.Phase == backend.PhaseEnded }

// eventNames are the events of a sandbox.
var eventNames = []string{"created", "started", "stopping", "ended"}

// event makes an event, unless it was told before. Times do not go back, whoever's clocks they are of. It is called with mu held.
func (s *sandbox) event(list []core.Event, name string, at time.Time, message string) []core.Event {
	told := uint8(1) << slices.Index(eventNames, name)
	if at.IsZero() || s.told&told != 0 {
		return list
	}
	if at.Before(s.toldAt) {
		at = s.toldAt
	}
	s.told, s.toldAt = s.told|told, at
	return append(list, core.Event{Name: name, At: at, Message: message})
}

// publish makes o the sandbox's last observation. Phases do not go back.
func (b *Backend) publish(s *sandbox, o backend.Observation, events ...core.Event) {
	s.change(func() {
		last := s.observed()
		if s.ended() || phaseOrder(o.Phase) < phaseOrder(last.Phase) {
			return
		}
		o.SandboxID, o.Service = s.id, s.service
		if o.StartedAt.IsZero() {
			o.StartedAt = last.StartedAt
		}
		for _, e := range events {
			o.Events = s.event(o.Events, e.Name, e.At, e.Message)
		}
		s.last = b.hub.Publish(o)
	})
}

func phaseOrder(p backend.Phase) int {
	switch p {
	case backend.PhaseCreating:
		return 1
	case backend.PhaseRunning, backend.PhasePaused:
		return 2
	case backend.PhaseStopping:
		return 3
	case backend.PhaseEnded:
		return 4
	}
	return 0
}

// get returns a sandbox that is known.
func (b *Backend) get(id string) (*sandbox, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, ok := b.sandboxes[id]; ok {
		return s, nil
	}
	if !b.isReady() {
		return nil, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s does not know yet what is on its cluster", b.cfg.RunnerName).WithRetry(retryAfter)
	}
	return nil, unknown(id)
}

func unknown(id string) *fault.Error {
	return fault.NotFoundf(fault.ReasonSandboxNotFound, "sandbox %s is not known here", id).WithMeta("sandbox_id", id)
}

func notRunning(o backend.Observation) *fault.Error {
	return fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %s has ended: %s", o.SandboxID, o.Reason).
		WithMeta("sandbox_id", o.SandboxID).WithMeta("status", string(o.Phase))
}

// await returns a client for a sandbox, for which it waits while it is being created.
func (b *Backend) await(ctx context.Context, id string) (*shim.Client, error) {
	s, err := b.get(id)
	if err != nil {
		return nil, err
	}
	var limit <-chan time.Time
	for {
		s.mu.Lock()
		link, last, changed := s.link, s.observed(), s.nextChange()
		s.mu.Unlock()
		switch {
		case last.Phase == backend.PhaseEnded:
			return nil, notRunning(last)
		case link != nil:
			return link.client, nil
		case last.Phase != backend.PhaseCreating && limit == nil:
			limit = time.After(reconnectWait)
			b.rota.hasten(s)
		}
		select {
		case <-changed:
		case <-limit:
			return nil, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "sandbox %s runs, and its cluster cannot reach it now", id).WithRetry(retryAfter)
		case <-ctx.Done():
			return nil, fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "sandbox %s was not reached before the request ended", id).WithCause(ctx.Err())
		case <-b.ctx.Done():
			return nil, errClosing()
		}
	}
}

func errClosing() *fault.Error {
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner is being stopped")
}
