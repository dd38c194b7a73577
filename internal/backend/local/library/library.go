package library

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/singleflight"

	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/backend/local/image/registry"
)

// Policy says when a tag is looked up in a registry. A digest never has to be.
type Policy string

// The policies.
const (
	// PullMissing: when no image of the name is here.
	PullMissing Policy = "missing"
	// PullAlways: at each launch; what is here already is not downloaded again.
	PullAlways Policy = "always"
	// PullNever: not at all. Images are imported, or pulled by hand.
	PullNever Policy = "never"
)

// Config shapes a Library.
type Config struct {
	// Dir is where everything is kept.
	Dir string
	// Architecture is a GOARCH value; "" is this machine's.
	Architecture string
	// Names are the runner's own aliases and mirrors.
	Names Names
	// Sealed are registries, by canonical host, that are read through their mirrors alone.
	Sealed   map[string]bool
	Pull     Policy
	Verify   Verify
	Registry registry.Config
	// Keep is how long an unused image stays; 0: DefaultKeep. MaxBytes, when not 0, bounds what all layers take.
	Keep     time.Duration
	MaxBytes int64
	// Pins are references that are never removed once they are here.
	Pins   []string
	Logger *slog.Logger
	Now    func() time.Time
}

// Library is the images of one runner. It is safe for concurrent use.
type Library struct {
	cfg    Config
	log    *slog.Logger
	place  places
	layers *image.Store
	client *registry.Client
	// pinned are the names of Config.Pins.
	pinned map[string]bool

	mu     sync.Mutex
	images map[string]*entry
	names  map[string]*tag
	// held counts by layer, heldImages by manifest, who uses them now.
	held       map[v1.Hash]int
	heldImages map[string]int
	// uses counts those of them that are sandboxes.
	uses    map[string]int
	flights map[string]*flight
	// writing counts the pulls and imports under way: they keep blobs that no record names yet.
	writing int
	// content is what is known of it, asking who asks whether an image may be run.
	content *content
	asking  singleflight.Group
	// blobs has a channel for each blob that is being fetched, closed when that is over.
	blobs map[v1.Hash]chan struct{}

	ctx     context.Context //nolint:containedctx // the lifetime of the library itself
	cancel  context.CancelFunc
	running sync.WaitGroup
	collect chan struct{}
}

// Open opens a library, making it if need be. Nothing is asked of a registry. Faults: a configuration that makes no sense.
func Open(ctx context.Context, cfg Config) (*Library, error) {
	cfg = cfg.withDefaults()
	l := &Library{
		cfg: cfg, log: cfg.Logger, place: places{cfg.Dir}, pinned: map[string]bool{}, held: map[v1.Hash]int{}, heldImages: map[string]int{}, uses: map[string]int{},
		flights: map[string]*flight{}, blobs: map[v1.Hash]chan struct{}{}, content: newContent(), collect: make(chan struct{}, 1),
	}
	for _, p := range cfg.Pins {
		r, err := parse(p)
		if err != nil {
			return nil, err
		}
		l.pinned[r.name()] = true
	}
	var err error
	if l.client, err = registry.New(cfg.Registry); err != nil {
		return nil, err
	}
	if err := l.place.prepare(); err != nil {
		return nil, err
	}
	if l.layers, err = image.OpenStore(cfg.Dir); err != nil {
		return nil, err
	}
	if err := errors.Join(l.load(), l.tidy()); err != nil {
		return nil, err
	}
	l.learn()
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return l, nil
}

