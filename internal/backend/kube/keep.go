package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim/podwire"
	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// firstPause and longestPause are between two attempts to reach an init.
	firstPause, longestPause = 50 * time.Millisecond, 5 * time.Second
	// hopelessQPS is how many inits a second are tried again, of all that have not been reached for long: those of a node that does not
	// answer, say. The API server has better to do, and launches go before.
	hopelessQPS = 20
	// maxConnecting is how many links are made at a time: a runner that starts anew makes those of all that run, and neither it nor the API
	// server has the processors to do so at once. An attempt counts for turnTime at the most: of inits that do not answer, many wait at a
	// time and hold up nobody. More are let go on in a second than hopelessQPS lets come.
	maxConnecting = 64
	turnTime      = 2 * time.Second
	// verdictTimeout is how long the node's word on an end is waited for when the init's leaves open why.
	verdictTimeout = 30 * time.Second
	// maxAutopsies is how often the journal of a pod that has ended is asked for.
	maxAutopsies = 5
)

// keep follows one sandbox from its first sight to its end.
func (b *Backend) keep(s *sandbox) {
	end, err := b.follow(s)
	if b.ctx.Err() != nil {
		return
	}
	if err != nil {
		b.log.Debug("the journal of a sandbox is not known", "sandbox", s.id, "error", err)
	}
	b.finish(s, end)
}

// follow waits for a sandbox to start, keeps in contact while it runs, and returns how it ended if its init told. A start that
// cannot succeed is ended by itself.
func (b *Backend) follow(s *sandbox) (*podwire.End, error) {
	if !b.awaitStart(s) {
		return nil, nil
	}
	pause, autopsies := firstPause, 0
	for b.ctx.Err() == nil {
		pod, gone, changed := s.look()
		over := mainState(pod).Terminated != nil
		if gone {
			return s.journalEnd(), nil
		}
		err := b.read(s)
		switch {
		case err == nil && (s.journal.Failed != nil || over && s.journal.End != nil):
			return s.journal.End, nil //nolint:nilerr // err is nil here
		case over:
			if autopsies++; autopsies >= maxAutopsies {
				return s.journalEnd(), err
			}
		case err == nil:
			var end *podwire.End
			if end, err = b.converse(s); end != nil {
				return end, nil
			}
			pause = firstPause
		}
		if err != nil {
			b.log.Debug("a sandbox cannot be reached", "sandbox", s.id, "error", err)
		}
		b.tryLater(changed, pause)
		pause = min(2*pause, longestPause)
	}
	return nil, b.ctx.Err()
}

// tryLater returns when an init is to be tried again: after a pause, or when something has changed. At the longest pause it waits for one
// more as often as others are tried already.
func (b *Backend) tryLater(changed <-chan struct{}, pause time.Duration) {
	for {
		select {
		case <-changed:
			return
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // no secret
			if pause < longestPause || b.hopeless.TryAccept() {
				return
			}
		case <-b.ctx.Done():
			return
		}
	}
}

func (s *sandbox) journalEnd() *podwire.End {
	if s.journal == nil {
		return nil
	}
	return s.journal.End
}

// awaitStart waits until the main container was started, and is false when the sandbox has ended instead.
func (b *Backend) awaitStart(s *sandbox) bool {
	var since time.Time
	var was, said string
	for {
		pod, gone, changed := s.look()
		state := mainState(pod)
		if state.Running != nil || state.Terminated != nil {
			b.initImageWorked()
			return true
		}
		if gone {
			return false
		}
		var limit <-chan time.Time
		if o := b.cfg.patience().hindrance(pod); o != nil {
			if o.reason != was {
				was, since = o.reason, b.cfg.Now()
			}
			left := o.after - b.cfg.Now().Sub(since)
			if left <= 0 {
				b.giveUp(s, o)
				return false
			}
			if o.message != said {
				said = o.message
				b.publish(s, backend.Observation{Phase: backend.PhaseCreating, At: b.cfg.Now(), Message: said})
			}
			limit = time.After(left)
		} else {
			was = ""
		}
		select {
		case <-changed:
		case <-limit:
		case <-b.ctx.Done():
			return false
		}
	}
}

// giveUp ends a sandbox that does not start, and removes its pod: the node would go on trying.
func (b *Backend) giveUp(s *sandbox, o *obstacle) {
	if o.init && o.reason == core.EndImageFailed {
		b.initImageFailed(o.message)
	}
	end := backend.Observation{Phase: backend.PhaseEnded, At: b.cfg.Now(), Failed: true, Reason: o.reason, Message: o.message}
	s.mu.Lock()
	if s.stop != nil {
		end.Failed, end.Reason, end.Message = false, s.stop.why, ""
	}
	s.mu.Unlock()
	if o.reason == core.EndLifetimeExceeded {
		end.Failed = false
	}
	b.events.note(s, end.Reason, "Berm deletes the pod of a sandbox that does not start: "+o.message)
	if err := b.deletePod(b.ctx, s, 0); err != nil {
		b.log.Warn("the pod of a sandbox that cannot start could not be deleted", "sandbox", s.id, "error", err)
	}
	b.endOutput(s, nil)
	b.publish(s, end, b.endEvents(s, end)...)
}

// read reads the journal, and says that the sandbox runs if it does.
func (b *Backend) read(s *sandbox) error {
	if j := s.journal; j != nil && !j.StartedAt.IsZero() && mainState(s.podNow()).Terminated == nil {
		return nil // Nothing in it that the connection would not tell.
	}
	j, err := b.readJournal(b.ctx, s)
	if err != nil {
		return err
	}
	s.change(func() {
		s.journal = j
		if j.Why != "" && s.stop == nil {
			s.stop = &stopping{j.Why, j.StoppingAt}
		}
	})
	if j.Failed == nil && j.StartedAt.IsZero() {
		return errNoJournal
	}
	if j.Failed == nil {
		b.publish(s, backend.Observation{Phase: backend.PhaseRunning, At: j.StartedAt, StartedAt: j.StartedAt}, core.Event{Name: "started", At: j.StartedAt})
	}
	return nil
}

