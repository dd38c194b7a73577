//go:build crash

package crash

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// work is what callers do with a machine, and what they were told.
type work struct {
	m    *machine
	hub  *hub
	base *life
	// free is what each runner has while nothing lives.
	free   map[string]amounts
	config *config

	mu    sync.Mutex
	lives []*life
	// leases are those that were made, by id.
	leases []string
	calls  int
	// kept are the commands that were asked for to be kept, true for those whose start was answered.
	kept map[string]bool
}

func newWork(m *machine, hub *hub) *work {
	return &work{m: m, hub: hub, config: newConfig(m), kept: map[string]bool{}}
}

// living counts the sandboxes that nobody was told the end of.
func (w *work) living() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, l := range w.lives {
		if l.id != "" && l.told == nil {
			n++
		}
	}
	return n
}

// prepare kills the server and leaves sandboxes in every state for the next: one that runs, and others in the middle of their starts and ends.
// The image comes later, so that its layers are unpacked in operation.
func (w *work) prepare() {
	m := w.m
	m.t.Helper()
	m.read("/v1beta2/sandbox/profile-templates/default", &w.config.profile)
	w.config.declare()
	w.free = m.available()
	if warms(m.failpoint) {
		w.heat()
	}
	base := idles
	if m.failpoint == adopting {
		base = rests
	}
	w.base = w.launch(base, "local")
	if !m.until(func() bool { v := m.get(w.base.id); return v != nil && v.Status == "RUNNING" }) {
		m.t.Fatalf("a sandbox does not run: %+v", m.get(w.base.id))
	}
	w.note(func() { w.base.wrote = m.write(w.base.id) })
	w.positive()
	gone := w.launch(exits, "local")
	m.until(func() bool { v := m.get(gone.id); w.tell(gone, v); return v == nil || v.ended() })
	ending := w.launch(sleeps, "local")
	w.launch(expires, "local")
	// The server is killed under these, when the first was answered.
	first := make(chan struct{}, 4)
	var group sync.WaitGroup
	group.Go(func() { w.stop(ending); first <- struct{}{} })
	for _, k := range []*kind{exits, missing, w.hub.pulled(0)} {
		group.Go(func() { w.launch(k, "local"); first <- struct{}{} })
	}
	<-first
	m.end(syscall.SIGKILL)
	group.Wait()
}

// positive makes sure that what leaks looks for is where it looks.
func (w *work) positive() {
	p := w.m.places("local")
	if !exists(p.run) || !exists(p.records(w.base.id)) || len(p.groups()) == 0 || shims(w.base.id) != 1 {
		w.m.t.Fatalf("a sandbox runs, and is not found in %s, %s, %q or among the processes", p.run, p.records(w.base.id), p.groups())
	}
}

// note changes what is known of lives.
func (w *work) note(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.calls++
}

// tell remembers an end that was told.
func (w *work) tell(l *life, v *view) {
	if v == nil || !v.ended() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.told == nil {
		l.told = v
	}
}

func (w *work) stop(l *life) { w.end(l, w.m.stop) }

func (w *work) delete(l *life) {
	w.end(l, w.m.delete)
	if w.endTold(l) {
		w.tell(l, w.m.get(l.id)) // Delete returns when it is over.
	}
}

func (w *work) end(l *life, how func(id string) bool) {
	w.note(func() { l.endAsked = true })
	done := how(l.id)
	w.note(func() { l.endTold = l.endTold || done })
}

func (w *work) endTold(l *life) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return l.endTold
}

// operate works side by side, in every way there is, until the failpoint has killed.
func (w *work) operate() {
	var group sync.WaitGroup
	worker := func(turn func(i int)) {
		group.Go(func() {
			for i := 0; !w.m.dead.Load() && !w.m.hit(); i++ {
				turn(i)
			}
		})
	}
	worker(w.lifeOf)
	worker(w.talk)
	worker(w.config.change)
	worker(w.leased)
	if warms(w.m.failpoint) {
		worker(w.warmLife)
	}
	worker(w.images)
	if w.free[spareRunner] != (amounts{}) {
		group.Go(w.drain)
	}
	holding, release := context.WithCancel(context.Background())
	defer release()
	go w.hold(holding)
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		w.m.dead.Store(true) // The failpoint is not reached: the workers stop.
		<-done
	}
}

