package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"sync"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
)

// slotPrefix begins the names of slots: no sandbox's id does.
const slotPrefix = "_"

// neutralName is the host name of a sandbox that is nobody's yet.
const neutralName = "sandbox"

// slot is a prepared sandbox: everything of a sandbox but id, main process and what a launch alone knows. Its directory has no
// work.json: whatever server finds it so removes it.
type slot struct {
	*sandbox
	order *order
	box   *boxed
	// content is what the image was when it was prepared.
	content string
	// watching ends when the slot is taken or discarded.
	watching context.Context //nolint:containedctx // the slot's own lifetime
	unwatch  context.CancelFunc
}

// prepareSlot makes a slot. After an error nothing is left of it, or of what is left the next server is told.
func (b *Backend) prepareSlot(ctx context.Context, p backend.Pool) (_ *slot, err error) {
	ids, err := b.ids.take()
	if err != nil {
		return nil, err
	}
	w := &backend.Work{
		OrgID: p.OrgID, RunnerID: p.RunnerID, ProfileName: p.ProfileName, ZoneName: p.ZoneName, Spec: p.Spec, Digest: p.Digest,
		Launch: &specpb.Launch{Idle: true},
	}
	s := &slot{sandbox: newSandbox(w, ids)}
	s.slot = slotName()
	s.watching, s.unwatch = context.WithCancel(b.ctx)
	defer func() {
		if err != nil {
			s.unwatch()
			if left := b.removeSlot(b.releases, s.slot); left != nil { // Something of it may live, with its ids, on its image.
				err = errors.Join(err, left)
				return
			}
			b.letGo(s.sandbox)
			b.ids.release(ids)
		}
	}()
	if err := os.Mkdir(b.place.sandbox(s.slot), 0o700); err != nil {
		return nil, err
	}
	// The commit of a launch that takes it is work.json alone.
	if err := syncDir(b.place.sandboxes()); err != nil {
		return nil, err
	}
	failpoint.Hit(failSlotMade)
	var fields []fault.Field
	if s.order, fields = read(w, b.machine); len(fields) > 0 {
		return nil, fault.Preconditionf(fault.ReasonBackendUnsupported, "%s: %s", fields[0].Path, fields[0].Description)
	}
	if err := checkPrepared(s.order); err != nil {
		return nil, err
	}
	img, err := b.fetch(ctx, s.sandbox, s.order)
	if err != nil {
		return nil, err
	}
	if s.content, err = b.imageNow(s.order); err != nil {
		return nil, err
	}
	if s.content == "" || img.Image != nil && img.Image.Digest != s.content {
		return nil, fault.Preconditionf(fault.ReasonBackendUnsupported, "image %s is looked up in its registry for every launch, so no sandbox of it can be prepared", s.order.image)
	}
	if s.box, s.client, err = b.bringUp(ctx, s.sandbox, s.order, img, bringing{prepared: true}); err != nil {
		return nil, err
	}
	failpoint.Hit(failSlotReady)
	return s, nil
}

func slotName() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // crypto/rand never fails
	return slotPrefix + hex.EncodeToString(random[:])
}

func isSlot(name string) bool { return strings.HasPrefix(name, slotPrefix) }

// imageNow says what the image of a work is now: prepared sandboxes of other content are not handed out. It is "" where only a registry
// could tell.
func (b *Backend) imageNow(o *order) (string, error) {
	f, err := b.find(o)
	switch {
	case err != nil:
		return "", imageFault(err)
	case f.Image != nil && f.Proven:
		return f.Image.Digest, nil
	case !f.Host: // Also where a registry has to say first whether it may still be used.
		return "", nil
	}
	skeleton, err := b.host.Current()
	if err != nil {
		return "", imageFault(err)
	}
	return image.Host + " " + skeleton.Path, nil
}

// discard ends and removes slots in the background. Those that are discarded while the backend is closed are left to the next server.
func (b *Backend) discard(slots []*slot) {
	for _, s := range slots {
		s.unwatch()
		b.spawn(func() { b.discardNow(b.releases, s) })
	}
}

// discardAll ends and removes slots, and returns when they are gone.
func (b *Backend) discardAll(slots []*slot) {
	forEach(slots, func(s *slot) {
		s.unwatch()
		b.discardNow(b.releases, s)
	})
}

// forEach does something for each of a list, some at a time.
func forEach[T any](list []T, do func(T)) {
	var all sync.WaitGroup
	at := make(chan struct{}, removersAtOnce)
	for _, v := range list {
		at <- struct{}{}
		all.Go(func() {
			defer func() { <-at }()
			do(v)
		})
	}
	all.Wait()
}

// discardNow ends and removes a slot. What cannot be removed is left to the next server.
func (b *Backend) discardNow(ctx context.Context, s *slot) {
	if err := b.removeSlot(ctx, s.slot); err != nil {
		b.log.Error("a prepared sandbox could not be removed", "slot", s.slot, "error", err)
	} else {
		b.letGo(s.sandbox)
		b.ids.release(s.ids)
	}
	b.pools.mu.Lock()
	b.pools.slots--
	b.pools.mu.Unlock()
	b.pools.wake()
}

// removeSlot ends whatever is in a slot that is nobody's, and removes all of it.
func (b *Backend) removeSlot(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	if err := b.quench(ctx, name); err != nil {
		return err
	}
	failpoint.Hit(failSlotEnded)
	if err := b.clearBox(name); err != nil {
		return err
	}
	if err := b.place.discard(name); err != nil {
		return err
	}
	failpoint.Hit(failSlotRemoved)
	return nil
}

// quench ends what runs in a slot, and returns when it is gone.
func (b *Backend) quench(ctx context.Context, name string) error {
	dir := b.place.shimState(name)
	if client, err := shim.Connect(ctx, dir); err == nil {
		if err := client.Stop(ctx, 0); err != nil && !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
			return err
		}
		if _, err := client.Wait(ctx); err != nil && !errors.Is(err, shim.ErrLost) {
			return err
		}
		_ = client.Forget(ctx) // It may have gone by itself.
	}
	_, err := shim.Cleanup(ctx, dir)
	return err
}

// removeSlots removes the slots that an earlier server left.
func (b *Backend) removeSlots(names []string) {
	forEach(names, func(name string) {
		if err := b.removeSlot(b.releases, name); err != nil {
			b.log.Warn("a prepared sandbox of an earlier server could not be removed", "slot", name, "error", err)
		}
	})
}
