package library

import (
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/bermhq/berm/internal/backend/local/image"
)

// maxContent is of how much content it is remembered which repository has it, and which archive it holds. What is forgotten is asked for,
// or downloaded, once more.
const maxContent = 1 << 15

// content is what is known to be true of content, whoever claims it. Blobs, manifests and configurations are shared by digest, and
// archives by theirs, so a manifest that somebody makes up could name those of an image of another repository that is here: with digests
// that its own repository does not have, or with a blob of its own that does not hold the archive which its configuration says.
type content struct {
	mu sync.Mutex
	// in has what repositories are known to have, holds what blobs are known to hold.
	in    *lru.LRU[located, struct{}]
	holds *lru.LRU[archived, struct{}]
}

type located struct {
	repo   string
	digest v1.Hash
}

type archived struct{ blob, archive v1.Hash }

func newContent() *content {
	in, _ := lru.NewLRU[located, struct{}](maxContent, nil) // It fails for sizes below 1 alone.
	holds, _ := lru.NewLRU[archived, struct{}](maxContent, nil)
	return &content{in: in, holds: holds}
}

// located notes that a repository has something, and isLocated tells it.
func (c *content) located(repo string, digests ...v1.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range digests {
		c.in.Add(located{repo, d}, struct{}{})
	}
}

func (c *content) isLocated(repo string, digest v1.Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.in.Get(located{repo, digest})
	return ok
}

// archived notes that the blob of a layer holds its archive, and isArchived tells it.
func (c *content) archived(layers ...image.Layer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range layers {
		c.holds.Add(archived{l.Digest, l.DiffID}, struct{}{})
	}
}

func (c *content) isArchived(l image.Layer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.holds.Get(archived{l.Digest, l.DiffID})
	return ok
}

// learn takes over what the records say.
func (l *Library) learn() {
	for _, e := range l.images {
		for i, blob := range e.Blobs {
			if i < len(e.Layers) {
				l.content.archived(image.Layer{Digest: blob, DiffID: e.Layers[i]})
			}
		}
	}
	for _, t := range l.names {
		l.learnName(t)
	}
}

// learnName takes over what one name says of its repository.
func (l *Library) learnName(t *tag) {
	r, err := parse(t.Name)
	e := l.images[t.Digest]
	if err != nil || e == nil || t.Imported {
		return
	}
	repo := r.repo.Name()
	l.content.located(repo, e.Manifest.Digest, e.Config)
	l.content.located(repo, e.Blobs...)
	if h, err := v1.NewHash(t.Index); err == nil {
		l.content.located(repo, h)
	}
}
