package library

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/failpoint"
)

// recordVersion is the version of records that this build writes and reads.
const recordVersion = 1

// entry is the record of one image that is here. The time of its file is when it was last used.
type entry struct {
	Version  int           `json:"version"`
	Manifest v1.Descriptor `json:"manifest"`
	// Config is the digest of the configuration.
	Config v1.Hash   `json:"config"`
	Layers []v1.Hash `json:"layers"`
	// Blobs are the digests of what Layers were unpacked from, in the same order.
	Blobs []v1.Hash `json:"blobs,omitempty"`
	// Layout is set when the blobs are in an OCI layout outside of the library.
	Layout string `json:"layout,omitempty"`
	// From says where it came from, At when; Downloaded how many bytes that were.
	From       string    `json:"from"`
	At         time.Time `json:"at"`
	Downloaded int64     `json:"downloaded,omitempty"`

	used time.Time
}

// tag is the record of one name of an image.
type tag struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Digest  string `json:"digest"`
	// Index is the digest that the name had in the registry, when that is an index of several platforms.
	Index  string    `json:"index,omitempty"`
	From   string    `json:"from"`
	At     time.Time `json:"at"`
	Pinned bool      `json:"pinned,omitempty"`
	// Imported says that it was brought by hand, Proofs who else opened it: see Verify.
	Imported bool    `json:"imported,omitempty"`
	Proofs   []proof `json:"proofs,omitempty"`
}

// places are the paths of a library.
type places struct{ dir string }

func (p places) images() string { return filepath.Join(p.dir, "manifests") }
func (p places) names() string  { return filepath.Join(p.dir, "names") }
func (p places) parts() string  { return filepath.Join(p.dir, "parts") }
func (p places) blobs() string  { return filepath.Join(p.dir, "blobs", "sha256") }

func (p places) image(digest string) string {
	return filepath.Join(p.images(), strings.TrimPrefix(digest, "sha256:")+".json")
}

// name is the file of a name, which may be longer than a file's.
func (p places) name(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(p.names(), hex.EncodeToString(sum[:])+".json")
}

func (p places) part(h v1.Hash) string { return filepath.Join(p.parts(), h.Hex) }
func (p places) blob(h v1.Hash) string { return filepath.Join(p.blobs(), h.Hex) }

func (p places) prepare() error {
	for _, d := range []string{p.images(), p.names(), p.parts(), p.blobs()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// load reads all records. One that cannot be read is left out and removed: what it stands for is pulled again.
func (l *Library) load() error {
	l.images, l.names = map[string]*entry{}, map[string]*tag{}
	err := eachRecord(l.place.images(), func(path string, info fs.FileInfo) error {
		e := &entry{}
		if err := readRecord(path, e); err != nil || e.Version != recordVersion || l.place.image(e.Manifest.Digest.String()) != path {
			return l.spoiled(path, err)
		}
		e.used = info.ModTime()
		l.images[e.Manifest.Digest.String()] = e
		return nil
	})
	if err != nil {
		return err
	}
	return eachRecord(l.place.names(), func(path string, _ fs.FileInfo) error {
		t := &tag{}
		if err := readRecord(path, t); err != nil || t.Version != recordVersion || l.place.name(t.Name) != path {
			return l.spoiled(path, err)
		}
		if l.images[t.Digest] == nil {
			return os.Remove(path) // Its image went first, and the machine with it.
		}
		l.names[t.Name] = t
		return nil
	})
}

func (l *Library) spoiled(path string, err error) error {
	l.log.Warn("a record of the image library cannot be used, and is removed", "file", path, "error", err)
	return os.Remove(path)
}

func eachRecord(dir string, f func(path string, info fs.FileInfo) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !strings.HasSuffix(e.Name(), ".json") {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := f(path, info); err != nil {
			return err
		}
	}
	return nil
}

func readRecord(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecordBytes))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// writeRecord replaces a file as a whole; once it returned, the file outlives the machine.
func writeRecord(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeWhole(path, data)
}

func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // Gone already when all went well.
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// record writes down that an image is here under names. Its content is on disk. The caller has the lock.
func (l *Library) record(img *image.Image, layout, from string, downloaded int64, names []*tag) error {
	now := l.cfg.Now()
	e := l.images[img.Digest]
	if e == nil || e.Layout != layout || len(e.Blobs) != len(e.Layers) {
		e = &entry{Version: recordVersion, Manifest: img.Manifest, Config: img.ConfigDigest, Layout: layout, From: from, At: now, Downloaded: downloaded, used: now}
		for _, layer := range img.Layers {
			e.Layers, e.Blobs = append(e.Layers, layer.DiffID), append(e.Blobs, layer.Digest)
		}
		if err := writeRecord(l.place.image(img.Digest), e); err != nil {
			return err
		}
		l.images[img.Digest] = e
	}
	failpoint.Hit(failImageRecorded)
	for _, t := range names {
		if old := l.names[t.Name]; old != nil {
			if old.Digest == img.Digest && old.Index == t.Index && !t.Pinned && !t.Imported && len(t.Proofs) == 0 {
				continue
			}
			t.Pinned = t.Pinned || old.Pinned
			if old.Digest == img.Digest { // Whoever opened that, opened this.
				t.Imported, t.Proofs = t.Imported || old.Imported, withProofs(old.Proofs, t.Proofs...)
			}
		}
		t.Version, t.Digest, t.From, t.At = recordVersion, img.Digest, from, now
		if err := writeRecord(l.place.name(t.Name), t); err != nil {
			return err
		}
		l.names[t.Name] = t
		l.learnName(t)
		failpoint.Hit(failNameRecorded)
	}
	return nil
}

// use notes that an image is used now. Losing that note costs nothing but a place in the order of removal.
func (l *Library) use(digest string) {
	if e := l.images[digest]; e != nil {
		e.used = l.cfg.Now()
		_ = os.Chtimes(l.place.image(digest), e.used, e.used)
	}
}

// open returns an image that is recorded, read anew and verified.
func (l *Library) open(ref string, e *entry) (*image.Image, error) {
	dir := e.Layout
	if dir == "" {
		dir = l.place.dir
	}
	return image.From(ref, e.Manifest, l.cfg.Architecture, dir, func(d v1.Descriptor, limit int64) ([]byte, error) {
		return image.ReadBlob(dir, d, limit)
	})
}

// namesOf lists the names of an image.
func (l *Library) namesOf(digest string) []*tag {
	var out []*tag
	for _, t := range l.names {
		if t.Digest == digest {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *tag) int { return strings.Compare(a.Name, b.Name) })
	return out
}
