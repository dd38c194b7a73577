package library

import (
	"context"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// List lists the images that are here, those with names first.
func (l *Library) List() ([]backend.Image, error) {
	sizes, err := l.layers.Layers()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	users := map[v1.Hash]int{}
	for _, e := range l.images {
		for _, h := range unique(e.Layers) {
			users[h]++
		}
	}
	out := make([]backend.Image, 0, len(l.images))
	for digest := range l.images {
		out = append(out, l.describe(digest, func(h v1.Hash) (int64, int) { return sizes[h].Bytes, users[h] }))
	}
	slices.SortFunc(out, func(a, b backend.Image) int {
		if (len(a.Names) == 0) != (len(b.Names) == 0) {
			return len(b.Names) - len(a.Names)
		}
		return strings.Compare(strings.Join(a.Names, " ")+a.Digest, strings.Join(b.Names, " ")+b.Digest)
	})
	return out, nil
}

func unique(layers []v1.Hash) []v1.Hash {
	var out []v1.Hash
	for _, h := range layers {
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// describe says what an image is. The caller has the lock.
func (l *Library) describe(digest string, size func(v1.Hash) (bytes int64, users int)) backend.Image {
	e := l.images[digest]
	img := backend.Image{
		Digest: digest, From: e.From, PulledAt: e.At, UsedAt: e.used, Layers: len(e.Layers), InUse: l.uses[digest],
		Pinned: l.wanted()[digest],
	}
	for _, t := range l.namesOf(digest) {
		if !strings.Contains(t.Name, "@") {
			img.Names = append(img.Names, pretty(t.Name))
		}
		if t.Index != "" {
			img.Index = t.Index
		}
	}
	for _, h := range unique(e.Layers) {
		bytes, users := size(h)
		img.Bytes += bytes
		if users <= 1 {
			img.Own += bytes
		}
	}
	return img
}

// Pull asks the registry for an image and makes it present.
func (l *Library) Pull(ctx context.Context, in backend.ImagePull, report func(backend.ImageProgress)) (*backend.Image, error) {
	r := Request{Ref: in.Ref, Refresh: true, Pin: in.Pin}
	if report != nil {
		r.Report = func(p Progress) { report(backend.ImageProgress(p)) }
	}
	g, err := l.Get(ctx, r)
	if err != nil {
		return nil, err
	}
	if g.Host {
		return nil, fault.Preconditionf(fault.ReasonImageInvalid, "image %s is this machine's own /usr: there is nothing to pull", in.Ref)
	}
	defer g.Hold.Release()
	img, err := l.one(g.Image.Digest)
	if err == nil {
		img.Downloaded = g.Downloaded
	}
	return img, err
}

// one describes one image.
func (l *Library) one(digest string) (*backend.Image, error) {
	list, err := l.List()
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Digest == digest {
			return &list[i], nil
		}
	}
	return nil, fault.NotFoundf(fault.ReasonImageNotFound, "image %s is not here any more", digest)
}

// minPrefix is the least of a digest that names an image, in hexadecimal digits.
const minPrefix = 6

// named finds what ref names: one name, or an image by digest or by the beginning of one. The caller has the lock.
func (l *Library) named(ref string) (names []*tag, digest string, err error) {
	if r, err := parse(ref); err == nil {
		if t := l.names[r.name()]; t != nil {
			if r.digest == "" && l.tags(t.Digest) > 1 {
				return []*tag{t}, "", nil
			}
			return l.namesOf(t.Digest), t.Digest, nil
		}
	}
	prefix := strings.TrimPrefix(ref, "sha256:")
	var found []string
	for d := range l.images {
		if len(prefix) >= minPrefix && strings.HasPrefix(strings.TrimPrefix(d, "sha256:"), prefix) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return nil, "", fault.NotFoundf(fault.ReasonImageNotFound, "this runner has no image %q", ref).
			WithHint("berm image ls lists names and digests; %d digits of a digest are enough", minPrefix)
	case 1:
		return l.namesOf(found[0]), found[0], nil
	}
	return nil, "", fault.Invalidf(fault.ReasonImageInvalid, "%q is the beginning of %d digests; give more of it", ref, len(found))
}

func (l *Library) tags(digest string) int {
	n := 0
	for _, t := range l.names {
		if t.Digest == digest && !strings.Contains(t.Name, "@") {
			n++
		}
	}
	return n
}

// Remove removes a name or an image.
func (l *Library) Remove(ref string, force bool) (*backend.ImageRemoval, error) {
	l.mu.Lock()
	names, digest, err := l.named(ref)
	if err == nil && !force {
		err = l.mayRemove(ref, names, digest)
	}
	out := &backend.ImageRemoval{Digest: digest}
	if err == nil {
		for _, t := range names {
			if !strings.Contains(t.Name, "@") {
				out.Names = append(out.Names, pretty(t.Name))
			}
			if digest == "" {
				delete(l.names, t.Name)
				err = removeQuietly(l.place.name(t.Name))
			}
		}
		if digest != "" {
			err = l.forget([]string{digest})
		}
	}
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	done, err := l.Collect()
	out.Freed = done.Bytes
	return out, err
}

// mayRemove refuses what somebody counts on.
func (l *Library) mayRemove(ref string, names []*tag, digest string) error {
	for _, t := range names {
		if t.Pinned || l.pinned[t.Name] {
			return fault.Preconditionf(fault.ReasonImageInvalid, "image %s is pinned as %s", ref, pretty(t.Name)).
				WithHint("berm image rm --force removes it all the same")
		}
	}
	if n := l.uses[digest]; digest != "" && n > 0 {
		return fault.Preconditionf(fault.ReasonImageInvalid, "image %s is in use by %d sandboxes", ref, n).
			WithHint("stop them; or berm image rm --force removes its names now, and its content when they have ended")
	}
	return nil
}
