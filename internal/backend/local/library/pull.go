package library

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/backend/local/image/registry"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// pullFrom pulls an image from one source and records it.
func (l *Library) pullFrom(ctx context.Context, fl *flight, r reference, s source) error {
	session, err := l.client.Open(ctx, s.repo)
	if err != nil {
		return err
	}
	data, top, err := session.Manifest(ctx, r.identifier())
	if err != nil {
		return err
	}
	if err := l.keepBlob(top.Digest, data); err != nil {
		return err
	}
	img, err := image.From(r.text, top, l.cfg.Architecture, l.place.dir, func(d v1.Descriptor, limit int64) ([]byte, error) {
		return l.small(ctx, session, r.repo.Name(), d, limit)
	})
	if err != nil {
		return err
	}
	if err := checkSizes(img); err != nil {
		return err
	}
	hold, _ := l.take(img)
	if err := l.fetchLayers(ctx, fl, session, r.repo.Name(), img); err != nil {
		hold.Release()
		return err
	}
	failpoint.Hit(failPulled)
	names := []*tag{{Name: r.name()}, {Name: byDigest(r.repo.Name(), img.Digest)}}
	if top.Digest.String() != img.Digest {
		fl.index = top.Digest.String()
		names = append(names, &tag{Name: byDigest(r.repo.Name(), fl.index)})
	}
	l.mu.Lock()
	for _, t := range names {
		t.Index, t.Proofs = fl.index, l.newProof(t.Name, session, s)
	}
	err = l.record(img, "", s.String(), fl.downloaded, names)
	l.mu.Unlock()
	if err != nil {
		hold.Release()
		return err
	}
	fl.img, fl.hold = img, hold
	return nil
}

// checkSizes refuses, before anything of them is downloaded, layers that would be refused after it.
func checkSizes(img *image.Image) error {
	var total int64
	for i, layer := range img.Layers {
		if layer.Size < 0 || layer.Size > image.MaxBlobBytes {
			return fault.Invalidf(fault.ReasonImageInvalid, "image %s: layer %d of %d has %d bytes, at most %d are taken", img.Ref, i+1, len(img.Layers), layer.Size, int64(image.MaxBlobBytes))
		}
		if total += layer.Size; total > image.MaxImageBytes {
			return fault.Invalidf(fault.ReasonImageInvalid, "image %s has more than %d bytes", img.Ref, int64(image.MaxImageBytes))
		}
		for _, h := range []v1.Hash{layer.Digest, layer.DiffID} {
			if _, err := image.BlobPath("", h); err != nil {
				return fault.Invalidf(fault.ReasonImageInvalid, "image %s: layer %d of %d: %v", img.Ref, i+1, len(img.Layers), err)
			}
		}
	}
	return nil
}

// small returns an index, manifest or configuration, from the registry, or from here if the repository is known to have it.
func (l *Library) small(ctx context.Context, session *registry.Session, repo string, d v1.Descriptor, limit int64) ([]byte, error) {
	if l.content.isLocated(repo, d.Digest) {
		if data, err := image.ReadBlob(l.place.dir, d, limit); err == nil {
			return data, nil
		}
	}
	var data []byte
	var err error
	if d.MediaType.IsIndex() || d.MediaType.IsImage() {
		data, _, err = session.Manifest(ctx, d.Digest.String())
		if err == nil && int64(len(data)) != d.Size {
			err = fault.Invalidf(fault.ReasonImageInvalid, "manifest %s has %d bytes, the index says %d", d.Digest, len(data), d.Size)
		}
	} else {
		data, err = session.Small(ctx, d, limit)
	}
	if err != nil {
		return nil, err
	}
	return data, l.keepBlob(d.Digest, data)
}

// keepBlob keeps something small whose digest was checked.
func (l *Library) keepBlob(h v1.Hash, data []byte) error {
	if _, err := image.BlobPath("", h); err != nil {
		return fault.Invalidf(fault.ReasonImageInvalid, "%v", err)
	}
	if err := writeWhole(l.place.blob(h), data); err != nil {
		return err
	}
	failpoint.Hit(failBlobKept)
	return nil
}

