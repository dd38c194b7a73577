package library

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/core/fault"
)

// flight is one pull that any number of callers wait for. It ends early when none is left.
type flight struct {
	// done is closed when it is over, left when nobody waits for it any more.
	done, left chan struct{}
	cancel     context.CancelFunc
	// waiters is under the library's lock.
	waiters int

	mu       sync.Mutex
	progress Progress

	// These are set before done is closed.
	img        *image.Image
	hold       *Hold
	index      string
	source     string
	downloaded int64
	unpacked   image.Unpacked
	err        error
}

func (f *flight) snapshot() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.progress
}

func (f *flight) update(change func(*Progress)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.progress)
}

// pull waits for the pull of an image, beginning one if there is none.
func (l *Library) pull(ctx context.Context, g *Got, r Request) error {
	from, err := l.sources(g.ref, r.Extra)
	if err != nil {
		return err
	}
	fl, first, err := l.join(g.ref, from)
	if err != nil {
		return err
	}
	defer l.leave(fl)
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-fl.done:
			if r.Report != nil {
				r.Report(fl.snapshot())
			}
			return l.landed(g, fl, first)
		case <-tick.C:
			if r.Report != nil {
				r.Report(fl.snapshot())
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner is being stopped")
		}
	}
}

// landed takes over what a pull brought.
func (l *Library) landed(g *Got, fl *flight, first bool) error {
	if fl.err != nil {
		return fl.err
	}
	img := *fl.img
	img.Ref = g.Ref
	g.Image, g.From, g.Source, g.Index, g.Shared = &img, fl.source, fl.source, fl.index, !first
	g.Downloaded, g.Unpacked = fl.downloaded, fl.unpacked
	g.Hold, _ = l.take(&img) // The flight holds it still, so it is whole.
	return nil
}

// join returns the pull of a reference from its sources.
func (l *Library) join(r reference, from []source) (fl *flight, first bool, err error) {
	key := r.name()
	for _, s := range from {
		key += " " + s.repo.Name()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if fl, ok := l.flights[key]; ok && fl.waiters > 0 {
		fl.waiters++
		return fl, false, nil
	}
	if l.ctx.Err() != nil {
		return nil, false, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner is being stopped")
	}
	ctx, cancel := context.WithTimeout(l.ctx, MaxPullTime)
	fl = &flight{done: make(chan struct{}), left: make(chan struct{}), cancel: cancel, waiters: 1}
	l.flights[key] = fl
	l.writing++
	l.running.Go(func() {
		fl.err = l.fly(ctx, fl, r, from)
		if fl.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			fl.err = fault.New(fault.Unavailable, fault.ReasonImagePullFailed, "image %s: it took longer than %s to pull", r.text, MaxPullTime).WithCause(fl.err)
		}
		l.mu.Lock()
		l.writing--
		if l.flights[key] == fl {
			delete(l.flights, key)
		}
		l.mu.Unlock()
		close(fl.done)
		cancel()
		<-fl.left
		fl.hold.Release()
		l.wakeCollector()
	})
	return fl, true, nil
}

// leave ends a pull that nobody waits for any more, and what it holds of one that is over.
func (l *Library) leave(fl *flight) {
	l.mu.Lock()
	fl.waiters--
	last := fl.waiters == 0
	if last {
		fl.cancel()
		close(fl.left)
	}
	l.mu.Unlock()
	select {
	case <-fl.done:
		if last {
			fl.hold.Release()
		}
	default: // Its own goroutine lets go.
	}
}

// fly tries the sources in their order.
func (l *Library) fly(ctx context.Context, fl *flight, r reference, from []source) error {
	var errs []error
	for _, s := range from {
		fl.update(func(p *Progress) { *p = Progress{Source: s.String()} })
		err := l.pullFrom(ctx, fl, r, s)
		if err == nil {
			fl.source = s.String()
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
		var f *fault.Error
		if !errors.As(err, &f) {
			break // This machine's disk: no other source helps.
		}
		if s.mirror != "" {
			l.log.Warn("a mirror does not give an image", "image", r.text, "mirror", s.mirror, "error", err)
		}
	}
	return every(r, errs)
}

// every is the error of all sources together: the last one's, with what the others said.
func every(r reference, errs []error) error {
	last := errs[len(errs)-1]
	var f *fault.Error
	if !errors.As(last, &f) {
		return diskFault(r, last)
	}
	c := f.Clone()
	if !strings.Contains(c.Message, r.text) {
		c.Message = "image " + r.text + ": " + c.Message
	}
	for _, e := range errs[:len(errs)-1] {
		c.Message += "; before that, " + fault.From(e).Message
	}
	return c.WithMeta("image", r.text)
}
