package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
)

// A launch takes a slot in two steps. work.json, written into the slot's directory and flushed, makes it the sandbox's: before it
// the slot is nobody's, whoever dies. Then the shim is given the main process, once. A slot that turns out to be dead in between has
// never run anything: the sandbox is then started as if there had been none.

// take returns a slot for a work, which is the caller's from then on, and the verdict; nil and nil when there are no pools.
func (b *Backend) take(w *backend.Work) (*slot, *core.WarmVerdict) {
	b.pools.mu.Lock()
	none := len(b.pools.byKey) == 0
	b.pools.mu.Unlock()
	if none {
		return nil, nil
	}
	o, _ := read(w, b.machine) // Create has seen that nothing of it is refused.
	image, err := b.imageNow(o)
	if err != nil {
		image = "" // The start will say so.
	}
	s, v, useless := b.pools.take(w, image, b.needsOwn(w, o))
	b.discard(useless)
	b.pools.wake()
	return s, v
}

// needsOwn says what of a request must be there from the start of a sandbox, "" for nothing.
func (b *Backend) needsOwn(w *backend.Work, o *order) string {
	files := w.Launch.GetMountedFiles()
	if len(files) == 0 {
		return ""
	}
	if b.cannotBind != "" {
		return "mounted_files: " + b.cannotBind
	}
	if rt, err := b.runtime(o.runtime); err == nil && rt.kind.Dials() {
		return "mounted_files: a sandbox of runtime " + rt.name + " has mounts of its own, which take no more once it is made"
	}
	found, err := b.find(o)
	for _, f := range files {
		if err == nil && found.Host && !inTmpfs(f.GetPath()) {
			return "mounted_files: " + f.GetPath() + " is outside of the private file systems of the image host, which need a root of their own for it"
		}
	}
	return ""
}

// take finds a slot that is as good as one made for w. Those of another image are useless. own says why the request needs one of its
// own, "" when it does not.
func (p *pools) take(w *backend.Work, image, own string) (s *slot, v *core.WarmVerdict, useless []*slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, ok := p.byKey[poolKey{w.OrgID, w.ProfileName}]
	if !ok {
		return nil, &core.WarmVerdict{Reason: core.WarmNoPool, Message: "the binding keeps no prepared sandboxes"}, nil
	}
	v = from.refuse(w, own)
	if v == nil && len(from.ready) > 0 && from.ready[0].content != image {
		v = &core.WarmVerdict{Reason: core.WarmImageChanged, Message: "the image is not any more what it was when they were prepared"}
		useless, from.ready = from.ready, nil
	}
	if v != nil {
		from.misses++
		return nil, v, useless
	}
	s, from.ready = from.ready[0], from.ready[1:]
	s.unwatch()
	p.slots--
	from.died = 0
	from.hits++
	return s, &core.WarmVerdict{Hit: true}, nil
}

// refuse says why a work cannot have a slot of the pool, nil when it can.
func (p *pool) refuse(w *backend.Work, own string) *core.WarmVerdict {
	switch {
	case p.want.Digest != w.Digest:
		return backend.SpecDiffers(p.want.Spec, w.Spec)
	case own != "":
		return &core.WarmVerdict{Reason: core.WarmRequestNeeds, Message: own}
	case w.Launch.GetForkOf() != "":
		return &core.WarmVerdict{Reason: core.WarmRequestNeeds, Message: "fork_of: it begins as another sandbox is"}
	case len(p.ready) > 0:
		return nil
	case p.problem != "":
		return &core.WarmVerdict{Reason: core.WarmFailing, Message: "none could be prepared: " + p.problem}
	case p.died > 0:
		return &core.WarmVerdict{Reason: core.WarmDied, Message: "those that were prepared have died"}
	}
	return &core.WarmVerdict{Reason: core.WarmRefilling, Message: "all that were prepared are used, new ones are on the way"}
}

// acceptPrepared makes a slot the sandbox of a work: it returns when work.json is on disk. After an error nothing is left.
func (b *Backend) acceptPrepared(w *backend.Work, sl *slot, v *core.WarmVerdict) (err error) {
	defer func() {
		if err == nil {
			return
		}
		b.log.Warn("a sandbox was not accepted", "sandbox", w.SandboxID, "error", err)
		if left := b.removeSlot(b.releases, sl.slot); left != nil {
			err = errors.Join(err, &remainsError{left})
		} else {
			b.letGo(sl.sandbox)
			b.ids.release(sl.ids)
		}
		err = b.told(b.storeFault(w.SandboxID, err))
	}()
	now := b.cfg.Now()
	r, err := newWorkRecord(w, sl.ids, now, b.cfg.BootID)
	if err != nil {
		return err
	}
	own, err := r.work()
	if err != nil {
		return err
	}
	o, _ := read(own, b.machine) // Create has seen that nothing of it is refused.
	begin := b.beginOf(sl, w, o)
	r.Warm, r.Begin = v, &begin
	if err := b.nameBox(sl.slot, begin.Hostname); err != nil {
		return err
	}
	if err := writeContents(b.place.mounted(sl.slot), w.Launch.GetMountedFiles()); err != nil {
		return err
	}
	failpoint.Hit(failSlotTaken)
	if err := writeRecord(b.place.sandbox(sl.slot), workName, r); err != nil {
		return err
	}
	failpoint.Hit(failSlotClaimed)
	s := newSandbox(own, sl.ids)
	s.secrets = secretEnv(w)
	s.slot, s.submitted, s.image = sl.slot, sl.submitted, sl.image
	b.add(s)
	b.publish(s, backend.Observation{Phase: backend.PhaseCreating, At: now, Events: append(acceptEvents(now, v), sl.imageEvents(now)...)})
	b.beginWith(s, func(ctx context.Context) error { return b.startPrepared(ctx, s, sl.client, begin) })
	return nil
}

