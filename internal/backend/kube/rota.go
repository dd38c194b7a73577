package kube

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// firstPause and longestPause are between two attempts to reach an init.
	firstPause, longestPause = 50 * time.Millisecond, 5 * time.Second
	// hopelessInterval is between two attempts at any of the inits that have not been reached for long: those of a node that does not answer,
	// say. The API server has better to do, and launches go before.
	hopelessInterval = time.Second / 20
	// maxCrowd is how many of a crowd are attended to at a time: a runner that starts anew makes the links of all that run, and neither it nor
	// the API server has the processors to do so at once. Each counts for turnTime at the most: of inits that do not answer, many wait at a time
	// and hold up nobody. More are let go on in a second than hopelessInterval lets come.
	maxCrowd = 64
	turnTime = 2 * time.Second
	// maxTrying is how many are on their way to an init before the crowd waits, however long its turns take: each is a goroutine with a request.
	// What the crowd wants beyond the rate of requests, it would wait for there.
	maxTrying = 1024
)

// rota has sandboxes attended to: each when there is news of it, or when its time has come. A sandbox has a goroutine only while something is
// done for it, which while it runs, and is reached, is always. One that waits is an entry of a list.
type rota struct {
	// attend does what is to be done for a sandbox now. It calls reached once its init is, and others of the crowd may follow.
	attend func(s *sandbox, reached func()) respite

	mu sync.Mutex
	// waiting are those whose time is to come, the next first, and hopeless those of them that have not been reached for long; crowd and ready are
	// next in turn, crowd when there is room.
	waiting, hopeless waiting
	crowd, ready      []*sandbox
	// inside is how many of the crowd are attended to, and count; trying how many at all, that are not reached.
	inside, trying int
	// tried is when the last of the hopeless was let go on.
	tried time.Time
	news  chan struct{}
}

// respite is how long a sandbox is left alone if there is no news of it.
type respite struct {
	// over: for good.
	over bool
	// pause is about how long, or exactly; 0 is for as long as there is no news. From longestPause on it then waits for its turn among the hopeless.
	pause time.Duration
	exact bool
	// crowd: it is one of many the next time.
	crowd bool
}

// turn is where a sandbox is on the rota. It is guarded by the rota's mu.
type turn struct {
	at turnState
	// crowd: it is one of many, and takes its place among them. again: there was news while it was attended to, urgent: such as waits for no crowd.
	crowd, again, urgent bool
	due                  time.Time
	// index is its place in waiting or hopeless, when it is there.
	index int
}

type turnState uint8

const (
	idle turnState = iota
	waits
	despairs
	queued
	attended
	left
)

func newRota(attend func(*sandbox, func()) respite) *rota {
	return &rota{attend: attend, news: make(chan struct{}, 1)}
}

// wake has a sandbox attended to. crowd: it is one of many; urgent: it waits for none of them.
func (r *rota) wake(s *sandbox, crowd, urgent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &s.turn
	t.crowd = t.crowd || crowd
	switch t.at {
	case waits:
		heap.Remove(&r.waiting, t.index)
		r.enqueue(s, urgent)
	case despairs:
		heap.Remove(&r.hopeless, t.index)
		r.enqueue(s, urgent)
	case idle:
		r.enqueue(s, urgent)
	case queued:
		if urgent && t.crowd { // What it leaves in the crowd is passed over.
			r.ready = append(r.ready, s)
		}
	case attended:
		t.again, t.urgent = true, t.urgent || urgent
	case left:
		return
	}
	signal(r.news)
}

// hasten has one of the hopeless attended to, before the others: somebody waits for it. It takes its place among the crowd.
func (r *rota) hasten(s *sandbox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.turn.at == despairs {
		heap.Remove(&r.hopeless, s.turn.index)
		r.enqueue(s, false)
		signal(r.news)
	}
}

// enqueue puts a sandbox where it is next. mu is held.
func (r *rota) enqueue(s *sandbox, urgent bool) {
	s.turn.at = queued
	if s.turn.crowd && !urgent {
		r.crowd = append(r.crowd, s)
		return
	}
	r.ready = append(r.ready, s)
}

