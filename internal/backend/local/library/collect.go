package library

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/failpoint"
)

// Collected says what was removed.
type Collected struct {
	Images, Layers int
	Bytes          int64
}

// candidate is an image as the choice of what to remove sees it.
type candidate struct {
	digest string
	used   time.Time
	// kept: it is in use, pinned, or what an alias stands for.
	kept   bool
	layers []v1.Hash
}

// choose returns the images to remove: those not used for longer than keep, and then the ones used longest ago until what is left fits
// into maxBytes and maxImages. What is kept never goes. Pure.
func choose(all []candidate, size map[v1.Hash]int64, now time.Time, keep time.Duration, maxBytes int64, maxImages int) []string {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b candidate) int { return a.used.Compare(b.used) })
	users := map[v1.Hash]int{}
	var total int64
	for _, c := range all {
		for _, h := range c.layers {
			if users[h]++; users[h] == 1 {
				total += size[h]
			}
		}
	}
	left := len(all)
	var out []string
	for _, c := range all {
		over := (maxBytes > 0 && total > maxBytes) || left > maxImages
		if c.kept || (!over && now.Sub(c.used) < keep) {
			continue
		}
		out = append(out, c.digest)
		left--
		for _, h := range c.layers {
			if users[h]--; users[h] == 0 {
				total -= size[h]
			}
		}
	}
	return out
}

// Collect removes what nobody needs: images by age and by size, layers and blobs of no image, downloads that nobody goes on with.
func (l *Library) Collect() (Collected, error) {
	sizes, err := l.layers.Layers()
	if err != nil {
		return Collected{}, err
	}
	l.mu.Lock()
	gone := choose(l.candidates(), bytesOf(sizes), l.cfg.Now(), l.cfg.Keep, l.cfg.MaxBytes, MaxImages)
	err = l.forget(gone)
	done, discard, sweepErr := l.sweep(sizes)
	l.mu.Unlock()
	done.Images = len(gone)
	err = errors.Join(err, sweepErr)
	if discard != nil {
		err = errors.Join(err, discard())
	}
	failpoint.Hit(failCollected)
	if done.Images+done.Layers > 0 {
		l.log.Info("unused images were removed", "images", done.Images, "layers", done.Layers, "bytes", done.Bytes)
	}
	return done, errors.Join(err, l.sweepParts())
}

func bytesOf(sizes map[v1.Hash]image.Unpacked) map[v1.Hash]int64 {
	out := make(map[v1.Hash]int64, len(sizes))
	for h, u := range sizes {
		out[h] = u.Bytes
	}
	return out
}

func (l *Library) candidates() []candidate {
	kept := l.wanted()
	out := make([]candidate, 0, len(l.images))
	for digest, e := range l.images {
		out = append(out, candidate{digest: digest, used: e.used, kept: kept[digest] || l.heldImages[digest] > 0, layers: e.Layers})
	}
	return out
}

// wanted are the images that are pinned, or that an alias of the runner stands for.
func (l *Library) wanted() map[string]bool {
	out := map[string]bool{}
	for name, t := range l.names {
		if t.Pinned || l.pinned[name] {
			out[t.Digest] = true
		}
	}
	for _, a := range l.cfg.Names.Aliases {
		if a.Image == "" {
			continue
		}
		if r, err := parse(a.Image); err == nil {
			if t := l.names[r.name()]; t != nil {
				out[t.Digest] = true
			}
		}
	}
	return out
}

// forget removes records of images: names first, so that a name never leads nowhere. The caller has the lock.
func (l *Library) forget(digests []string) error {
	var errs []error
	for _, d := range digests {
		for _, t := range l.namesOf(d) {
			errs = append(errs, removeQuietly(l.place.name(t.Name)))
			delete(l.names, t.Name)
		}
		errs = append(errs, removeQuietly(l.place.image(d)))
		delete(l.images, d)
		failpoint.Hit(failImageDropped)
	}
	return errors.Join(errs...)
}

// sweep takes away layers and blobs of no image that is recorded or held. The caller has the lock: nobody begins to use one meanwhile.
func (l *Library) sweep(sizes map[v1.Hash]image.Unpacked) (Collected, func() error, error) {
	layers, blobs := map[v1.Hash]bool{}, map[string]bool{}
	for _, e := range l.images {
		blobs[e.Manifest.Digest.Hex], blobs[e.Config.Hex] = true, true
		for _, h := range e.Layers {
			layers[h] = true
		}
	}
	for _, t := range l.names {
		if h, err := v1.NewHash(t.Index); err == nil {
			blobs[h.Hex] = true
		}
	}
	var done Collected
	var stale []v1.Hash
	for h, u := range sizes {
		if !layers[h] && l.held[h] == 0 {
			stale = append(stale, h)
			done.Layers, done.Bytes = done.Layers+1, done.Bytes+u.Bytes
		}
	}
	discard, err := l.layers.Hide(stale)
	if l.writing == 0 { // A pull under way has blobs that no record names yet.
		err = errors.Join(err, l.sweepBlobs(blobs))
	}
	return done, discard, err
}

func (l *Library) sweepBlobs(keep map[string]bool) error {
	entries, err := os.ReadDir(l.place.blobs())
	for _, e := range entries {
		if !keep[e.Name()] {
			err = errors.Join(err, removeQuietly(filepath.Join(l.place.blobs(), e.Name())))
		}
	}
	return err
}

// sweepParts removes downloads that nobody went on with for a while.
func (l *Library) sweepParts() error {
	entries, err := os.ReadDir(l.place.parts())
	for _, e := range entries {
		info, e2 := e.Info()
		if e2 != nil || l.cfg.Now().Sub(info.ModTime()) < keepParts {
			continue
		}
		l.mu.Lock()
		_, busy := l.blobs[v1.Hash{Algorithm: "sha256", Hex: e.Name()}]
		if !busy {
			err = errors.Join(err, removeQuietly(filepath.Join(l.place.parts(), e.Name())))
		}
		l.mu.Unlock()
	}
	return err
}
