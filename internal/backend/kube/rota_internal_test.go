package kube

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// onDuty is a rota at work, until the test ends.
func onDuty(t *testing.T, attend func(*sandbox, func()) respite) *rota {
	r := newRota(attend)
	ctx, cancel := context.WithCancel(t.Context())
	work := &sync.WaitGroup{}
	work.Go(func() { r.run(ctx, work) })
	t.Cleanup(func() { cancel(); work.Wait() })
	return r
}

// TestCrowd: attempts that get no answer hold up others for a moment, and neither the end of a sandbox nor one that has just started at all.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stalled = 100
		var mu sync.Mutex
		seen := map[string]time.Time{}
		r := onDuty(t, func(s *sandbox, giveBack func()) respite {
			mu.Lock()
			seen[s.id] = time.Now()
			mu.Unlock()
			if s.id == "" {
				time.Sleep(linkTimeout)
			}
			giveBack()
			return respite{over: true}
		})
		for range stalled {
			r.wake(&sandbox{}, true, false)
		}
		synctest.Wait()
		began := time.Now()
		r.wake(&sandbox{id: "new"}, false, false)
		ending := &sandbox{id: "ending"}
		r.wake(ending, true, false)
		r.wake(ending, false, true)
		r.wake(&sandbox{id: "another"}, true, false)
		time.Sleep(2 * linkTimeout)
		mu.Lock()
		defer mu.Unlock()
		for _, id := range []string{"new", "ending"} {
			if waited := seen[id].Sub(began); waited != 0 {
				t.Errorf("the %s one waited %s for those that do not answer", id, waited)
			}
		}
		if waited := seen["another"].Sub(began); waited <= 0 || waited > (stalled/maxCrowd+1)*turnTime {
			t.Errorf("behind %d that do not answer it waited %s", stalled, waited)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.inside != 0 || r.trying != 0 {
			t.Errorf("%d places are never given back, %d are still tried", r.inside, r.trying)
		}
	})
}

// TestTrying: however many get no answer, only so many are tried at a time, and those that wait for no crowd go on at once.
func TestTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var trying, most, done atomic.Int64
		r := onDuty(t, func(s *sandbox, reached func()) respite {
			if s.id != "" {
				done.Add(1)
				return respite{over: true}
			}
			most.Store(max(most.Load(), trying.Add(1)))
			time.Sleep(10 * time.Minute)
			trying.Add(-1)
			reached()
			return respite{over: true}
		})
		for range 3 * maxTrying {
			r.wake(&sandbox{}, true, false)
		}
		time.Sleep(9 * time.Minute)
		if n := most.Load(); n != maxTrying {
			t.Errorf("%d are tried at a time, want %d", n, maxTrying)
		}
		r.wake(&sandbox{id: "new"}, false, false)
		r.wake(&sandbox{id: "urgent"}, true, true)
		synctest.Wait()
		if done.Load() != 2 {
			t.Errorf("%d of two that wait for no crowd were attended to", done.Load())
		}
		time.Sleep(time.Hour)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.trying != 0 || len(r.crowd) != 0 || most.Load() > maxTrying {
			t.Errorf("%d are still tried, %d wait; %d at a time", r.trying, len(r.crowd), most.Load())
		}
	})
}

// TestHopeless: of many inits that cannot be reached, few are tried at a time, each in its turn, and one of which there is news at once.
func TestHopeless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, perMinute = 1000, int64(time.Minute / hopelessInterval)
		var tried atomic.Int64
		r := onDuty(t, func(s *sandbox, _ func()) respite {
			tried.Add(1)
			s.failures++
			return respite{pause: longestPause, crowd: true}
		})
		all := make([]*sandbox, many)
		for i := range all {
			all[i] = &sandbox{}
			r.wake(all[i], true, false)
		}
		synctest.Wait()
		tried.Store(0)
		time.Sleep(time.Minute)
		if n := tried.Load(); n < perMinute/2 || n > perMinute {
			t.Errorf("%d attempts in a minute, the limit is %d", n, perMinute)
		}
		before := tried.Load()
		r.wake(all[0], false, false)
		synctest.Wait()
		if n := tried.Load() - before; n != 1 {
			t.Errorf("news of one had %d tried", n)
		}
		time.Sleep(2 * many * hopelessInterval)
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, s := range all {
			if s.failures < 2 {
				t.Fatal("one is never tried again")
			}
		}
	})
}

// TestNewsMeanwhile: what happens while a sandbox is attended to is looked at afterwards, and the end is the end.
func TestNewsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := 0
		r := onDuty(t, func(*sandbox, func()) respite {
			times++
			time.Sleep(time.Second)
			return respite{over: times == 2}
		})
		s := &sandbox{}
		for range 5 {
			r.wake(s, false, false)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		r.wake(s, false, true)
		synctest.Wait()
		if times != 2 {
			t.Errorf("it was attended to %d times, want twice", times)
		}
	})
}

// TestOutageOver: once many that could not be reached are there again, one that cannot be reached is tried as often as if they had never been.
func TestOutageOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 20_000
		var down atomic.Bool
		var late atomic.Int64
		down.Store(true)
		r := onDuty(t, func(s *sandbox, _ func()) respite {
			if s.id == "late" {
				late.Add(1)
			}
			if down.Load() || s.id == "late" {
				return respite{pause: longestPause, crowd: true}
			}
			return respite{}
		})
		all := make([]*sandbox, many)
		for i := range all {
			all[i] = &sandbox{}
			r.wake(all[i], true, false)
		}
		synctest.Wait()
		down.Store(false)
		for _, s := range all { // There is news of each.
			r.wake(s, false, false)
		}
		r.wake(&sandbox{id: "late"}, true, false)
		synctest.Wait()
		late.Store(0)
		time.Sleep(time.Minute)
		if n, least := late.Load(), int64(time.Minute/(2*longestPause)); n < least {
			t.Errorf("it was tried %d times in a minute, want %d at least", n, least)
		}
	})
}

// TestHasten: one of the hopeless that somebody waits for is tried before the others, once.
func TestHasten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tried atomic.Int64
		r := onDuty(t, func(s *sandbox, _ func()) respite {
			if s.id == "wanted" {
				tried.Add(1)
			}
			return respite{pause: longestPause, crowd: true}
		})
		wanted := &sandbox{id: "wanted"}
		for range 10_000 {
			r.wake(&sandbox{}, true, false)
		}
		r.wake(wanted, true, false)
		synctest.Wait()
		tried.Store(0)
		r.hasten(wanted)
		r.hasten(wanted)
		synctest.Wait()
		if n := tried.Load(); n != 1 {
			t.Errorf("it was tried %d times", n)
		}
	})
}
