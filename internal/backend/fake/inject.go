package fake

import (
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// injections are the failures that wait to happen.
type injections struct {
	create      []error
	start       []ending
	hold        bool
	ignoreTerm  bool
	unreachable bool
	holdPools   bool
}

type ending struct {
	reason, message string
}

func (i *injections) takeCreate() error {
	if len(i.create) == 0 {
		return nil
	}
	err := i.create[0]
	i.create = i.create[1:]
	return err
}

func (i *injections) takeStart() (ending, bool) {
	if len(i.start) == 0 {
		return ending{}, false
	}
	e := i.start[0]
	i.start = i.start[1:]
	return e, true
}

// FailNextCreate makes the next Create return err and create nothing.
func (b *Backend) FailNextCreate(err error) {
	b.locked(func() { b.inject.create = append(b.inject.create, err) })
}

// FailNextStart makes the next sandbox fail to start with this reason (core.EndStartFailed, core.EndImageFailed).
func (b *Backend) FailNextStart(reason, message string) {
	b.locked(func() { b.inject.start = append(b.inject.start, ending{reason, message}) })
}

// Hold keeps new sandboxes CREATING; Release starts those held and ends the holding.
func (b *Backend) Hold() { b.locked(func() { b.inject.hold = true }) }

// Release starts every sandbox that Hold kept.
func (b *Backend) Release() {
	b.locked(func() {
		b.inject.hold = false
		for _, s := range b.sandboxes {
			if s.held {
				s.held = false
				b.start(s)
			}
		}
	})
}

// IgnoreTerm makes main processes ignore the polite part of a stop, so that every stop waits out its grace.
func (b *Backend) IgnoreTerm(on bool) { b.locked(func() { b.inject.ignoreTerm = on }) }

// Unreachable makes every call fail with Unavailable and ends the observers, as a lost connection does.
func (b *Backend) Unreachable(on bool) {
	b.locked(func() {
		b.inject.unreachable = on
		switch {
		case on:
			b.observers.Close()
		case !b.closed:
			b.observers.Open()
		}
	})
}

// Exit ends a running sandbox as if its main process had returned code. It reports whether there was one.
func (b *Backend) Exit(id string, code int32) bool {
	return b.endIf(id, backend.Observation{Phase: backend.PhaseEnded, ExitCode: &code, Reason: core.EndExited})
}

// OutOfMemory ends a sandbox as the kernel does.
func (b *Backend) OutOfMemory(id string) bool {
	return b.endIf(id, backend.Observation{Phase: backend.PhaseEnded, Failed: true, Reason: core.EndOutOfMemory, Message: "memory limit exceeded"})
}

// Fail ends a sandbox with any reason and no exit code.
func (b *Backend) Fail(id, reason, message string) bool {
	return b.endIf(id, backend.Observation{Phase: backend.PhaseEnded, Failed: true, Reason: reason, Message: message})
}

// SetTraffic sets how many bytes went over the network of a sandbox.
func (b *Backend) SetTraffic(id string, bytes int64) {
	b.locked(func() {
		if s, ok := b.sandboxes[id]; ok {
			s.traffic = bytes
		}
	})
}

// Lose makes a sandbox vanish without an observation, as the loss of a machine's state does.
func (b *Backend) Lose(id string) {
	b.locked(func() {
		if s, ok := b.sandboxes[id]; ok {
			b.halt(s)
			delete(b.sandboxes, id)
			b.observers.Forget(id)
		}
	})
}

// SetInfo changes what the backend says of itself from now on.
func (b *Backend) SetInfo(i backend.Info) { b.told.Tell(infoFrom(i)) }

// Creates counts the sandboxes that were really made.
func (b *Backend) Creates() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.creates
}

// Sandboxes returns the ids that the backend knows, in no order.
func (b *Backend) Sandboxes() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]string, 0, len(b.sandboxes))
	for id := range b.sandboxes {
		ids = append(ids, id)
	}
	return ids
}

// Work returns what a sandbox was created from, nil when it is not known.
func (b *Backend) Work(id string) *backend.Work {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, ok := b.sandboxes[id]; ok {
		return s.work
	}
	return nil
}

func (b *Backend) endIf(id string, o backend.Observation) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.sandboxes[id]
	if !ok || s.last.Phase == backend.PhaseEnded {
		return false
	}
	b.end(s, o)
	return true
}

func (b *Backend) reachable() error {
	if b.inject.unreachable {
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the fake backend is told to be unreachable")
	}
	return nil
}
