package control_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// burst is how many launches come at once, burstRunners how many runners they come to, and burstRoom what each of those takes.
const burst, burstRunners, burstRoom = 1000, 5, 150

// TestBurst: of many more launches at once than there is room for, exactly as many are admitted as there is room, none of them on a
// full runner, and every other one is told that a retry may succeed. It is a reservation that decides, however stale the plans are.
func TestBurst(t *testing.T) {
	if overLine {
		return // What is between a gateway and its runners has no part in it.
	}
	for _, database := range []string{"sqlite", "postgres"} {
		t.Run(database, func(t *testing.T) {
			dsn := ""
			if database == "postgres" {
				dsn = postgres.Database(t)
			}
			var names []string
			for i := range burstRunners {
				names = append(names, fmt.Sprintf("r%d", i+1))
			}
			w := newWorldOn(t, dsn, control.Config{}, fakeWith(core.Amounts{CPUMillis: 1_000_000, MemoryBytes: 1 << 40, Sandboxes: burstRoom}), names...)
			var admitted, refused atomic.Int64
			var group sync.WaitGroup
			for range burst {
				group.Go(func() {
					switch err := w.launchInBurst(); {
					case err == nil:
						admitted.Add(1)
					case fault.Is(err, fault.Exhausted) && fault.From(err).RetryAfter > 0:
						refused.Add(1)
					default:
						t.Errorf("%v", err)
					}
				})
			}
			group.Wait()
			const room = burstRunners * burstRoom
			if admitted.Load() != room || refused.Load() != burst-room {
				t.Errorf("%d admitted, %d refused; there is room for %d", admitted.Load(), refused.Load(), room)
			}
			for _, name := range names {
				w.wantFull(name)
			}
		})
	}
}

// launchInBurst launches, and again for as long as runners fill up during each attempt.
func (w *world) launchInBurst() error {
	for {
		_, _, err := w.svc.Launch(w.ctx(), w.user, nil)
		if !fault.HasReason(err, fault.ReasonReplanExhausted) {
			return err
		}
	}
}

// wantFull checks that a runner has as many sandboxes as it takes, by what is reserved, by the rows and by what it was given.
func (w *world) wantFull(name string) {
	w.Helper()
	var live int64
	w.must(w.store.View(w.ctx(), func(r store.Reader) (err error) {
		live, err = r.CountLive(w.ctx(), w.runners[name].ID)
		return err
	}))
	if reserved, made := w.reserved(name).Sandboxes, w.fakes[name].Creates(); reserved != burstRoom || live != burstRoom || made != burstRoom {
		w.Errorf("%s: %d reserved, %d live, %d made; it takes %d", name, reserved, live, made, burstRoom)
	}
}
