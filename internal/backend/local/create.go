package local

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// Create accepts a work: it returns when work.json is on disk, and the start goes on without the caller. A second Create of
// an id waits for the first and changes nothing. What Check refuses for its fields is refused here too; an image or runtime
// that is missing shows as an observation, as it would if it went missing right after.
func (b *Backend) Create(ctx context.Context, w *backend.Work) error {
	if err := b.refused(); err != nil {
		return err
	}
	_, fields := read(w, b.machine)
	if w.SandboxID == "" {
		fields = append(fields, fault.Field{Path: "sandbox_id", Description: "a sandbox needs an id"})
	}
	if len(fields) > 0 {
		e := fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s cannot run this sandbox", b.cfg.RunnerName)
		e.Fields = fields
		return e
	}
	if w.SandboxID == "" {
		return fault.Internalf(nil, "a sandbox without an id")
	}
	for {
		accepted, first, err := b.enter(w.SandboxID)
		if err != nil {
			return err
		}
		if first {
			err := b.accept(w)
			b.leave(w.SandboxID, accepted)
			return err
		}
		if accepted == nil {
			return nil
		}
		select {
		case <-accepted:
		case <-ctx.Done():
			return fault.New(fault.Canceled, "CANCELED", "the request was cancelled").WithCause(ctx.Err())
		}
	}
}

// enter reserves an id for one Create. first says that the caller has it; otherwise the channel, if any, is closed when
// the other Create is done, and nil means that the sandbox exists.
func (b *Backend) enter(id string) (done chan struct{}, first bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, false, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner is being stopped")
	}
	if _, ok := b.sandboxes[id]; ok {
		return nil, false, nil
	}
	if c, ok := b.creating[id]; ok {
		return c, false, nil
	}
	if n := len(b.sandboxes) + len(b.creating); n >= MaxSandboxes {
		return nil, false, fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "this machine keeps %d sandboxes; there is no room for more", n).
			WithHint("delete sandboxes that have ended")
	}
	done = make(chan struct{})
	b.creating[id] = done
	return done, true, nil
}

func (b *Backend) leave(id string, done chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.creating, id)
	close(done)
}

// accept writes the work down and begins the start, of a prepared sandbox if there is one. After an error nothing is left.
func (b *Backend) accept(w *backend.Work) error {
	slot, verdict := b.take(w)
	if slot != nil {
		return b.acceptPrepared(w, slot, verdict)
	}
	return b.acceptNew(w, verdict)
}

func (b *Backend) acceptNew(w *backend.Work, v *core.WarmVerdict) (err error) {
	ids, err := b.ids.take()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			if remains := (*remainsError)(nil); !errors.As(err, &remains) { // The next server would find them.
				b.ids.release(ids)
			}
			b.log.Warn("a sandbox was not accepted", "sandbox", w.SandboxID, "error", err)
			err = b.told(b.storeFault(w.SandboxID, err))
		}
	}()
	now := b.cfg.Now()
	r, err := newWorkRecord(w, ids, now, b.cfg.BootID)
	if err != nil {
		return err
	}
	r.Warm = v
	// The sandbox must not change with the caller's message.
	own, err := r.work()
	if err != nil {
		return err
	}
	if err := b.writeDown(w, r); err != nil {
		return err
	}
	s := newSandbox(own, ids)
	s.secrets = secretEnv(w)
	b.add(s)
	b.publish(s, backend.Observation{Phase: backend.PhaseCreating, At: now, Events: acceptEvents(now, v)})
	b.begin(s)
	return nil
}

// writeDown makes the records of a sandbox. After an error it has none, unless there were some before.
func (b *Backend) writeDown(w *backend.Work, r *workRecord) (err error) {
	dir := b.place.sandbox(w.SandboxID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		if left := os.RemoveAll(dir); left != nil {
			err = errors.Join(err, &remainsError{left})
		}
	}()
	failpoint.Hit(failDirMade)
	if err := writeContents(b.place.mounted(w.SandboxID), w.Launch.GetMountedFiles()); err != nil {
		return err
	}
	if err := writeRecord(dir, workName, r); err != nil {
		return err
	}
	if err := syncDir(b.place.sandboxes()); err != nil {
		return err
	}
	failpoint.Hit(failAccepted)
	return nil
}

func (b *Backend) add(s *sandbox) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sandboxes[s.id] = s
}

// remainsError says that what was written of a sandbox could not be taken back.
type remainsError struct{ err error }

func (e *remainsError) Error() string { return "remove: " + e.err.Error() }
func (e *remainsError) Unwrap() error { return e.err }

// storeFault says that the state directory did not take a sandbox. Unavailable leaves open whether it did, or will; all else
// means that it did not.
func (b *Backend) storeFault(id string, err error) error {
	var f *fault.Error
	var remains *remainsError
	switch {
	case errors.As(err, &f):
		return err
	case errors.As(err, &remains):
		return fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "sandbox %s could not be written down: %v", id, err).WithCause(err)
	case errors.Is(err, fs.ErrExist):
		return fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "what is left of another sandbox %s is in the way", id).WithCause(err).
			WithHint("a deletion of the same id is not over yet: try again")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.New(fault.Exhausted, fault.ReasonStoreUnavailable, "the disk of runner %s is full", b.cfg.RunnerName).WithCause(err).
			WithHint("free space on the file system of the server's data directory")
	}
	return fault.Preconditionf(fault.ReasonStoreUnavailable, "runner %s could not write the sandbox down: %v", b.cfg.RunnerName, err).WithCause(err).
		WithHint("see that the server's data directory can be written")
}
