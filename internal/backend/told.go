package backend

import (
	"reflect"
	"sync"
)

// Told is an Info that may change while it is read. The zero value says nothing.
type Told struct {
	mu      sync.Mutex
	info    Info
	changed chan struct{}
}

// Info returns what was said last.
func (t *Told) Info() Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.info
}

// InfoChanged returns a channel that is closed when something else is said.
func (t *Told) InfoChanged() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// Tell says something, and reports whether it is news.
func (t *Told) Tell(info Info) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if reflect.DeepEqual(info, t.info) {
		return false
	}
	t.info = info
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
	return true
}
