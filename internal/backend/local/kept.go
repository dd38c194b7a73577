package local

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/spool"
)

// Limits of the output of sandboxes that are gone.
const (
	// DefaultOutputRetention is how long it is kept after the end.
	DefaultOutputRetention = 24 * time.Hour
	// MaxKeptOutputs is of how many sandboxes it is kept, and MaxKeptBytes how much in all; the oldest goes first.
	MaxKeptOutputs = 10_000
	MaxKeptBytes   = 4 << 30
	// expiryInterval is how often is looked for output whose time is over.
	expiryInterval = time.Minute
	// keptSuffix is that of a record of kept output; the output itself is in the directory without it.
	keptSuffix = ".json"
)

// ending is how the output of a sandbox ended.
type ending struct {
	// Session names the run.
	Session string `json:"session,omitempty"`
	// Known: the end was seen, after Bytes bytes of output in all. A sandbox that never ran ended after none.
	Known bool  `json:"known"`
	Bytes int64 `json:"bytes"`
}

// endingOf reads it from the records of an ended sandbox.
func (b *Backend) endingOf(s *sandbox) ending {
	var e ending
	dir := b.place.shimState(s.slot)
	if r, err := shim.ReadRecord(dir); err == nil && r != nil {
		e.Session = r.Session
	}
	if x, err := shim.ReadExit(dir); err == nil && x != nil {
		e.Known, e.Bytes = true, x.OutputBytes
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.Known = s.last.Reason != core.EndLost
	return e
}

// keptOutput is the record of the output of a sandbox that is gone.
type keptOutput struct {
	Version int       `json:"version"`
	EndedAt time.Time `json:"ended_at"`
	ending
	// size is what it takes on disk.
	size int64
}

// keptOutputs is the output of sandboxes that are gone.
type keptOutputs struct {
	mu    sync.Mutex
	byID  map[string]keptOutput
	bytes int64
}

// get returns what is known of the output of a sandbox that is gone.
func (k *keptOutputs) get(id string) (keptOutput, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok := k.byID[id]
	return o, ok
}

// openKept reads what an earlier server kept. What has no record is being moved there, or was never told of: it goes.
func (b *Backend) openKept() error {
	b.kept = &keptOutputs{byID: map[string]keptOutput{}}
	entries, err := os.ReadDir(b.place.outputs())
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), keptSuffix)
		if !ok {
			continue
		}
		data, err := os.ReadFile(filepath.Join(b.place.outputs(), e.Name()))
		o := keptOutput{}
		if err == nil {
			err = json.Unmarshal(data, &o)
		}
		if err != nil || o.Version != recordVersion {
			b.log.Warn("kept output cannot be used and is removed", "sandbox", id, "error", err)
			_ = os.Remove(filepath.Join(b.place.outputs(), e.Name()))
			continue
		}
		b.kept.add(id, o, sizeOf(b.place.output(id)))
	}
	return nil
}

// holds reports whether the backend has a sandbox.
func (b *Backend) holds(id string) bool {
	_, err := b.get(id)
	return err == nil
}

// sweepKept removes output without a record that belongs to no sandbox either.
func (b *Backend) sweepKept(known func(id string) bool) error {
	entries, err := os.ReadDir(b.place.outputs())
	for _, e := range entries {
		id := strings.TrimSuffix(e.Name(), keptSuffix)
		if _, ok := b.kept.get(id); !ok && !known(id) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(b.place.outputs(), e.Name())))
		}
	}
	return err
}

func (k *keptOutputs) add(id string, o keptOutput, size int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bytes += size - k.byID[id].size
	o.size = size
	k.byID[id] = o
}

// sizeOf is what the files of a directory hold.
func sizeOf(dir string) (size int64) {
	entries, _ := os.ReadDir(dir) // One that is not there holds nothing.
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

// keepOutput moves the output of an ended sandbox to where it outlives its records. It may be done again after an interruption:
// the output moves in one step, and its record comes last.
func (b *Backend) keepOutput(s *sandbox) error {
	if s.id == "" { // A slot that nobody took printed nothing.
		return nil
	}
	dir := b.place.output(s.id)
	from := shim.OutputDir(b.place.shimState(s.slot))
	if at, err := spool.Tail(from, 0); err == nil && at.Offset > 0 {
		if err := os.Rename(from, dir); err != nil {
			return err
		}
	}
	failpoint.Hit(failOutputMoved)
	s.mu.Lock()
	o := keptOutput{Version: recordVersion, EndedAt: s.last.At}
	s.mu.Unlock()
	o.ending = b.endingOf(s)
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	// Not flushed: a machine that goes down takes the last output along anyway.
	temp := filepath.Join(b.place.outputs(), "."+s.id)
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, dir+keptSuffix); err != nil {
		return err
	}
	b.kept.add(s.id, o, sizeOf(dir))
	b.expireOutputs()
	return nil
}

// expireOutputs removes the output whose time is over, and the oldest where there is too much of it.
func (b *Backend) expireOutputs() {
	for _, id := range b.kept.takeExpired(b.cfg.Now().Add(-b.cfg.OutputRetention)) {
		dir := b.place.output(id)
		if err := errors.Join(os.RemoveAll(dir+keptSuffix), os.RemoveAll(dir)); err != nil {
			b.log.Warn("output that is not kept any more could not be removed", "sandbox", id, "error", err)
		}
	}
}

// takeExpired forgets what ended before a time, and what is too much.
func (k *keptOutputs) takeExpired(before time.Time) (ids []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	forget := func(id string) {
		k.bytes -= k.byID[id].size
		delete(k.byID, id)
		ids = append(ids, id)
	}
	for id, o := range k.byID {
		if o.EndedAt.Before(before) {
			forget(id)
		}
	}
	if len(k.byID) <= MaxKeptOutputs && k.bytes <= MaxKeptBytes {
		return ids
	}
	oldest := slices.SortedFunc(maps.Keys(k.byID), func(x, y string) int {
		return cmp.Or(k.byID[x].EndedAt.Compare(k.byID[y].EndedAt), strings.Compare(x, y))
	})
	for _, id := range oldest {
		if len(k.byID) <= MaxKeptOutputs && k.bytes <= MaxKeptBytes {
			break
		}
		forget(id)
	}
	return ids
}

// expire does so while the backend is open.
func (b *Backend) expire() {
	tick := time.NewTicker(expiryInterval)
	defer tick.Stop()
	for {
		b.expireOutputs()
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return
		}
	}
}
