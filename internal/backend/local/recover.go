package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
)

// found is a sandbox of an earlier server.
type found struct {
	*sandbox
	record *workRecord
	end    *endRecord
	// broken says why its records cannot be used.
	broken error
}

// load reads the records of all sandboxes. A directory without a whole work.json was never accepted and goes; one whose
// records cannot be understood stays, as a sandbox that is lost.
func (b *Backend) load() ([]*found, error) {
	if err := os.RemoveAll(b.place.trash()); err != nil {
		return nil, err
	}
	if err := os.Mkdir(b.place.trash(), 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(b.place.sandboxes())
	if err != nil {
		return nil, err
	}
	var all []*found
	var slots []string
	for _, e := range entries {
		f := b.loadOne(e.Name())
		if f == nil && isSlot(e.Name()) {
			slots = append(slots, e.Name())
			continue
		}
		if f == nil {
			if err := os.RemoveAll(b.place.sandbox(e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		b.sandboxes[f.id] = f.sandbox
		all = append(all, f)
	}
	b.removeSlots(slots)
	return all, nil
}

// loadOne reads the records of one directory, whose name is the sandbox's id or the slot that it was prepared in; nil when it was
// never accepted.
func (b *Backend) loadOne(slot string) *found {
	f := &found{sandbox: newSandbox(&backend.Work{SandboxID: slot}, -1)}
	dir := b.place.sandbox(slot)
	r := &workRecord{}
	if ok, err := readRecord(dir, workName, r); err != nil {
		f.broken = err
		return f
	} else if !ok {
		return nil
	}
	if r.Version != recordVersion || r.SandboxID != slot && !isSlot(slot) {
		f.broken = fmt.Errorf("%s is of version %d for sandbox %q", filepath.Join(dir, workName), r.Version, r.SandboxID)
		return f
	}
	w, err := r.work()
	if err != nil {
		f.broken = fmt.Errorf("%s: %w", filepath.Join(dir, workName), err)
		return f
	}
	if !b.ids.reserve(r.Range) {
		f.broken = fmt.Errorf("%s: its range of ids, %d, does not exist or belongs to another sandbox", filepath.Join(dir, workName), r.Range)
		return f
	}
	f.sandbox, f.record = newSandbox(w, r.Range), r
	f.slot = slot
	stop, end := &stopRecord{}, &endRecord{}
	if ok, err := readRecord(dir, stopName, stop); err != nil {
		f.broken = err
	} else if ok {
		// How much of its grace is left, nobody knows.
		f.stop, f.grace = stop, shim.DefaultStopGrace
	}
	if ok, err := readRecord(dir, endName, end); err != nil {
		f.broken = err
	} else if ok {
		f.end = end
	}
	return f
}

// recover takes each sandbox up where it is. Sandboxes that run go on being watched, those that were accepted and never
// handed over are started, the others have ended: as their shim recorded, or unseen. After a restart of the machine all that have no
// recorded end have ended unseen.
func (b *Backend) recover(all []*found) {
	for _, f := range all {
		if f.record != nil {
			b.publish(f.sandbox, backend.Observation{
				Phase: backend.PhaseCreating, At: f.record.AcceptedAt, Events: acceptEvents(f.record.AcceptedAt, f.record.Warm),
			})
		}
		b.recoverOne(f)
		failpoint.Hit(failRecovered)
	}
}

func (b *Backend) recoverOne(f *found) {
	f.submit(b.given(f.slot))
	switch {
	case f.broken != nil:
		b.log.Error("a sandbox's records cannot be used; it counts as lost", "sandbox", f.id, "error", f.broken)
		b.loseBroken(f)
		return
	case f.end != nil:
		b.publishEnd(f.sandbox, *f.end)
		b.releaseLater(f.sandbox)
		return
	}
	state, err := shim.Inspect(b.place.shimState(f.slot))
	switch {
	case err != nil:
		f.broken = err
		b.loseBroken(f)
	case state.Exit == nil && !b.thisBoot(f.record, state):
		b.spawn(func() { b.endLost(f.sandbox, restarted) })
	case f.record.Begin != nil:
		b.recoverPrepared(f, state)
	default:
		b.recoverStarted(f, state)
	}
}

// thisBoot reports whether a sandbox is of this boot of the machine. What its shim wrote was not flushed, so that of one from before a
// restart it cannot be said that it never ran: it is not started again.
func (b *Backend) thisBoot(r *workRecord, state shim.State) bool {
	if state.Record != nil {
		return state.Record.Boot == b.cfg.BootID
	}
	return r.Boot == b.cfg.BootID
}

// recoverStarted takes up a sandbox by what its shim says.
func (b *Backend) recoverStarted(f *found, state shim.State) {
	switch {
	case state.Status == shim.StatusExited:
		b.spawn(func() { b.endExited(f.sandbox, *state.Exit) })
	case state.Status == shim.StatusRunning, state.Status == shim.StatusStopping:
		b.adopt(f, state)
	case state.Status == shim.StatusStarting:
		b.spawn(func() { b.awaitOrphan(f) })
	case state.Record == nil && !state.Unreadable:
		// No shim ever wrote a word, and none is there: nothing of it ran.
		b.startAgain(f)
	default:
		b.spawn(func() { b.endLost(f.sandbox, unseen) })
	}
}

// adopt watches a sandbox that runs.
func (b *Backend) adopt(f *found, state shim.State) {
	ctx, cancel := context.WithTimeout(b.ctx, adoptPatience)
	defer cancel()
	client, err := shim.Connect(ctx, b.place.shimState(f.slot))
	var now shim.Record
	if err == nil { // What the shim says, not what it had written when it was looked at: it may just be pausing the sandbox.
		now, err = client.Info(ctx)
	}
	if err != nil {
		// It has ended since it was looked at, or its shim is busy or does not answer: waiting tells.
		b.spawn(func() { b.awaitOrphan(f) })
		return
	}
	f.mu.Lock()
	f.client = client
	f.mu.Unlock()
	at := state.Record.StartedAt
	b.publish(f.sandbox, backend.Observation{Phase: backend.PhaseRunning, At: at, StartedAt: at, Events: []core.Event{{Name: "started", At: at}}})
	if !now.PausedAt.IsZero() {
		b.publish(f.sandbox, paused(now.PausedAt))
	}
	stop := f.stopping()
	if stop != nil {
		b.publish(f.sandbox, stopping(stop))
	}
	b.spawn(func() {
		// The server may have died between writing the stop down and asking for it. Asking again can only shorten the grace.
		b.passStop(f.sandbox)
		b.watch(f.sandbox)
	})
}

// awaitOrphan waits until a shim that is starting a sandbox has done so, or is gone, or answers again.
func (b *Backend) awaitOrphan(f *found) {
	dir := b.place.shimState(f.slot)
	select {
	case <-time.After(startPoll):
	case <-b.ctx.Done():
	}
	state, err := b.settled(dir)
	switch {
	case b.ctx.Err() != nil:
	case err != nil:
		f.broken = err
		b.loseBroken(f)
	case state.Status == shim.StatusExited:
		b.endExited(f.sandbox, *state.Exit)
	case state.Status == shim.StatusRunning, state.Status == shim.StatusStopping:
		b.adopt(f, state)
	case state.Record == nil && !state.Unreadable && state.Status != shim.StatusStarting:
		b.startAgain(f)
	default:
		b.endLost(f.sandbox, unseen)
	}
}

// settled returns what a state directory tells once no start is under way there. A shim bounds its start itself.
func (b *Backend) settled(dir string) (shim.State, error) {
	poll := time.NewTicker(startPoll)
	defer poll.Stop()
	for {
		state, err := shim.Inspect(dir)
		if err != nil || state.Status != shim.StatusStarting {
			return state, err
		}
		select {
		case <-poll.C:
		case <-b.ctx.Done():
			return state, b.ctx.Err()
		}
	}
}

// startAgain starts a sandbox that was accepted and of which nothing ran, from the beginning.
func (b *Backend) startAgain(f *found) {
	if f.stopping() != nil {
		b.spawn(func() {
			b.settleSource(b.ctx, f.sandbox)
			b.endUnstarted(f.sandbox, context.Canceled)
		})
		return
	}
	f.submit(nil)
	err := errors.Join(b.clearBox(f.slot), os.RemoveAll(b.place.shimState(f.slot)))
	if err != nil {
		b.spawn(func() { b.endUnstarted(f.sandbox, err) })
		return
	}
	b.begin(f.sandbox)
}

// loseBroken ends a sandbox whose records cannot be used. Only its processes can be dealt with.
func (b *Backend) loseBroken(f *found) {
	b.spawn(func() {
		if _, err := b.clean(f.slot); err != nil {
			b.log.Error("what is left of a broken sandbox cannot be removed", "sandbox", f.id, "error", err)
		}
		b.endRecorded(f.sandbox, endRecord{
			Version: recordVersion, Failed: true, Reason: core.EndLost, At: b.cfg.Now(),
			Message: "its records cannot be read: " + strings.ReplaceAll(f.broken.Error(), "\n", "; "),
		})
	})
}

// releaseLater frees what an ended sandbox may still hold.
func (b *Backend) releaseLater(s *sandbox) { b.spawn(func() { b.release(s) }) }