// fetchLayers downloads and unpacks the layers that are missing, and those that are here from elsewhere without being known to be what the
// repository has.
func (l *Library) fetchLayers(ctx context.Context, fl *flight, session *registry.Session, repo string, img *image.Image) error {
	var missing []int
	seen := map[archived]bool{}
	var total, absent int64
	for i, layer := range img.Layers {
		pair, here := archived{layer.Digest, layer.DiffID}, l.layers.Has(layer)
		if seen[pair] || here && l.content.isArchived(layer) && l.content.isLocated(repo, layer.Digest) {
			continue
		}
		seen[pair] = true
		missing = append(missing, i)
		if total += layer.Size; !here {
			absent += layer.Size
		}
	}
	fl.update(func(p *Progress) { p.Layers, p.Total = len(missing), total })
	if err := image.Room(l.place.dir, absent); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLayers)
	u := &unpacking{repo: repo, left: image.MaxImageBytes}
	for _, i := range missing {
		group.Go(func() error { return l.fetchLayer(ctx, fl, session, img, i, u) })
	}
	err := group.Wait()
	fl.unpacked.Bytes, fl.unpacked.Entries = u.total.Bytes, u.total.Entries
	return err
}

// unpacking unpacks one layer of an image after the other: together they have one budget.
type unpacking struct {
	// repo is the repository that the image is of.
	repo string

	mu    sync.Mutex
	left  int64
	total image.Unpacked
}

// isShown reports whether a layer that is here is what its blob holds, and whether the repository has that blob: asked, where it is not
// known.
func (l *Library) isShown(ctx context.Context, session *registry.Session, repo string, layer image.Layer) bool {
	if !l.content.isArchived(layer) {
		return false
	}
	if l.content.isLocated(repo, layer.Digest) {
		return true
	}
	if session.Holds(ctx, registry.Blobs, layer.Digest.String()) != nil { // The download will say why, if it fails too.
		return false
	}
	l.content.located(repo, layer.Digest)
	return true
}

// fetchLayer downloads and unpacks one layer, unless another pull does.
func (l *Library) fetchLayer(ctx context.Context, fl *flight, session *registry.Session, img *image.Image, i int, u *unpacking) error {
	layer := img.Layers[i]
	free, err := l.enter(ctx, layer.Digest)
	if err != nil {
		return err
	}
	defer free()
	if l.layers.Has(layer) && l.isShown(ctx, session, u.repo, layer) {
		fl.update(func(p *Progress) { p.Done++; p.Bytes += layer.Size })
		return nil
	}
	var before int64
	part := l.place.part(layer.Digest)
	if info, err := os.Stat(part); err == nil {
		before = min(info.Size(), layer.Size)
	}
	var told int64
	d := v1.Descriptor{MediaType: layer.MediaType, Digest: layer.Digest, Size: layer.Size}
	err = session.Download(ctx, d, part, func(n int64) {
		fl.update(func(p *Progress) { p.Bytes += n - told })
		told = n
	})
	if err != nil {
		return err
	}
	blob := l.place.blob(layer.Digest)
	if err := os.Rename(part, blob); err != nil {
		return err
	}
	failpoint.Hit(failLayerKept)
	done, err := u.unpack(ctx, l.layers, img, i)
	if rm := removeQuietly(blob); err == nil {
		err = rm
	}
	if err != nil {
		return err
	}
	l.content.located(u.repo, layer.Digest)
	l.content.archived(layer)
	fl.update(func(p *Progress) { p.Done++; p.Bytes += layer.Size - max(told, before) })
	u.mu.Lock()
	defer u.mu.Unlock()
	fl.downloaded += layer.Size - before
	u.total.Bytes, u.total.Entries = u.total.Bytes+done.Bytes, u.total.Entries+done.Entries
	return nil
}

func (u *unpacking) unpack(ctx context.Context, store *image.Store, img *image.Image, i int) (image.Unpacked, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if store.Has(img.Layers[i]) { // From elsewhere: whether this blob holds it, nobody has seen yet.
		return image.Unpacked{}, store.ProveLayer(ctx, img, i, u.left)
	}
	done, err := store.UnpackLayer(ctx, img, i, u.left)
	u.left -= done.Bytes
	return done, err
}

// enter waits until no other pull fetches a blob.
func (l *Library) enter(ctx context.Context, h v1.Hash) (free func(), err error) {
	for {
		l.mu.Lock()
		wait, busy := l.blobs[h]
		if !busy {
			mine := make(chan struct{})
			l.blobs[h] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.blobs, h)
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// diskFault says that this machine did not take an image.
func diskFault(r reference, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.New(fault.Exhausted, fault.ReasonStoreUnavailable, "image %s: the disk of the runner is full", r.text).WithCause(err).
			WithHint("free space on the file system of the server's data directory: berm image rm removes images")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fault.Preconditionf(fault.ReasonStoreUnavailable, "image %s: the runner cannot write to its disk", r.text).WithCause(err)
	}
	return fmt.Errorf("image %s: %w", r.text, err)
}
