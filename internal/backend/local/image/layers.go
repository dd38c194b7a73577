package image

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/failpoint"
)

// sizesName is the directory beside the layers with what each takes.
const sizesName = "sizes"

// Has reports whether a layer is unpacked. It may be gone right after, unless something keeps Remove from being called.
func (s *Store) Has(l Layer) bool {
	if _, err := BlobPath("", l.DiffID); err != nil {
		return false
	}
	_, err := os.Lstat(s.path(l))
	return err == nil
}

// Layers lists the archives' digests of the layers that are unpacked, with what each takes.
func (s *Store) Layers() (map[v1.Hash]Unpacked, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	out := map[v1.Hash]Unpacked{}
	for _, e := range entries {
		if h := (v1.Hash{Algorithm: "sha256", Hex: e.Name()}); !strings.HasPrefix(e.Name(), tempPrefix) {
			out[h] = s.Size(h)
		}
	}
	return out, nil
}

// Size returns what a layer takes; the zero value when it is not there.
func (s *Store) Size(h v1.Hash) Unpacked {
	var u Unpacked
	path := filepath.Join(s.sizes, h.Hex)
	if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &u) == nil {
		return u
	}
	// One of an earlier version, or of a machine that went down: it is counted once more.
	err := filepath.WalkDir(filepath.Join(s.dir, h.Hex), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		u.Entries++
		if info, err := d.Info(); err == nil && d.Type().IsRegular() {
			u.Bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		return Unpacked{}
	}
	s.noteSize(h, u)
	return u
}

// noteSize writes down what a layer takes. Nothing depends on it but the time that counting takes.
func (s *Store) noteSize(h v1.Hash, u Unpacked) {
	if data, err := json.Marshal(u); err == nil {
		_ = os.WriteFile(filepath.Join(s.sizes, h.Hex), data, 0o600)
	}
}

// Hide takes layers out of the store. Nothing may use them: no image that is mounted, none that is about to be. It is quick; what it
// returns frees their space.
func (s *Store) Hide(layers []v1.Hash) (discard func() error, err error) {
	var hidden []string
	discard = func() error {
		var errs []error
		for _, d := range hidden {
			errs = append(errs, os.RemoveAll(d))
			failpoint.Hit(failLayerDiscarded)
		}
		return errors.Join(errs...)
	}
	for _, h := range layers {
		dir, err := os.MkdirTemp(s.dir, tempPrefix)
		if err != nil {
			return discard, err
		}
		hidden = append(hidden, dir)
		err = os.Rename(filepath.Join(s.dir, h.Hex), filepath.Join(dir, "layer"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return discard, err
		}
		failpoint.Hit(failLayerHidden)
		if err := os.Remove(filepath.Join(s.sizes, h.Hex)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return discard, err
		}
	}
	return discard, nil
}
