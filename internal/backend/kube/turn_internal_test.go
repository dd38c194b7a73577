package kube

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestTurns: attempts that get no answer hold up others for a moment, and the end of a sandbox not at all.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Backend{ctx: t.Context(), connecting: make(chan struct{}, maxConnecting)}
		fresh := func() *sandbox { return &sandbox{pod: &corev1.Pod{}, changed: make(chan struct{})} }
		const stalled = 100
		for range stalled {
			go func() {
				giveBack, ok := b.turn(fresh())
				if !ok {
					t.Error("a sandbox that lives gets no turn")
					return
				}
				time.Sleep(linkTimeout)
				giveBack()
			}()
		}
		synctest.Wait()
		ending, over := fresh(), make(chan bool)
		go func() {
			_, ok := b.turn(ending)
			over <- ok
		}()
		synctest.Wait()
		ending.change(func() { ending.gone = true })
		if <-over {
			t.Error("a sandbox that has ended waits for a turn, and gets one")
		}
		began := time.Now()
		giveBack, ok := b.turn(fresh())
		if waited := time.Since(began); !ok || waited > (stalled/maxConnecting+1)*turnTime {
			t.Errorf("behind %d that do not answer it waits %s", stalled, waited)
		}
		giveBack()
		time.Sleep(2 * linkTimeout)
		if n := len(b.connecting); n != 0 {
			t.Errorf("%d turns are never given back", n)
		}
	})
}