func (c Config) withDefaults() Config {
	if c.Architecture == "" {
		c.Architecture = runtime.GOARCH
	}
	if c.Pull == "" {
		c.Pull = PullMissing
	}
	if c.Verify == "" {
		c.Verify = VerifyChanged
	}
	if c.Keep == 0 {
		c.Keep = DefaultKeep
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// tidy deals with what a library that was killed left: downloads are gone on with, the rest goes.
func (l *Library) tidy() error {
	temps, err := filepath.Glob(filepath.Join(l.place.dir, tempImport+"*"))
	for _, d := range temps {
		err = errors.Join(err, os.RemoveAll(d))
	}
	keep := map[string]bool{}
	for _, e := range l.images {
		keep[e.Manifest.Digest.Hex], keep[e.Config.Hex] = true, true
	}
	for _, t := range l.names {
		if h, e := v1.NewHash(t.Index); e == nil {
			keep[h.Hex] = true
		}
	}
	entries, e := os.ReadDir(l.place.blobs())
	err = errors.Join(err, e)
	for _, f := range entries {
		h := v1.Hash{Algorithm: "sha256", Hex: f.Name()}
		if keep[f.Name()] {
			continue
		}
		if _, bad := image.BlobPath("", h); bad != nil {
			err = errors.Join(err, os.Remove(filepath.Join(l.place.blobs(), f.Name())))
			continue
		}
		// It may be of a machine that went down: as a part it is verified before it counts.
		err = errors.Join(err, os.Rename(l.place.blob(h), l.place.part(h)))
	}
	return err
}

// Start begins the removal of what nobody needs. What lives must be held by then.
func (l *Library) Start() {
	l.running.Go(func() {
		tick := time.NewTicker(collectEvery)
		defer tick.Stop()
		for {
			if _, err := l.Collect(); err != nil {
				l.log.Warn("unused images could not all be removed", "error", err)
			}
			select {
			case <-tick.C:
			case <-l.collect:
			case <-l.ctx.Done():
				return
			}
		}
	})
}

// Close ends pulls and waits for them. What they downloaded is gone on with by the next library.
func (l *Library) Close() {
	l.cancel()
	l.running.Wait()
	l.client.Close()
	l.layers.Close()
}

// Layers is where the layers are, for mounting.
func (l *Library) Layers() *image.Store { return l.layers }

// hold keeps layers from being removed, and the image they belong to. The caller has the lock.
func (l *Library) hold(digest string, layers []v1.Hash) {
	l.heldImages[digest]++
	for _, h := range layers {
		l.held[h]++
	}
}

// Hold is what keeps an image from being removed, until it is released.
type Hold struct {
	library *Library
	once    sync.Once
	use     bool
	Digest  string    `json:"digest"`
	Layers  []v1.Hash `json:"layers"`
}

// Release lets the image go. It may be called more than once, and on nil.
func (h *Hold) Release() {
	if h == nil || h.library == nil {
		return
	}
	h.once.Do(func() {
		l := h.library
		l.mu.Lock()
		defer l.mu.Unlock()
		l.drop(h.Digest, h.Layers)
		if h.use {
			if l.uses[h.Digest]--; l.uses[h.Digest] <= 0 {
				delete(l.uses, h.Digest)
			}
		}
		if l.images[h.Digest] == nil && l.heldImages[h.Digest] == 0 {
			l.wakeCollector()
		}
	})
}

// wakeCollector lets what nobody needs be looked for soon.
func (l *Library) wakeCollector() {
	select {
	case l.collect <- struct{}{}:
	default:
	}
}

func (l *Library) drop(digest string, layers []v1.Hash) {
	if l.heldImages[digest]--; l.heldImages[digest] <= 0 {
		delete(l.heldImages, digest)
	}
	for _, layer := range layers {
		if l.held[layer]--; l.held[layer] <= 0 {
			delete(l.held, layer)
		}
	}
}

// Again holds what an earlier process held: h was read from where that process wrote it down.
func (l *Library) Again(h *Hold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.library, h.use = l, true
	l.hold(h.Digest, h.Layers)
	l.uses[h.Digest]++
}

// take holds an image, and reports whether all of its layers are here.
func (l *Library) take(img *image.Image) (*Hold, bool) {
	h := &Hold{library: l, Digest: img.Digest}
	whole := true
	for _, layer := range img.Layers {
		h.Layers = append(h.Layers, layer.DiffID)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold(h.Digest, h.Layers)
	for _, layer := range img.Layers {
		whole = whole && l.layers.Has(layer)
	}
	return h, whole
}

// canonicalHost is the host of a registry as it stands in normalised references.
func canonicalHost(text string) (string, error) { return registry.Canonical(text) }

func removeQuietly(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
