package local

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
)

// Suspend saves a sandbox in its state directory. Its shim does it and remembers it, as with Pause.
func (b *Backend) Suspend(ctx context.Context, id string) error {
	s, err := b.get(id)
	if err != nil {
		return err
	}
	if err := b.saves(s); err != nil {
		return err
	}
	client, err := b.await(ctx, id)
	if err != nil {
		return err
	}
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if err := client.Suspend(ctx); err != nil {
		b.askPaused(s, client)
		return b.explain(id, err)
	}
	failpoint.Hit(failSuspended)
	o := paused(b.cfg.Now())
	o.Events[0].Message = "on disk"
	b.publish(s, o)
	return nil
}

// saves says why a sandbox cannot be saved and restored, nil when it can.
func (b *Backend) saves(s *sandbox) error {
	rt, err := b.runtime(s.work.Spec.GetRuntimeClass())
	if err != nil {
		return err
	}
	if !rt.kind.Checkpoints() {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "runtime %s cannot save sandboxes; runsc (gVisor) can", rt.name).
			WithHint("give the profile a runtime_class that berm runner describe shows checkpoint for")
	}
	if o, _ := read(s.work, b.machine); o.networked() {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "sandbox %s has a network, whose open connections the kernel of runtime %s cannot save", s.id, rt.name).
			WithHint("pause it in memory (without --to-disk), or save sandboxes with egress none")
	}
	return nil
}

// forkable says why a work that is to begin as another sandbox cannot, nil when it can: the fields of today must leave what was
// saved as it is.
func (b *Backend) forkable(w *backend.Work, o *order) []fault.Field {
	refuse := func(format string, args ...any) []fault.Field {
		r := &reader{}
		r.refuse("fork_of", format, args...)
		return r.refused
	}
	source, err := b.get(w.Launch.GetForkOf())
	if err != nil {
		return refuse("sandbox %s is not on this runner", w.Launch.GetForkOf())
	}
	if err := b.saves(source); err != nil {
		return refuse("%s", fault.From(err).Message)
	}
	was, _ := read(source.work, b.machine)
	class := func(name string) string {
		if name == "" {
			return b.info.DefaultRuntimeClass
		}
		return name
	}
	switch {
	case class(o.runtime) != class(was.runtime):
		return refuse("it runs with runtime %s, and the profile of today says %s: what was saved under one cannot go on under another", class(was.runtime), class(o.runtime))
	case o.image != was.image:
		return refuse("it has image %s, and the profile of today says %s", was.image, o.image)
	}
	if f, err := b.find(was); err != nil || !f.Host {
		return refuse("forks work with image host alone: what a sandbox wrote over another image is not saved with its memory")
	}
	if limitsDisk(source.work) || limitsDisk(w) {
		return refuse("its files are on disk, with a limit (resource_defaults.ephemeral_storage_limit), and not saved with its memory")
	}
	if o.networked() {
		return refuse("it has no network, and the profile of today gives it one (mode %s): what was saved without goes on without", o.mode)
	}
	if p := source.phase(); p != backend.PhaseRunning {
		return refuse("sandbox %s is %s, and only one that runs can be forked", source.id, p)
	}
	return nil
}

// saveSource saves the sandbox that another is to begin as, and returns the directory. What an earlier server saved for the same
// sandbox is used again.
func (b *Backend) saveSource(ctx context.Context, s *sandbox) (string, error) {
	dir := filepath.Join(b.place.sandbox(s.slot), forkName)
	c, err := shim.ReadCheckpoint(dir)
	if err != nil {
		return "", err
	}
	if c == nil {
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
		from := s.work.Launch.GetForkOf()
		client, err := b.await(ctx, from)
		if err != nil {
			return "", err
		}
		source, err := b.get(from)
		if err != nil {
			return "", err
		}
		if err := source.saved(func() error { return client.Checkpoint(b.ctx, dir) }); err != nil {
			return "", b.explain(from, err)
		}
		if c, err = shim.ReadCheckpoint(dir); err != nil || c == nil {
			return "", fault.Internalf(err, "what was saved of sandbox %s is not there", from)
		}
	}
	failpoint.Hit(failForkSaved)
	b.publish(s, backend.Observation{Phase: backend.PhaseCreating, At: c.At, Events: []core.Event{forkEvent(s, c)}})
	return dir, nil
}

// saved runs the saving of a sandbox, one at a time.
func (s *sandbox) saved(save func() error) error {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	return save()
}

func forkEvent(s *sandbox, c *shim.Checkpoint) core.Event {
	return core.Event{Name: "forked", At: c.At.Truncate(time.Microsecond), Message: "from sandbox " + s.work.Launch.GetForkOf(), Attrs: map[string]string{"from": s.work.Launch.GetForkOf()}}
}