func (s *sandbox) podNow() *corev1.Pod {
	pod, _, _ := s.look()
	return pod
}

// turn waits until a link may be made. A sandbox that ends meanwhile needs none: not ok.
func (b *Backend) turn(s *sandbox) (giveBack func(), ok bool) {
	for {
		pod, gone, changed := s.look()
		if gone || mainState(pod).Terminated != nil {
			return nil, false
		}
		select {
		case b.connecting <- struct{}{}:
			var once sync.Once
			back := func() { once.Do(func() { <-b.connecting }) }
			timer := time.AfterFunc(turnTime, back)
			return func() { timer.Stop(); back() }, true
		case <-changed:
		case <-b.ctx.Done():
			return nil, false
		}
	}
}

// converse makes a link and takes what the main process prints, until the end, or until the link breaks.
func (b *Backend) converse(s *sandbox) (*podwire.End, error) {
	giveBack, ok := b.turn(s)
	if !ok {
		return nil, b.ctx.Err()
	}
	l, err := b.connect(b.ctx, s, s.journal)
	giveBack()
	if err != nil {
		return nil, err
	}
	s.change(func() { s.link = l })
	defer func() {
		s.change(func() { s.link = nil })
		l.close()
	}()
	return b.takeOutput(s, l)
}

// takeOutput takes output from where it stopped, says that it has it, and returns the end when that comes.
func (b *Backend) takeOutput(s *sandbox, l *link) (*podwire.End, error) {
	out, err := b.outputOf(s)
	if err != nil {
		return nil, err
	}
	stream, err := l.session.OpenStream()
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	stop := context.AfterFunc(b.ctx, l.close)
	defer stop()
	at := out.offset()
	if err := wire.WriteJSON(stream, wire.TypeRequest, wire.Request{Version: wire.Version, Op: wire.OpOutput, Offset: at, Follow: true}); err != nil {
		return nil, err
	}
	frames := wire.NewReader(stream)
	for {
		f, err := frames.Read()
		if err != nil {
			return nil, err
		}
		switch f.Type {
		case wire.TypeOK:
		case wire.TypeOutput:
			o, err := wire.ParseOutput(f.Payload)
			if err != nil {
				return nil, err
			}
			if o.Offset < at {
				return nil, fmt.Errorf("%w: output at %d, want %d", wire.ErrMalformed, o.Offset, at)
			}
			out.add(o)
			n := o.Offset + int64(len(o.Data)) - at
			at += n
			if _, err := stream.Write(wire.AppendUint32(nil, wire.TypeCredit, uint32(n))); err != nil {
				return nil, err
			}
		case wire.TypeExit:
			end := &podwire.End{}
			if err := f.Decode(end); err != nil {
				return nil, err
			}
			return end, nil
		case wire.TypeError:
			e := &wire.Error{}
			return nil, errors.Join(f.Decode(e), e)
		default:
			return nil, fmt.Errorf("%w: type %d in output", wire.ErrMalformed, f.Type)
		}
	}
}

// finish publishes the end of a sandbox. Where the init's word leaves open why, it waits for the node's.
func (b *Backend) finish(s *sandbox, end *podwire.End) {
	s.mu.Lock()
	already := s.ended()
	s.mu.Unlock()
	if already {
		return
	}
	limit := time.After(verdictTimeout)
	for waiting := true; waiting; {
		pod, gone, changed := s.look()
		s.mu.Lock()
		stopped := s.stop != nil
		s.mu.Unlock()
		clear := end != nil && (stopped || pod.DeletionTimestamp == nil && end.Exit != nil && end.Exit.Signal == 0)
		if clear || gone || mainState(pod).Terminated != nil || pod.Status.Phase == corev1.PodFailed {
			break
		}
		select {
		case <-changed:
		case <-limit:
			waiting = false
		case <-b.ctx.Done():
			return
		}
	}
	failpoint.Hit(failEndSeen)
	s.mu.Lock()
	e := evidence{pod: s.pod, gone: s.gone, journal: s.journal, end: end, now: b.cfg.Now()}
	if s.stop != nil {
		e.why = s.stop.why
	}
	started := s.last.StartedAt
	s.mu.Unlock()
	o := ending(e)
	if e.journal == nil && mainState(e.pod).Terminated == nil && started.IsZero() && e.why != "" {
		o.Failed, o.Reason, o.Message = false, e.why, "" // It was stopped before anything ran.
	}
	b.endOutput(s, end)
	b.publish(s, o, b.endEvents(s, o)...)
}

// endEvents are the events up to an end.
func (b *Backend) endEvents(s *sandbox, o backend.Observation) []core.Event {
	events := []core.Event{{Name: "started", At: o.StartedAt}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		events = append(events, core.Event{Name: "stopping", At: s.stop.at, Message: s.stop.why})
	}
	return append(events, core.Event{Name: "ended", At: o.At, Message: o.Reason})
}

// deletePod removes the pod of a sandbox after a grace, and no other of its name.
func (b *Backend) deletePod(ctx context.Context, s *sandbox, grace time.Duration) error {
	seconds := int64((grace + time.Second - 1) / time.Second)
	o := metav1.DeleteOptions{GracePeriodSeconds: &seconds}
	if s.uid != "" {
		o.Preconditions = metav1.NewUIDPreconditions(s.uid)
	}
	err := b.cluster.delete(ctx, s.namespace, "pods", s.name, o)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return b.translate(err, "delete the pod of sandbox "+s.id)
}
