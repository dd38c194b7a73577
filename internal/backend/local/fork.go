package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
)

// MaxForkBytes is how much a sandbox may have on disk to be forked: it stands still while that is copied.
const MaxForkBytes = 16 << 30

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
	case o.networked():
		return refuse("it has no network, and the profile of today gives it one (mode %s): what was saved without goes on without", o.mode)
	}
	if why := b.diskForkable(source, was, w, o); why != "" {
		return refuse("%s", why)
	}
	if p := source.phase(); p != backend.PhaseRunning {
		return refuse("sandbox %s is %s, and only one that runs can be forked", source.id, p)
	}
	return nil
}

// diskForkable says why what a sandbox has on disk cannot be another's too, "" when it can, or when it has nothing there.
func (b *Backend) diskForkable(source *sandbox, was *order, w *backend.Work, o *order) string {
	before, now := diskOf(source.work, was), diskOf(w, o)
	_, noMaps := b.machine.lacks[featureLayout]
	switch {
	case before == 0 && was.image != image.Host && source.usesImage():
		return "what it wrote over its image is in memory of the machine, which is not saved with its own"
	case before != now:
		return fmt.Sprintf("it has %s on disk, and the profile of today gives it %s (resource_defaults.ephemeral_storage_limit)", bytesOrNone(before), bytesOrNone(now))
	case before == 0:
		return ""
	case noMaps:
		return "its files are on disk, and this machine cannot show them with other ids: " + b.machine.lacks[featureLayout]
	case b.diskUsed(source.slot) > MaxForkBytes:
		return fmt.Sprintf("it has more than %d bytes on disk", int64(MaxForkBytes))
	}
	return ""
}

// diskOf is how large the disk of a sandbox is, 0 for none. Under gVisor the image "host" has one where a limit is asked for.
func diskOf(w *backend.Work, o *order) int64 {
	if o.image == image.Host && !limitsDisk(w) {
		return 0
	}
	return o.diskBytes
}

func bytesOrNone(n int64) string {
	if n == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%d bytes", n)
}

// usesImage reports whether a sandbox has an image that is kept for it: any but the machine's /usr.
func (s *sandbox) usesImage() bool { return s.imageDigest() != "" }

// imageDigest is that of the image a sandbox uses, "" for the machine's /usr.
func (s *sandbox) imageDigest() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.image == nil {
		return ""
	}
	return s.image.Digest
}

// saveSource saves the sandbox that another is to begin as, and returns the directory. What an earlier server saved for the same
// sandbox is used again.
func (b *Backend) saveSource(ctx context.Context, s *sandbox) (string, error) {
	dir := filepath.Join(b.place.sandbox(s.slot), forkName)
	b.settleSource(ctx, s)
	c, err := shim.ReadCheckpoint(dir)
	if err != nil {
		return "", err
	}
	if c == nil {
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
		if c, err = b.saveInto(ctx, s.work.Launch.GetForkOf(), dir); err != nil {
			return "", err
		}
	}
	failpoint.Hit(failForkSaved)
	b.publish(s, backend.Observation{Phase: backend.PhaseCreating, At: c.At, Events: []core.Event{forkEvent(s, c)}})
	return dir, nil
}

// saveInto saves a sandbox, with its disk, in a directory.
func (b *Backend) saveInto(ctx context.Context, from, dir string) (*shim.Checkpoint, error) {
	client, err := b.await(ctx, from)
	if err != nil {
		return nil, err
	}
	source, err := b.get(from)
	if err != nil {
		return nil, err
	}
	var disk *wire.Disk
	if exists(b.place.disk(source.slot)) {
		if err := b.readyDisk(source); err != nil {
			return nil, err
		}
		disk = &wire.Disk{File: b.place.disk(source.slot), Mount: image.ScratchDir(b.place.box(source.slot)), Limit: MaxForkBytes}
	}
	if err := source.saved(func() error { return client.Checkpoint(b.ctx, dir, disk) }); err != nil {
		return nil, b.explain(from, err)
	}
	c, err := shim.ReadCheckpoint(dir)
	if err != nil || c == nil {
		return nil, fault.Internalf(err, "what was saved of sandbox %s is not there", from)
	}
	if disk != nil && !exists(shim.DiskFile(dir)) { // Its shim is of an earlier version.
		return nil, errors.Join(fault.Preconditionf(fault.ReasonCheckpointFailed, "the shim of sandbox %s cannot copy its disk: it was started by an earlier version", from), os.RemoveAll(dir))
	}
	return c, nil
}

// readyDisk sees that there is room for a copy of a disk. What is not written yet is written first: then little is left to be written
// while the sandbox stands still, and what is taken of the machine's disk is known.
func (b *Backend) readyDisk(source *sandbox) error {
	dir, err := os.Open(image.ScratchDir(b.place.box(source.slot)))
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(dir.Fd()))
	if err = errors.Join(err, dir.Close()); err != nil {
		return fault.Preconditionf(fault.ReasonCheckpointFailed, "what sandbox %s has on disk cannot be written: %v", source.id, err).WithCause(err)
	}
	return b.roomFor(b.diskUsed(source.slot))
}

// forkedDisk is the copy of the disk that a sandbox begins with, "" when it begins with an empty one.
func (b *Backend) forkedDisk(s *sandbox) string {
	if s.work.Launch.GetForkOf() == "" {
		return ""
	}
	file := shim.DiskFile(filepath.Join(b.place.sandbox(s.slot), forkName))
	if !exists(file) {
		return ""
	}
	return file
}

// takeDisk makes the copy the disk of a sandbox. The copy stays until the sandbox runs, for a start that is begun again: nothing has
// been written to it before.
func takeDisk(file, to string) error {
	if err := removeFile(to); err != nil {
		return err
	}
	return os.Link(file, to)
}

// ownDisk shows a mounted file system with the ids of a sandbox. That of a fork has files with those of the first sandbox that it was
// made for, which owns its root.
func (b *Backend) ownDisk(target string, base uint32) error {
	var st unix.Stat_t
	if err := unix.Lstat(target, &st); err != nil {
		return &os.PathError{Op: "stat", Path: target, Err: err}
	}
	switch st.Uid {
	case base:
		return nil
	case 0:
		return errors.New("the copy of the disk is damaged: its root is no sandbox's")
	}
	return b.library.Layers().Remap(target, st.Uid, base)
}

// settleSource waits, where an earlier server has begun to save the sandbox that s is to begin as, until that is done and it runs
// again: what is saved there is all that there is of it meanwhile.
func (b *Backend) settleSource(ctx context.Context, s *sandbox) {
	if !exists(filepath.Join(b.place.sandbox(s.slot), forkName)) {
		return
	}
	if client, err := b.await(ctx, s.work.Launch.GetForkOf()); err == nil {
		_, _ = client.Info(b.ctx) // It answers once nothing is under way. One that has ended needs nothing more.
	}
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
