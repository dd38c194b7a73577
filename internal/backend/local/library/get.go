package library

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/backend/local/image"
)

// Progress is how far a pull is.
type Progress struct {
	// Source is where it is pulled from.
	Source string
	// Layers is how many layers there are to fetch, Done how many of them are unpacked.
	Layers, Done int
	// Bytes of Total were downloaded.
	Bytes, Total int64
}

// Got is an image that is here, with all layers unpacked, and held.
type Got struct {
	*Found
	// Hold keeps it; nil for the machine's /usr.
	Hold *Hold
	// Index is the digest that the name has in the registry, where that is an index of several platforms; else "".
	Index string
	// Source is where it was pulled from now, "" when it was here.
	Source string
	// Shared: another launch pulled it, this one waited.
	Shared bool
	// Downloaded and Unpacked are what was done now, both zero when everything was here.
	Downloaded int64
	Unpacked   image.Unpacked
	Took       time.Duration
}

// Cached reports whether everything was here.
func (g *Got) Cached() bool { return g.Downloaded == 0 && g.Unpacked.Entries == 0 }

// Request is what is wanted.
type Request struct {
	Ref string
	// Extra are aliases and mirrors of the zone.
	Extra Names
	// Use says that what is held is used by a sandbox.
	Use bool
	// Refresh asks the registry even when an image of the name is here. Pin keeps it from being collected.
	Refresh, Pin bool
	// Prefer is the digest of the manifest that was chosen before for the same purpose; it is taken when it is here.
	Prefer string
	// Exact says that nothing else will do: where it is not here, it is pulled by its digest, whatever the name stands for by now.
	Exact bool
	// Pulling is called once when a registry is asked, Report now and then while it is.
	Pulling func()
	Report  func(Progress)
}

// Get makes an image present and holds it. Pulls of the same image are shared; one goes on as long as anybody waits for it. Faults
// are those of Find, of package registry, and IMAGE_INVALID.
func (l *Library) Get(ctx context.Context, r Request) (*Got, error) {
	at := time.Now()
	f, err := l.preferred(r)
	if f == nil {
		f, err = l.find(r.Ref, r.Extra, r.Refresh)
	}
	if err != nil {
		return nil, err
	}
	if r.Exact {
		l.exactly(f, r.Prefer, r.Extra)
	}
	g := &Got{Found: f}
	if f.Host {
		return g, nil
	}
	if f.Image != nil && !(r.Refresh && !f.Layout) {
		if err := l.verify(ctx, f, r.Extra); err != nil {
			return nil, err
		}
		hold, whole := l.take(f.Image)
		g.Hold = hold
		if f.Layout {
			err = l.unpackLayout(ctx, g)
		}
		if (whole || f.Layout) && err == nil {
			l.noteUse(g, r)
			g.Took = time.Since(at)
			return g, nil
		}
		hold.Release()
		if err != nil {
			return nil, err
		}
	}
	if err := l.mayPull(f, r.Extra, r.Refresh); err != nil {
		return nil, err
	}
	if r.Pulling != nil {
		r.Pulling()
	}
	if err := l.pull(ctx, g, r); err != nil {
		return nil, err
	}
	l.noteUse(g, r)
	g.Took = time.Since(at)
	return g, nil
}

// unpackLayout unpacks what is missing of an image whose blobs are in a layout.
func (l *Library) unpackLayout(ctx context.Context, g *Got) error {
	var err error
	if g.Unpacked, err = l.unpack(ctx, g.Image); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.record(g.Image, g.Alias.Layout.Layout, "an OCI layout", 0, nil)
}

// unpack makes the layers of an image present whose blobs are on this machine, in a layout or an archive. What such a thing says of a
// layer that is here from elsewhere is not believed either.
func (l *Library) unpack(ctx context.Context, img *image.Image) (image.Unpacked, error) {
	for i, layer := range img.Layers {
		if l.layers.Has(layer) && !l.content.isArchived(layer) {
			if err := l.layers.ProveLayer(ctx, img, i, image.MaxImageBytes); err != nil {
				return image.Unpacked{}, err
			}
			l.content.archived(layer)
		}
	}
	done, err := l.layers.Unpack(ctx, img)
	if err == nil {
		l.content.archived(img.Layers...)
	}
	return done, err
}

func (l *Library) noteUse(g *Got, r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Use {
		g.Hold.use = true
		l.uses[g.Hold.Digest]++
	}
	l.use(g.Image.Digest)
	if t := l.names[g.ref.name()]; t != nil {
		g.Index = t.Index
		if r.Pin && !t.Pinned {
			t.Pinned = true
			if err := writeRecord(l.place.name(t.Name), t); err != nil {
				l.log.Warn("a pin could not be written down", "image", t.Name, "error", err)
			}
		}
	}
}

// exactly turns what a name stands for into the image of its repository with a digest, unless it is that. What is in a layout stays.
func (l *Library) exactly(f *Found, digest string, extra Names) {
	if f.Host || f.Layout || f.Image != nil && f.Image.Digest == digest {
		return
	}
	f.ref.tag, f.ref.digest, f.Image, f.From, f.Proven = "", digest, nil, "", false
	f.Name = pretty(f.ref.name())
	l.here(f, extra)
}

// preferred returns the image that was chosen before, nil when there is none or it is gone.
func (l *Library) preferred(r Request) (*Found, error) {
	if r.Prefer == "" {
		return nil, nil
	}
	l.mu.Lock()
	e := l.images[r.Prefer]
	l.mu.Unlock()
	if e == nil || e.Layout != "" {
		return nil, nil
	}
	img, err := l.open(r.Ref, e)
	if err != nil {
		return nil, nil //nolint:nilerr // it is looked for anew
	}
	ref, err := parse(r.Ref)
	return &Found{Ref: r.Ref, Name: pretty(ref.name()), Image: img, From: e.From, Proven: true, ref: ref}, err
}
