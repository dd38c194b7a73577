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

// sandbox is one that the cluster has, or had.
type sandbox struct {
	id, namespace, name, uid string
	// packed is what was submitted, as its annotation has it: it is unpacked for those who are told.
	packed string

	mu sync.Mutex
	// changed is closed at every change of what follows.
	changed chan struct{}
	// pod is what was last seen of it, nil before; gone says that it is no more.
	pod  *corev1.Pod
	gone bool
	// journal is what the init wrote, as it was last read.
	journal *podwire.Journal
	// link reaches the init; nil while it cannot be reached.
	link *link
	stop *stopping
	last backend.Observation
	// service is where its exposed ports are reached, nil while nothing is known of that.
	service *core.Service
	// told are the events that were told, toldAt is the time of the last.
	told   []string
	toldAt time.Time
	output *output
	usage  shim.Stats
}

// change changes s and wakes who waits.
func (s *sandbox) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// look returns what is known now, and what is closed when that changes.
func (s *sandbox) look() (pod *corev1.Pod, gone bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pod, s.gone, s.changed
}

func (s *sandbox) ended() bool { return s.last.Phase == backend.PhaseEnded }

// event makes an event, unless it was told before. Times do not go back, whoever's clocks they are of. It is called with mu held.
func (s *sandbox) event(list []core.Event, name string, at time.Time, message string) []core.Event {
	if at.IsZero() || slices.Contains(s.told, name) {
		return list
	}
	if at.Before(s.toldAt) {
		at = s.toldAt
	}
	s.told, s.toldAt = append(s.told, name), at
	return append(list, core.Event{Name: name, At: at, Message: message})
}

// publish makes o the sandbox's last observation. Phases do not go back.
func (b *Backend) publish(s *sandbox, o backend.Observation, events ...core.Event) {
	s.change(func() {
		if s.ended() || phaseOrder(o.Phase) < phaseOrder(s.last.Phase) {
			return
		}
		o.SandboxID, o.Service = s.id, s.service
		if o.StartedAt.IsZero() {
			o.StartedAt = s.last.StartedAt
		}
		for _, e := range events {
			o.Events = s.event(o.Events, e.Name, e.At, e.Message)
		}
		s.last = o
		s.last.Events = nil
		b.hub.Publish(o)
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
		link, last, changed := s.link, s.last, s.changed
		s.mu.Unlock()
		switch {
		case last.Phase == backend.PhaseEnded:
			return nil, notRunning(last)
		case link != nil:
			return link.client, nil
		case last.Phase != backend.PhaseCreating && limit == nil:
			limit = time.After(reconnectWait)
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