// beginOf is what a slot becomes for a launch.
func (b *Backend) beginOf(s *slot, w *backend.Work, o *order) shim.Begin {
	begin := shim.Begin{Hostname: hostname(w.SandboxID), Env: s.box.envOf(o), WorkDir: s.box.dir, Main: s.box.mainOf(o)}
	for i, f := range w.Launch.GetMountedFiles() {
		begin.Binds = append(begin.Binds, shim.Bind{
			Source: filepath.Join(b.place.mounted(s.slot), strconv.Itoa(i)), Target: f.GetPath(), Owner: int(base(s.ids)),
		})
	}
	return begin
}

// imageEvents are what was told of image and network when the slot was prepared, as of now.
func (s *slot) imageEvents(now time.Time) []core.Event {
	var events []core.Event
	for _, e := range s.told {
		if e.Name == eventImage || e.Name == eventNetwork {
			e.At = now
			events = append(events, e)
		}
	}
	return events
}

// acceptEvents are the events of a sandbox that was accepted.
func acceptEvents(at time.Time, v *core.WarmVerdict) []core.Event {
	events := []core.Event{{Name: "created", At: at}}
	if v != nil {
		events = append(events, v.Event(at))
	}
	return events
}

// startPrepared gives a prepared sandbox its main process. client is its shim's, nil when that is to be found.
func (b *Backend) startPrepared(ctx context.Context, s *sandbox, client *shim.Client, begin shim.Begin) error {
	defer b.pools.launch()()
	secrets, err := s.secretsNow()
	if err == nil && (ctx.Err() != nil || s.stopping() != nil) {
		err = context.Canceled
	}
	if err != nil {
		return errors.Join(b.quench(b.releases, s.slot), err)
	}
	begin.Secrets = secrets
	if client == nil {
		client, err = shim.Connect(b.ctx, b.place.shimState(s.slot))
	}
	if err == nil {
		err = client.Begin(b.ctx, begin)
	}
	failpoint.Hit(failSlotBegun)
	if err == nil {
		b.started(s, client)
		return nil
	}
	if b.ctx.Err() != nil {
		return err
	}
	// Whether it has a main process, its own record tells.
	state, unreadable := b.settled(b.place.shimState(s.slot))
	switch {
	case unreadable != nil:
	case client != nil && (state.Status == shim.StatusRunning || state.Status == shim.StatusStopping):
		b.started(s, client)
		return nil
	case neverBegan(state):
		b.log.Warn("a prepared sandbox was dead when it was to begin", "sandbox", s.id, "error", err)
		return b.startInstead(ctx, s)
	case state.Status == shim.StatusLost:
		return errors.Join(shim.ErrDied, err) // Its main process may have run.
	}
	return err
}

// neverBegan reports whether a slot never had a main process. It holds within one boot of the machine: see thisBoot.
func neverBegan(state shim.State) bool {
	return state.Record != nil && state.Record.Phase == shim.PhasePrepared
}

// startInstead starts a sandbox from the beginning in the place of the slot that was to become it.
func (b *Backend) startInstead(ctx context.Context, s *sandbox) error {
	v := &core.WarmVerdict{Reason: core.WarmDied, Message: "the one that was taken had died, or could not be given what is the launch's"}
	if err := b.quench(b.releases, s.slot); err != nil {
		return err
	}
	// From here on it is a sandbox like any other, for the next server too.
	r := &workRecord{}
	ok, err := readRecord(b.place.sandbox(s.slot), workName, r)
	if err != nil || !ok {
		return errors.Join(err, os.ErrNotExist)
	}
	r.Warm, r.Begin = v, nil
	if err := writeRecord(b.place.sandbox(s.slot), workName, r); err != nil {
		return err
	}
	s.submit(nil)
	if err := errors.Join(b.clearBox(s.slot), os.RemoveAll(b.place.shimState(s.slot))); err != nil {
		return err
	}
	b.publish(s, backend.Observation{Phase: backend.PhaseCreating, Events: []core.Event{v.Event(b.cfg.Now())}})
	return b.start(ctx, s)
}

// recoverPrepared takes up a sandbox that was a slot when an earlier server died: it has its main process, or gets it now.
func (b *Backend) recoverPrepared(f *found, state shim.State) {
	s, begin := f.sandbox, *f.record.Begin
	switch {
	case neverBegan(state):
		b.beginWith(s, func(ctx context.Context) error { return b.startPrepared(ctx, s, nil, begin) })
	case state.Record == nil && state.Exit == nil:
		// A shim was there, and what it wrote is not any more: whether it had begun, nobody knows.
		b.spawn(func() { b.endLost(s, unseen) })
	default:
		b.recoverStarted(f, state)
	}
}
