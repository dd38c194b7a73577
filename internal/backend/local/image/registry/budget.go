package registry

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// budget bounds what is downloaded from one registry: how many layers at a time, and how many bytes a second.
type budget struct {
	slots chan struct{}
	rate  *rate.Limiter
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
	return b
}

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
