package library

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/core/fault"
)

// Names of images in an OCI layout, by the tools that write them: the whole reference, or only a tag.
const (
	fullName = "io.containerd.image.name"
	refName  = "org.opencontainers.image.ref.name"
)

// archive is an archive that was read into a directory: its files are blobs under the digests that they really have.
type archive struct {
	dir   string
	files map[string]v1.Descriptor
	// links lead from one name of the archive to another.
	links map[string]string
}

// imported is one image of an archive.
type imported struct {
	top   v1.Descriptor
	names []string
}

// Import reads an archive of images into the library. Nothing of it counts before its digests were checked, and no name in it leads
// anywhere: files are kept by content. Faults: IMAGE_INVALID, and where name does not fit what the archive has.
func (l *Library) Import(ctx context.Context, name string, pin bool, r io.Reader) ([]backend.Image, error) {
	dir, err := os.MkdirTemp(l.place.dir, tempImport)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // What stays, the next library removes.
	l.mu.Lock()
	l.writing++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.writing--
	}()
	a := &archive{dir: dir, files: map[string]v1.Descriptor{}, links: map[string]string{}}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		return nil, err
	}
	if err := a.read(ctx, r); err != nil {
		return nil, blame(err)
	}
	list, err := a.images()
	if err != nil {
		return nil, err
	}
	if list, err = named(list, name); err != nil {
		return nil, err
	}
	var out []backend.Image
	for _, one := range list {
		img, err := l.importOne(ctx, a, one, pin)
		if err != nil {
			return out, err
		}
		out = append(out, *img)
	}
	return out, nil
}

// blame tells a broken archive from a disk that does not take it and from a caller who is gone.
func blame(err error) error {
	var f *fault.Error
	var disk *os.PathError
	switch {
	case errors.As(err, &f), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &disk):
		return diskFault(reference{text: "of the archive"}, err)
	}
	return bad("it is no archive of images: %v", err)
}

func bad(format string, args ...any) *fault.Error {
	return fault.Invalidf(fault.ReasonImageInvalid, "the archive cannot be imported: "+format, args...).
		WithHint("import what docker save, podman save, skopeo or crane write: an OCI layout or a docker archive, as a tar, compressed or not")
}

// read reads the archive, decompressed if need be.
func (a *archive) read(ctx context.Context, r io.Reader) error {
	in := bufio.NewReaderSize(&bounded{r: r, left: MaxImportBytes, ctx: ctx}, 64<<10)
	head, _ := in.Peek(4) // Too short is no archive, which the reader says.
	var plain io.Reader = in
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		plain = z
	case string(head) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(image.MaxWindow))
		if err != nil {
			return err
		}
		defer z.Close()
		plain = z
	}
	t := tar.NewReader(&bounded{r: plain, left: MaxImportBytes, ctx: ctx})
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			if len(a.files) == 0 {
				return bad("it is empty")
			}
			return nil
		}
		if err != nil {
			return err
		}
		if n >= MaxImportEntries {
			return bad("it has more than %d entries", MaxImportEntries)
		}
		if len(h.Name) > image.MaxName || len(h.Linkname) > image.MaxName {
			return bad("entry %.64q…: a name of more than %d bytes", h.Name, image.MaxName)
		}
		if n%importLooks == 0 {
			if err := image.Room(a.dir, 0); err != nil {
				return err
			}
		}
		name := path.Clean("/" + h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if a.files[name], err = a.keep(t); err != nil {
				return err
			}
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean("/" + h.Linkname)
		}
	}
}

// keep writes one file under its digest.
func (a *archive) keep(r io.Reader) (v1.Descriptor, error) {
	f, err := os.CreateTemp(a.dir, "file-")
	if err != nil {
		return v1.Descriptor{}, err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), r)
	if err := errors.Join(err, f.Close()); err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, Size: n}
	return d, os.Rename(f.Name(), filepath.Join(a.dir, "blobs", "sha256", d.Digest.Hex))
}

// maxLinks is how many links are followed.
const maxLinks = 8

func (a *archive) file(name string) (v1.Descriptor, bool) {
	name = path.Clean("/" + name)
	for range maxLinks {
		if d, ok := a.files[name]; ok {
			return d, true
		}
		next, ok := a.links[name]
		if !ok {
			break
		}
		name = path.Clean("/" + next)
	}
	return v1.Descriptor{}, false
}

// small reads a file of the archive into memory.
func (a *archive) small(name string) ([]byte, error) {
	d, ok := a.file(name)
	if !ok {
		return nil, bad("it has no %s", name)
	}
	data, err := image.ReadBlob(a.dir, d, image.MaxManifestBytes)
	if err != nil {
		return nil, bad("%s: %v", name, err)
	}
	return data, nil
}

// images lists what the archive has: of an OCI layout, which docker save writes today too, else of a docker archive.
func (a *archive) images() ([]imported, error) {
	if _, ok := a.file("index.json"); ok {
		return a.oci()
	}
	if _, ok := a.file("manifest.json"); ok {
		return a.docker()
	}
	return nil, bad("it has neither index.json nor manifest.json")
}

