package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"
)

const (
	// envTime is how long it goes on in place of brief, as a Go duration.
	envTime = "BERM_SOAK"
	brief   = 20 * time.Second
	// callers use sandboxes at the same time.
	callers = 6
	// killEach is how often a process is killed, at random within it; down is how long it stays away, at most.
	killEach = 20 * time.Second
	down     = 3 * time.Second
)

// TestSoak measures how much the programs sustain, then asks half of it of them while they are killed.
func TestSoak(t *testing.T) {
	length := brief
	if text := os.Getenv(envTime); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length <= 0 {
			t.Fatalf("%s=%q is no duration", envTime, text)
		}
	}
	w := newWorld(t)
	var whole tally
	spell := min(length/10, 30*time.Second)
	w.use(spell, 0, &whole)
	if w.Failed() {
		return
	}
	rounds := whole.rounds.Load()
	pace := 2 * spell * callers / time.Duration(max(rounds, 1))
	t.Logf("sustained: %.1f rounds a second of %d callers; half of it is a round of each every %s", float64(rounds)/spell.Seconds(), callers, pace.Round(time.Millisecond))

	stop := w.killing(min(killEach, length/4), &whole)
	w.use(length, pace, &whole)
	stop()
	w.nothingLeft()
	t.Log(&whole)
	if whole.kills.Load() == 0 || whole.resumed.Load() == 0 {
		t.Errorf("%d kills, %d streams taken up again: nothing was tried", whole.kills.Load(), whole.resumed.Load())
	}
}

// use has callers do rounds for a while, each not more often than every pace.
func (w *world) use(length, pace time.Duration, all *tally) {
	var group sync.WaitGroup
	end := time.Now().Add(length)
	for i := range callers {
		group.Go(func() {
			for n := 0; time.Now().Before(end) && !w.Failed(); n++ {
				began := time.Now()
				r := &round{world: w, tally: all, kind: (i + n) % len(kinds), name: fmt.Sprintf("soak-%d-%d-%d", all.rounds.Load(), i, n)}
				// A round is begun, and ended, whatever becomes of the time.
				if err := r.run(context.WithoutCancel(w.Context())); err != nil {
					w.Errorf("%s, %s: %v", r.name, kinds[r.kind].name, err)
					return
				}
				all.rounds.Add(1)
				time.Sleep(pace - time.Since(began))
			}
		})
	}
	group.Wait()
}

// killing kills the server or the runner once in each span, until it is told to stop; both are there then.
func (w *world) killing(span time.Duration, all *tally) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			at := rand.N(span) //nolint:gosec // no secret
			select {
			case <-ended:
				return
			case <-time.After(at):
			}
			p := w.server
			if rand.N(2) == 0 { //nolint:gosec // no secret
				p = w.runner
			}
			w.kill(p)
			all.kills.Add(1)
			time.Sleep(rand.N(down)) //nolint:gosec // no secret
			w.start(p)
			select {
			case <-ended:
				return
			case <-time.After(span - at):
			}
		}
	}()
	return func() { close(ended); <-done; w.ready(); w.connected() }
}