// run goes on until ctx ends. Each that is attended to is one of work.
func (r *rota) run(ctx context.Context, work *sync.WaitGroup) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for _, start := range r.next() {
			work.Go(start)
		}
		if due, ok := r.due(); ok {
			timer.Reset(time.Until(due))
		}
		select {
		case <-r.news:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// due returns when the next of those who wait is.
func (r *rota) due() (at time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) > 0 {
		at, ok = r.waiting[0].turn.due, true
	}
	if len(r.hopeless) > 0 {
		if next := r.nextHopeless(); !ok || next.Before(at) {
			at, ok = next, true
		}
	}
	return at, ok
}

// nextHopeless returns when one of the hopeless may go on. What counts is when the last did: those that are called away leave no gap.
func (r *rota) nextHopeless() time.Time {
	due, free := r.hopeless[0].turn.due, r.tried.Add(hopelessInterval)
	if due.After(free) {
		return due
	}
	return free
}

// next takes those off the rota who are to be attended to now.
func (r *rota) next() (starts []func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for now := time.Now(); len(r.waiting) > 0 && !r.waiting[0].turn.due.After(now); {
		r.enqueue(heap.Pop(&r.waiting).(*sandbox), false) //nolint:forcetypeassert // it has nothing else
	}
	if now := time.Now(); len(r.hopeless) > 0 && !r.nextHopeless().After(now) {
		r.tried = now
		r.enqueue(heap.Pop(&r.hopeless).(*sandbox), false) //nolint:forcetypeassert // it has nothing else
	}
	for _, s := range r.ready {
		if s.turn.at == queued {
			s.turn.at = attended
			r.trying++
			starts = append(starts, func() { r.admit(s, func() {}) })
		}
	}
	r.ready = nil
	for len(r.crowd) > 0 && r.inside < maxCrowd && r.trying < maxTrying {
		s := r.crowd[0]
		r.crowd = r.crowd[1:]
		if s.turn.at == queued {
			s.turn.at = attended
			r.inside++
			r.trying++
			starts = append(starts, func() { r.admitOfCrowd(s) })
		}
	}
	return starts
}

// admitOfCrowd attends to one of the crowd.
func (r *rota) admitOfCrowd(s *sandbox) {
	giveBack := sync.OnceFunc(func() {
		r.mu.Lock()
		r.inside--
		r.mu.Unlock()
		signal(r.news)
	})
	timer := time.AfterFunc(turnTime, giveBack)
	r.admit(s, func() { timer.Stop(); giveBack() })
}

// admit attends to a sandbox. then is called when it was reached, or left.
func (r *rota) admit(s *sandbox, then func()) {
	reached := sync.OnceFunc(func() {
		r.mu.Lock()
		r.trying--
		r.mu.Unlock()
		signal(r.news)
		then()
	})
	after := r.attend(s, reached)
	reached()
	r.leave(s, after)
}

// leave puts a sandbox that was attended to back on the rota.
func (r *rota) leave(s *sandbox, after respite) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &s.turn
	t.crowd = after.crowd
	switch {
	case after.over:
		t.at = left
	case t.again:
		r.enqueue(s, t.urgent)
	case after.pause == 0:
		t.at = idle
	default:
		r.postpone(s, after)
	}
	t.again, t.urgent = false, false
	signal(r.news)
}

// postpone has a sandbox wait. mu is held.
func (r *rota) postpone(s *sandbox, after respite) {
	t, now := &s.turn, time.Now()
	t.at, t.due = waits, now.Add(after.pause)
	if !after.exact {
		t.due = now.Add(after.pause/2 + rand.N(after.pause)) //nolint:gosec // no secret
	}
	if !after.exact && after.pause >= longestPause {
		t.at = despairs
		heap.Push(&r.hopeless, s)
		return
	}
	heap.Push(&r.waiting, s)
}

// waiting is a heap of those who wait, by when they are due.
type waiting []*sandbox

func (w *waiting) Len() int           { return len(*w) }
func (w *waiting) Less(i, j int) bool { return (*w)[i].turn.due.Before((*w)[j].turn.due) }
func (w *waiting) Swap(i, j int) {
	a := *w
	a[i], a[j] = a[j], a[i]
	a[i].turn.index, a[j].turn.index = i, j
}

// Push implements heap.Interface.
func (w *waiting) Push(x any) {
	s := x.(*sandbox) //nolint:forcetypeassert // nothing else is pushed
	s.turn.index = len(*w)
	*w = append(*w, s)
}

// Pop implements heap.Interface.
func (w *waiting) Pop() any {
	last := len(*w) - 1
	s := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	return s
}