// lifeOf takes one sandbox from launch to end.
func (w *work) lifeOf(i int) {
	kinds := []*kind{image, exits, sleeps, missing, idles, visits, asks}
	if strings.HasPrefix(w.m.failpoint, onlines) {
		kinds = []*kind{visits, asks, sleeps}
	}
	l := w.launch(kinds[i%len(kinds)], "local")
	if l.id == "" {
		return
	}
	// A third is ended at once, mostly before it runs. Of the others one half is resumed, the other stopped while it stands still.
	if !l.ends && i%3 != 0 {
		w.m.suspend(l.id)
		if w.m.pause(l.id, "pause"); i%4 < 2 {
			w.m.pause(l.id, "resume")
		}
	}
	switch {
	case l.ends:
	case i%2 == 0:
		w.stop(l)
	default:
		w.delete(l)
	}
	w.m.until(func() bool { v := w.m.get(l.id); w.tell(l, v); return v == nil || v.ended() || w.m.hit() })
}

// leased takes one sandbox from launch to the end of its lease.
func (w *work) leased(int) {
	raw, code := w.m.call("POST", "/berm/v1/leases", map[string]any{"ttlSeconds": 600, "purpose": "crash"})
	var lease struct{ LeaseID string }
	if code != http.StatusOK || json.Unmarshal(raw, &lease) != nil {
		return
	}
	w.note(func() { w.leases = append(w.leases, lease.LeaseID) })
	under := *sleeps
	under.request = maps.Clone(sleeps.request)
	under.request["leaseId"] = lease.LeaseID
	l := w.launch(&under, "local")
	if l.id == "" {
		return
	}
	w.m.call("POST", "/berm/v1/leases/"+lease.LeaseID+":renew", map[string]any{})
	w.end(l, func(string) bool {
		_, code := w.m.call("POST", "/berm/v1/leases/"+lease.LeaseID+":release", map[string]any{})
		return code == http.StatusOK
	})
	w.m.until(func() bool { v := w.m.get(l.id); w.tell(l, v); return v == nil || v.ended() || w.m.hit() })
}

// talk keeps calls to a running sandbox under way: each takes a moment, so that some are when the server dies.
func (w *work) talk(int) {
	id := w.base.id
	_, _ = w.m.exec(id, "sleep 0.05")
	w.note(func() {})
	if w.m.write(id) {
		w.note(func() { w.base.wrote = true })
	}
	_, _ = w.m.file(id, fileName)
	w.m.logs(id)
	w.m.copies(id)
	w.keep()
	_, _ = w.m.call("GET", "/readyz", nil)
	w.note(func() {})
}

// held is a command that does not end by itself. The pattern does not match its own text.
const held, heldPattern = "sleep 600", "sleep 60[0]"

// hold has one call under way all the time.
func (w *work) hold(ctx context.Context) {
	request := map[string]any{"command": strings.Fields(held)}
	w.m.callWith(ctx, w.m.token, "POST", "/v1beta2/sandboxes/"+w.base.id+"/exec", request)
}

// drain deletes a runner by force on which sandboxes live.
func (w *work) drain() {
	var on []*life
	for range 2 {
		on = append(on, w.launch(sleeps, spareRunner))
	}
	for _, l := range on {
		w.note(func() { l.endAsked = true })
	}
	if _, code := w.m.call("DELETE", "/v1beta2/sandbox/managed-runners/"+spareRunner+"?force=true", nil); code/100 == 2 {
		for _, l := range on {
			w.note(func() { l.endTold = true })
		}
	}
}

// places are where a runner of a machine has its things. The name is made as the local backend makes it.
type places struct{ dir, name, run string }

func (p places) records(id string) string { return filepath.Join(p.dir, "sandboxes", id) }

// groups are the control groups of a runner, in every hierarchy.
func (p places) groups() []string {
	v1, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", p.name))
	v2, _ := filepath.Glob(filepath.Join(cgroupRoot, p.name))
	return append(v1, v2...)
}

// left are the records that a runner keeps, of sandboxes and of deletions.
func (p places) left() []string {
	var out []string
	for _, dir := range []string{"sandboxes", "trash"} {
		entries, err := os.ReadDir(filepath.Join(p.dir, dir))
		if err != nil {
			out = append(out, err.Error())
		}
		for _, e := range entries {
			out = append(out, strconv.Quote(filepath.Join(p.dir, dir, e.Name())))
		}
	}
	return out
}
