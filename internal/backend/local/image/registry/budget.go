package registry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// budget bounds what is asked of one registry: how many layers at a time, how many bytes a second, how many manifests a minute.
type budget struct {
	slots chan struct{}
	rate  *rate.Limiter
	// pulls bounds manifests: registries that limit pulls count those.
	pulls *rate.Limiter

	mu sync.Mutex
	// rest is until when the registry asked to be left alone, and why what it said.
	rest time.Time
	why  error
}

func newBudget(h Host) *budget {
	n := h.MaxDownloads
	if n == 0 {
		n = DefaultMaxDownloads
	}
	b := &budget{slots: make(chan struct{}, n)}
	if h.BytesPerSecond > 0 {
		// A chunk is paid for after it was read, so the limiter must be able to grant one.
		b.rate = rate.NewLimiter(rate.Limit(h.BytesPerSecond), chunk)
	}
	if h.PullsPerMinute > 0 {
		b.pulls = rate.NewLimiter(rate.Limit(float64(h.PullsPerMinute)/60), h.PullsPerMinute)
	}
	return b
}

// pull waits until one manifest more is within the budget.
func (b *budget) pull(ctx context.Context) error {
	if b.pulls == nil {
		return nil
	}
	err := b.pulls.Wait(ctx)
	if err != nil && ctx.Err() == nil { // The limiter knows that the time of the pull would be over before its turn.
		return &crowdedError{b.pulls.Burst()}
	}
	return err
}

// crowdedError is a manifest that was not asked for, because too many others are to be asked for before it.
type crowdedError struct{ perMinute int }

func (e *crowdedError) Error() string {
	return fmt.Sprintf("more pulls wait for it than its max_pulls_per_minute of %d lets pass in the time of a pull", e.perMinute)
}

// cool notes that a registry asked to be left alone for a while: every pull of it waits, not only the one that was told.
func (b *budget) cool(d time.Duration, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := time.Now().Add(min(d, MaxRest)); d > 0 && until.After(b.rest) {
		b.rest, b.why = until, why
	}
}

// rested waits until the registry may be asked again. When that takes longer than most, it returns what the registry said.
func (b *budget) rested(ctx context.Context, most time.Duration) error {
	b.mu.Lock()
	wait, why := time.Until(b.rest), b.why
	b.mu.Unlock()
	switch {
	case wait <= 0:
		return nil
	case wait > most:
		return &restingError{wait, why}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// restingError is a request that was not made, because the registry asked for a pause.
type restingError struct {
	wait time.Duration
	err  error
}

func (e *restingError) Error() string { return e.err.Error() }
func (e *restingError) Unwrap() error { return e.err }

// enter waits for a turn.
func (b *budget) enter(ctx context.Context) error {
	select {
	case b.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *budget) leave() { <-b.slots }

// pay waits until n bytes more were within the bandwidth.
func (b *budget) pay(ctx context.Context, n int) error {
	if b.rate == nil {
		return nil
	}
	return b.rate.WaitN(ctx, n)
}

// watchdog ends a download that does not get on: fewer than min bytes in each window.
type watchdog struct {
	timer  *time.Timer
	window time.Duration
	min    int64
	// got is what came in this window, which ends at end; left is what was left of it when the clock was stopped.
	got  int64
	end  time.Time
	left time.Duration
}

func newWatchdog(window time.Duration, least int64, end func()) *watchdog {
	return &watchdog{timer: time.AfterFunc(window, end), window: window, min: least, end: time.Now().Add(window)}
}

// feed counts bytes that came. Enough of them begin a new window.
func (w *watchdog) feed(n int64) {
	if w.got += n; w.got >= w.min {
		w.got, w.end = 0, time.Now().Add(w.window)
		w.timer.Reset(w.window)
	}
}

// pause stops the clock while the registry is not the one that is waited for; resume lets it go on.
func (w *watchdog) pause() {
	w.timer.Stop()
	w.left = time.Until(w.end)
}

func (w *watchdog) resume() {
	w.end = time.Now().Add(w.left)
	w.timer.Reset(w.left)
}

func (w *watchdog) stop() { w.timer.Stop() }
