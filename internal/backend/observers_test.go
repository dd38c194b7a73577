package backend

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
)

// TestStuckObserver: whatever happens while an observer takes nothing, what waits for it is bounded by the sandboxes that there are,
// and nothing that counts is lost: how each began, how it ended.
func TestStuckObserver(t *testing.T) {
	const sandboxes = 20
	var h Observers
	at := time.Date(2026, 5, 14, 12, 0, 0, 0, time.UTC)
	id := func(i int) string { return fmt.Sprint("sbx-", i) }
	event := func(name string) []core.Event {
		at = at.Add(time.Second)
		return []core.Event{{Name: name, At: at}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stuck, goOn := make(chan struct{}), make(chan struct{})
	got := make(chan *Observation, sandboxes)
	go func() {
		defer close(got)
		n := 0
		for o := range h.Observe(ctx) {
			if o == nil {
				close(stuck)
				<-goOn
				continue
			}
			got <- o
			if n++; n == sandboxes {
				return
			}
		}
	}()
	<-stuck
	started := at
	code := int32(7)
	for i := range sandboxes {
		h.Publish(Observation{SandboxID: id(i), Phase: PhaseCreating, Events: event("created"), Submitted: []byte("{}")})
		h.Publish(Observation{SandboxID: id(i), Phase: PhaseRunning, StartedAt: started, Events: event("started")})
		for range 10 * core.MaxTimeline {
			h.Publish(Observation{SandboxID: id(i), Phase: PhasePaused, Events: event("paused")})
			h.Publish(Observation{SandboxID: id(i), Phase: PhaseRunning, Events: event("resumed")})
		}
		h.Publish(Observation{SandboxID: id(i), Phase: PhaseEnded, ExitCode: &code, Events: event("ended")})
		h.Publish(Observation{SandboxID: id(i), Phase: PhaseRunning, Events: event("late")})
	}
	for range 1000 { // Those that come and go leave nothing.
		h.Publish(Observation{SandboxID: "gone", Phase: PhaseEnded})
		h.Forget("gone")
	}
	h.mu.Lock()
	for w := range h.all {
		if len(w.waiting) != sandboxes || len(w.order) != sandboxes {
			t.Errorf("%d observations wait, %d names; want %d", len(w.waiting), len(w.order), sandboxes)
		}
		for id, o := range w.waiting {
			if len(o.Events) > core.MaxTimeline {
				t.Errorf("%d events of %s wait", len(o.Events), id)
			}
		}
	}
	h.mu.Unlock()
	close(goOn)
	for i := range sandboxes {
		o := <-got
		if o == nil {
			t.Fatalf("%d observations came", i)
		}
		first, last := o.Events[0].Name, o.Events[len(o.Events)-1].Name
		if o.SandboxID != id(i) || o.Phase != PhaseEnded || o.ExitCode == nil || *o.ExitCode != 7 || !o.StartedAt.Equal(started) || o.Submitted == nil {
			t.Errorf("%+v", o)
		}
		if first != "created" || last != "ended" {
			t.Errorf("%s: from %s to %s", o.SandboxID, first, last)
		}
	}
}

// TestSlowObserver: an observer that is slow gets the last observation and all events, one that is gone costs nothing.
func TestSlowObserver(t *testing.T) {
	var h Observers
	say := func(id string, p Phase, event string) {
		h.Publish(Observation{SandboxID: id, Phase: p, Events: []core.Event{{Name: event}}})
	}
	say("a", PhaseCreating, "created")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	for o := range h.Observe(ctx) {
		if o == nil {
			got = append(got, "-")
			say("a", PhaseRunning, "started")
			say("b", PhaseCreating, "created")
			say("a", PhaseEnded, "ended")
			say("c", PhaseCreating, "created")
			h.Forget("c")
			continue
		}
		text := o.SandboxID + " " + string(o.Phase)
		for _, e := range o.Events {
			text += " " + e.Name
		}
		if got = append(got, text); o.SandboxID == "b" {
			cancel()
		}
	}
	if want := "a CREATING created|-|a ENDED started ended|b CREATING created"; strings.Join(got, "|") != want {
		t.Errorf("%s, want %s", strings.Join(got, "|"), want)
	}
	if len(h.all) != 0 {
		t.Errorf("%d observers are left", len(h.all))
	}
	h.Close()
	h.Close()
	for range h.Observe(t.Context()) {
		t.Error("something was told while closed")
	}
}

func TestMergeKeepsAnEndAndAllEvents(t *testing.T) {
	m := Merge(&Observation{Phase: PhaseCreating, Events: []core.Event{{Name: "created"}}}, &Observation{Phase: PhaseRunning, Events: []core.Event{{Name: "started"}}})
	if m.Phase != PhaseRunning || len(m.Events) != 2 || m.Events[0].Name != "created" {
		t.Errorf("%+v", m)
	}
	ended := &Observation{Phase: PhaseEnded, Reason: core.EndExited}
	if got := Merge(ended, &Observation{Phase: PhaseEnded, Failed: true, Reason: core.EndLost}); got.Reason != core.EndExited {
		t.Errorf("an end was replaced by %s", got.Reason)
	}
	if Merge(nil, ended) != ended || Merge(ended, nil) != ended {
		t.Error("one alone does not stand for itself")
	}
}

// TestClosedObservers: who comes while they are closed cannot take it for a backend without sandboxes.
func TestClosedObservers(t *testing.T) {
	var h Observers
	h.Publish(Observation{SandboxID: "a", Phase: PhaseRunning})
	passes := func() (n int) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for o := range h.Observe(ctx) {
			n++
			if o == nil {
				h.Close() // It ends those who observe.
			}
		}
		return n
	}
	if n := passes(); n != 2 {
		t.Errorf("%d were told", n)
	}
	if n := passes(); n != 0 {
		t.Errorf("%d were told while closed", n)
	}
	h.Open()
	if n := passes(); n != 2 {
		t.Errorf("%d were told after it was opened again", n)
	}
}
