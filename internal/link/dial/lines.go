package dial

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/bermhq/berm/internal/link"
)

// lines are the lines of a runner: one to each server that the gateway consists of, as far as it says of which. The first is made by the
// URL that the runner was started with, which may lead to any of them, and so is one whenever there is no other. A server takes one line
// of a process and ends the one before: nobody dials where a line is.
type lines struct {
	mu sync.Mutex
	// known are the addresses of the servers by id, dialed those that are taken care of.
	// At most link.MaxServers are at a time: a gateway that names others again and again has to wait for those before to be let go.
	known  map[string]string
	dialed map[string]bool
	// follow takes care of a server; crowded is called when there are more than that.
	follow  func(id string)
	crowded func(waiting int)
	// all are the lines that are made or served.
	all map[*line]struct{}
	// changed is closed, and replaced, with every change.
	changed chan struct{}
}

// line is one of them. Its fields are guarded by lines.mu.
type line struct {
	// address is where it was dialed, "" for the URL; server which one it is to, "" until that has said so.
	address, server string
	// up: the gateway opened its session. over: it has ended, and what the gateway said before may be heard yet.
	up, over bool
}

func newLines() *lines {
	return &lines{known: map[string]string{}, dialed: map[string]bool{}, all: map[*line]struct{}{}, changed: make(chan struct{})}
}

// change changes something and wakes who waits.
func (l *lines) change(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
	close(l.changed)
	l.changed = make(chan struct{})
}

// until calls ok, with the lock held, now and after every change until it returns true, or ctx ends.
func (l *lines) until(ctx context.Context, ok func() bool) {
	for ctx.Err() == nil {
		l.mu.Lock()
		holds, changed := ok(), l.changed
		l.mu.Unlock()
		if holds {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// none reports whether no line is up. The lock is held.
func (l *lines) none() bool {
	for o := range l.all {
		if o.up {
			return false
		}
	}
	return true
}

// to reports whether there is a line to a server, as far as that can be known. The lock is held.
func (l *lines) to(id string) bool {
	for o := range l.all {
		switch {
		case o.server == id, o.server == "" && o.address != "" && o.address == l.known[id], o.server == "" && o.address == "" && o.up:
			return true
		}
	}
	return false
}

// byURL enters a line that is made by the URL once no other is up, nil when ctx ends first.
func (l *lines) byURL(ctx context.Context) (o *line) {
	l.until(ctx, func() bool {
		if !l.none() {
			return false
		}
		o = &line{}
		l.all[o] = struct{}{}
		return true
	})
	return o
}

// byAddress enters a line to a server once there is no other, nil when the server is no more or ctx ends first: then nobody takes care of
// it any more.
func (l *lines) byAddress(ctx context.Context, id string) (o *line) {
	l.until(ctx, func() bool {
		switch address := l.known[id]; {
		case address == "":
			delete(l.dialed, id)
			l.dial()
			return true
		case l.to(id):
			return false
		default:
			o = &line{address: address}
			l.all[o] = struct{}{}
			return true
		}
	})
	return o
}

// open notes that the gateway opened its session on a line.
func (l *lines) open(o *line) {
	l.change(func() { o.up = !o.over })
}

// end notes that a line is over.
func (l *lines) end(o *line) {
	l.change(func() {
		o.up, o.over = false, true
		delete(l.all, o)
	})
}

// learn takes in which servers there are, and has those followed that nobody takes care of yet.
func (l *lines) learn(o *line, self string, all []link.Server) {
	l.change(func() {
		if o.over {
			return
		}
		o.server = self
		clear(l.known)
		for _, s := range all {
			l.known[s.ID] = s.Address
		}
		l.dial()
	})
}

// dial has known servers followed that nobody takes care of, as many as there is room for. The lock is held.
func (l *lines) dial() {
	waiting := 0
	for _, id := range slices.Sorted(maps.Keys(l.known)) {
		switch {
		case l.dialed[id]:
		case len(l.dialed) >= link.MaxServers:
			waiting++
		default:
			l.dialed[id] = true
			l.follow(id)
		}
	}
	if waiting > 0 {
		l.crowded(waiting)
	}
}
