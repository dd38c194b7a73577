package kube

import (
	"context"
	"errors"
	"fmt"
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
	// verdictTimeout is how long the node's word on an end is waited for when the init's leaves open why.
	verdictTimeout = 30 * time.Second
	// maxAutopsies is how often the journal of a pod that has ended is asked for.
	maxAutopsies = 5
)

// attend does for a sandbox what is to be done now, from its first sight to its end. While it runs and is reached, that lasts.
func (b *Backend) attend(s *sandbox, reached func()) respite {
	if !s.started {
		started, after := b.awaitStart(s)
		if !started {
			return after
		}
		s.started = true
	}
	over, end, err := b.follow(s, reached)
	if b.ctx.Err() != nil {
		return respite{over: true}
	}
	if err != nil {
		b.log.Debug("a sandbox cannot be reached", "sandbox", s.id, "error", err)
	}
	if over {
		b.finish(s, end)
		return respite{over: true}
	}
	pause := min(firstPause<<s.failures, longestPause)
	if pause < longestPause {
		s.failures++
	}
	// Unless its init has just not begun to write, it is one of many whose node, or API server, does not answer.
	return respite{pause: pause, crowd: pause == longestPause || !errors.Is(err, errNoJournal)}
}

// follow makes contact with a sandbox that has started, and keeps it while it can. It returns whether it is over, and then how it ended if its
// init told.
func (b *Backend) follow(s *sandbox, reached func()) (over bool, end *podwire.End, err error) {
	pod, gone := s.look()
	if gone {
		return true, s.journalEnd(), nil
	}
	ended := mainState(pod).Terminated != nil
	if ended && s.autopsies == 0 {
		s.failures = 0 // There is news of it.
	}
	err = b.read(s)
	switch {
	case err == nil && (s.journal.Failed != nil || ended && s.journal.End != nil):
		return true, s.journal.End, err
	case ended:
		s.autopsies++
		return s.autopsies >= maxAutopsies, s.journalEnd(), err
	case err != nil:
		return false, nil, err
	}
	end, err = b.converse(s, reached)
	return end != nil, end, err
}

func (s *sandbox) journalEnd() *podwire.End {
	if s.journal == nil {
		return nil
	}
	return s.journal.End
}

// awaitStart finds out whether the main container was started. Where it was not, it says when to look again: at the latest when that has taken
// too long, for which it ends the sandbox.
func (b *Backend) awaitStart(s *sandbox) (started bool, after respite) {
	pod, gone := s.look()
	if state := mainState(pod); state.Running != nil || state.Terminated != nil {
		b.initImageWorked()
		s.hindered = nil
		return true, respite{}
	}
	if gone {
		b.finish(s, nil)
		return false, respite{over: true}
	}
	o := b.cfg.patience().hindrance(pod)
	if o == nil {
		s.hindered = nil
		return false, respite{}
	}
	if s.hindered == nil || o.reason != s.hindered.reason {
		s.hindered = &hindered{reason: o.reason, since: b.cfg.Now()}
	}
	left := o.after - b.cfg.Now().Sub(s.hindered.since)
	if left <= 0 {
		b.giveUp(s, o)
		return false, respite{over: true}
	}
	if o.message != s.hindered.said {
		s.hindered.said = o.message
		b.publish(s, backend.Observation{Phase: backend.PhaseCreating, At: b.cfg.Now(), Message: o.message})
	}
	return false, respite{pause: left, exact: true}
}

// hindered is why a sandbox does not start, since when, and what was said of it.
type hindered struct {
	reason, said string
	since        time.Time
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

// converse makes a link and takes what the main process prints, until the end, or until the link breaks.
func (b *Backend) converse(s *sandbox, reached func()) (*podwire.End, error) {
	l, err := b.connect(b.ctx, s, s.journal)
	reached()
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
		case wire.TypeOK: // Only now it is clear that the init answers.
			s.failures = 0
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
		s.mu.Lock()
		pod, gone, stopped, changed := s.pod(), s.gone, s.stop != nil, s.nextChange()
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
	e := evidence{pod: s.pod(), gone: s.gone, journal: s.journal, end: end, now: b.cfg.Now()}
	if s.stop != nil {
		e.why = s.stop.why
	}
	started := s.observed().StartedAt
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
