package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/fault"
)

// refName is the annotation with a manifest's name in a layout.
const refName = "org.opencontainers.image.ref.name"

// Image is a resolved image: a manifest for this machine, with its verified configuration.
type Image struct {
	// Ref is the reference asked for, Digest that of the manifest.
	Ref, Digest string
	Config      v1.Config
	// Manifest describes the manifest, ConfigDigest is the digest of the configuration.
	Manifest     v1.Descriptor
	ConfigDigest v1.Hash
	// Layers are lowest first.
	Layers []Layer
	layout string
}

// Layer is one layer of an image.
type Layer struct {
	// Digest is that of the blob, DiffID that of the archive in it.
	Digest, DiffID v1.Hash
	MediaType      types.MediaType
	// Size is that of the blob, in bytes.
	Size int64
}

// Resolve finds the manifest of a layout for an architecture and reads its configuration. Layers are not read. Faults:
// NotFound (no layout, no such name or digest), Invalid with IMAGE_INVALID.
func Resolve(t Target, arch string) (*Image, error) {
	l := layout{dir: t.Layout, arch: arch}
	l.blob = l.read
	data, err := readRegular(filepath.Join(t.Layout, "index.json"), MaxManifestBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NotFoundf(fault.ReasonImageNotFound, "image %s: there is no OCI layout at %s", t.Ref, t.Layout).
			WithHint("put an OCI layout there, or change the runner's --image-alias")
	}
	if err != nil {
		return nil, invalid("image %s: the layout %s cannot be read: %v", t.Ref, t.Layout, err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, invalid("image %s: %s is no index: %v", t.Ref, filepath.Join(t.Layout, "index.json"), err)
	}
	top, err := named(index.Manifests, t)
	if err != nil {
		return nil, err
	}
	found, err := l.choose(top, t.Digest, t.Digest == "", 0)
	if err != nil {
		return nil, invalid("image %s: %v", t.Ref, err)
	}
	switch {
	case len(found) == 0:
		return nil, l.none(t)
	case len(found) > 1:
		return nil, invalid("image %s: the layout %s has %d images for linux/%s; name one: %s", t.Ref, t.Layout, len(found), arch, strings.Join(names(index.Manifests), ", ")).
			WithHint("--image-alias %s=oci:%s:NAME", t.Ref, t.Layout)
	}
	found[0].Ref = t.Ref
	return found[0], nil
}

// layout reads one OCI layout.
type layout struct {
	dir, arch string
	// blob returns a blob's content, verified.
	blob func(d v1.Descriptor, limit int64) ([]byte, error)
	// seen lists the platforms that were not this machine's.
	seen []string
}

// named returns the entries that a target may mean.
func named(all []v1.Descriptor, t Target) ([]v1.Descriptor, error) {
	if len(all) > MaxIndexEntries {
		return nil, invalid("image %s: the index has %d entries, at most %d are read", t.Ref, len(all), MaxIndexEntries)
	}
	if t.Tag == "" {
		return all, nil
	}
	var out []v1.Descriptor
	for _, d := range all {
		if d.Annotations[refName] == t.Tag {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, fault.NotFoundf(fault.ReasonImageNotFound, "image %s: the layout %s has no image named %q; it has: %s", t.Ref, t.Layout, t.Tag, strings.Join(names(all), ", "))
	}
	return out, nil
}

func names(all []v1.Descriptor) []string {
	var out []string
	for _, d := range all {
		if n := d.Annotations[refName]; n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// choose walks descriptors and returns the images for this architecture. want is the digest that an index or manifest on
// the way must have; below one that has it, all count.
func (l *layout) choose(list []v1.Descriptor, want string, matched bool, depth int) ([]*Image, error) {
	if depth > MaxIndexDepth {
		return nil, fmt.Errorf("indexes are nested deeper than %d", MaxIndexDepth)
	}
	if len(list) > MaxIndexEntries {
		return nil, fmt.Errorf("an index has %d entries, at most %d are read", len(list), MaxIndexEntries)
	}
	var found []*Image
	for _, d := range list {
		ok := matched || d.Digest.String() == want
		var more []*Image
		var err error
		switch {
		case d.MediaType.IsIndex():
			more, err = l.index(d, want, ok, depth)
		case d.MediaType.IsImage() && ok && l.mayFit(d.Platform):
			more, err = l.manifest(d)
		}
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return slices.CompactFunc(found, func(a, b *Image) bool { return a.Digest == b.Digest }), nil
}

func (l *layout) index(d v1.Descriptor, want string, matched bool, depth int) ([]*Image, error) {
	data, err := l.blob(d, MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", d.Digest, err)
	}
	return l.choose(index.Manifests, want, matched, depth+1)
}

// mayFit reports whether a descriptor's platform, if it has one, is ours.
func (l *layout) mayFit(p *v1.Platform) bool {
	return p == nil || l.fits(p.OS, p.Architecture, p.Variant)
}

func (l *layout) fits(goos, arch, variant string) bool {
	// arm64 has one variant that everybody names or leaves out; others of a name are other machines.
	if goos == "linux" && arch == l.arch && (variant == "" || (arch == "arm64" && variant == "v8") || (arch == "amd64" && variant == "v1")) {
		return true
	}
	if platform := strings.TrimSuffix(goos+"/"+arch+"/"+variant, "/"); goos != "unknown" && !slices.Contains(l.seen, platform) && len(l.seen) < 16 {
		l.seen = append(l.seen, platform)
	}
	return false
}

// From returns the image for an architecture of a manifest, or below an index. read returns the verified content of a blob;
// layers are not read, and have to be among the blobs of the directory dir when the image is unpacked. Where an index has
// several that fit, the first counts, as everywhere. Faults: IMAGE_INVALID, and those of read.
func From(ref string, top v1.Descriptor, arch, dir string, read func(d v1.Descriptor, limit int64) ([]byte, error)) (*Image, error) {
	l := layout{dir: dir, arch: arch, blob: read}
	found, err := l.choose([]v1.Descriptor{top}, "", true, 0)
	var f *fault.Error
	switch {
	case errors.As(err, &f), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, err
	case err != nil:
		return nil, invalid("image %s: %v", ref, err)
	case len(found) == 0:
		return nil, l.none(Target{Ref: ref})
	}
	found[0].Ref = ref
	return found[0], nil
}

// manifest reads a manifest and its configuration; none when it is for another platform.
func (l *layout) manifest(d v1.Descriptor) ([]*Image, error) {
	data, err := l.blob(d, MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	raw, err := l.blob(m.Config, MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	c, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	if !l.fits(c.OS, c.Architecture, c.Variant) {
		return nil, nil
	}
	img := &Image{Digest: d.Digest.String(), Manifest: d, ConfigDigest: m.Config.Digest, Config: c.Config, layout: l.dir}
	if len(m.Layers) != len(c.RootFS.DiffIDs) || len(m.Layers) == 0 || len(m.Layers) > MaxLayers {
		return nil, fmt.Errorf("manifest %s has %d layers and its configuration %d; want the same number, 1 to %d", d.Digest, len(m.Layers), len(c.RootFS.DiffIDs), MaxLayers)
	}
	for i, layer := range m.Layers {
		img.Layers = append(img.Layers, Layer{Digest: layer.Digest, DiffID: c.RootFS.DiffIDs[i], MediaType: layer.MediaType, Size: layer.Size})
	}
	return []*Image{img}, nil
}

// none says why a layout has no image for this machine.
func (l *layout) none(t Target) *fault.Error {
	if t.Layout == "" && len(l.seen) == 0 {
		return invalid("image %s has no manifest for any machine", t.Ref)
	}
	if t.Digest != "" && len(l.seen) == 0 {
		return fault.NotFoundf(fault.ReasonImageNotFound, "image %s: the layout %s has no such digest", t.Ref, t.Layout)
	}
	if len(l.seen) == 0 {
		return invalid("image %s: the layout %s has no image", t.Ref, t.Layout)
	}
	why := fmt.Sprintf("image %s is for %s, this machine is linux/%s", t.Ref, listed(l.seen), l.arch)
	return invalid("%s", why).
		WithField("container_image", "%s", why).
		WithHint("use an image built for linux/%s", l.arch)
}

func (l *layout) read(d v1.Descriptor, limit int64) ([]byte, error) { return ReadBlob(l.dir, d, limit) }

// ReadBlob returns the content of a blob of a layout's directory, of at most limit bytes, verified.
func ReadBlob(dir string, d v1.Descriptor, limit int64) ([]byte, error) {
	path, err := BlobPath(dir, d.Digest)
	if err != nil {
		return nil, err
	}
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("blob %s has %d bytes, at most %d make sense", d.Digest, d.Size, limit)
	}
	data, err := readRegular(path, limit)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	sum := sha256.Sum256(data)
	if int64(len(data)) != d.Size || hex.EncodeToString(sum[:]) != d.Digest.Hex {
		return nil, fmt.Errorf("blob %s: its content does not match its digest and size", d.Digest)
	}
	return data, nil
}

// BlobPath returns the path of a blob. Only sha256 is taken: it is what every tool writes.
func BlobPath(dir string, h v1.Hash) (string, error) {
	if _, err := hex.DecodeString(h.Hex); err != nil || h.Algorithm != "sha256" || len(h.Hex) != sha256.Size*2 {
		return "", fmt.Errorf("digest %q: want sha256 and 64 hexadecimal digits", h.String())
	}
	return filepath.Join(dir, "blobs", "sha256", h.Hex), nil
}

// openRegular opens a regular file. A pipe in its place does not block, a device is not read.
func openRegular(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func readRegular(path string, limit int64) ([]byte, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d make sense", path, size, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