func (a *archive) oci() ([]imported, error) {
	data, err := a.small("index.json")
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, bad("index.json: %v", err)
	}
	var out []imported
	for _, d := range index.Manifests {
		one := imported{top: d}
		for _, key := range []string{fullName, refName} {
			if n := d.Annotations[key]; len(one.names) == 0 && strings.ContainsAny(n, ":/") {
				one.names = []string{n}
			}
		}
		at := -1
		for i := range out {
			if out[i].top.Digest == d.Digest {
				at = i
			}
		}
		if at >= 0 {
			out[at].names = append(out[at].names, one.names...)
		} else {
			out = append(out, one)
		}
	}
	return out, nil
}

// docker makes manifests for the images of an archive that has none.
func (a *archive) docker() ([]imported, error) {
	data, err := a.small("manifest.json")
	if err != nil {
		return nil, err
	}
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, bad("manifest.json: %v", err)
	}
	var out []imported
	for _, m := range list {
		config, ok := a.file(m.Config)
		if !ok || len(m.Layers) > image.MaxLayers {
			return nil, bad("manifest.json names a configuration %q and %d layers", m.Config, len(m.Layers))
		}
		config.MediaType = types.OCIConfigJSON
		made := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config}
		for _, name := range m.Layers {
			layer, ok := a.file(name)
			if !ok {
				return nil, bad("manifest.json names the layer %q, which is not there", name)
			}
			layer.MediaType = types.OCIUncompressedLayer
			made.Layers = append(made.Layers, layer)
		}
		text, err := json.Marshal(made)
		if err != nil {
			return nil, err
		}
		top, err := a.keep(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		top.MediaType = types.OCIManifestSchema1
		out = append(out, imported{top: top, names: m.RepoTags})
	}
	return out, nil
}

// named gives images the names that they will have.
func named(list []imported, name string) ([]imported, error) {
	if len(list) == 0 {
		return nil, bad("it has no image")
	}
	if name != "" {
		if len(list) > 1 {
			return nil, bad("it has %d images, and one name was given: import it without a name, or name one image per archive", len(list))
		}
		list[0].names = []string{name}
	}
	for _, one := range list {
		if len(one.names) == 0 {
			return nil, bad("it does not say what %s is called", one.top.Digest).WithHint("name it: berm image import FILE NAME")
		}
		if len(one.names) > MaxNames {
			return nil, bad("an image has %d names, at most %d are kept", len(one.names), MaxNames)
		}
		for _, n := range one.names {
			if n == image.Host {
				return nil, bad("%q is the built-in image", n)
			}
			r, err := parse(n)
			if err != nil {
				return nil, err
			}
			if r.digest != "" {
				return nil, bad("%q: a name to import has a tag, its digest is its content's", n)
			}
		}
	}
	return list, nil
}

// importOne unpacks and records one image of an archive.
func (l *Library) importOne(ctx context.Context, a *archive, one imported, pin bool) (*backend.Image, error) {
	img, err := image.From(one.names[0], one.top, l.cfg.Architecture, a.dir, func(d v1.Descriptor, limit int64) ([]byte, error) {
		return image.ReadBlob(a.dir, d, limit)
	})
	if err != nil {
		return nil, err
	}
	if err := checkSizes(img); err != nil {
		return nil, err
	}
	hold, _ := l.take(img)
	defer hold.Release()
	if _, err := l.unpack(ctx, img); err != nil {
		return nil, blame(err)
	}
	keep := []v1.Descriptor{img.Manifest, {Digest: img.ConfigDigest}}
	if one.top.Digest != img.Manifest.Digest {
		keep = append(keep, one.top)
	}
	if err := l.copyBlobs(a.dir, keep); err != nil {
		return nil, diskFault(reference{text: one.names[0]}, err)
	}
	var names []*tag
	for _, n := range one.names {
		r, err := parse(n)
		if err != nil {
			return nil, err
		}
		more := []*tag{{Name: r.name(), Pinned: pin, Imported: true}, {Name: byDigest(r.repo.Name(), img.Digest), Imported: true}}
		if one.top.Digest != img.Manifest.Digest {
			more = append(more, &tag{Name: byDigest(r.repo.Name(), one.top.Digest.String()), Imported: true})
			for _, t := range more {
				t.Index = one.top.Digest.String()
			}
		}
		names = append(names, more...)
	}
	l.mu.Lock()
	err = l.record(img, "", "an archive", 0, names)
	l.mu.Unlock()
	if err != nil {
		return nil, diskFault(reference{text: one.names[0]}, err)
	}
	return l.one(img.Digest)
}

// copyBlobs keeps small blobs of an archive. No collection removes them before they are recorded, as long as an import is under way.
func (l *Library) copyBlobs(dir string, list []v1.Descriptor) error {
	for _, d := range list {
		from, err := image.BlobPath(dir, d.Digest)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := l.keepBlob(d.Digest, data); err != nil {
			return err
		}
	}
	return nil
}

// bounded ends in an error after so many bytes, and with its context.
type bounded struct {
	r    io.Reader
	left int64
	ctx  context.Context //nolint:containedctx // it lives for one import
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, bad("it has more than %d bytes", int64(MaxImportBytes))
	}
	return n, err
}
