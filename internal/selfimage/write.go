package selfimage

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/bermhq/berm/internal/core/fault"
)

// refName is how an OCI layout says what an image in it is called.
const refName = "org.opencontainers.image.ref.name"

// parseName reads the full name of an image. What names a registry by leaving it out would be one thing here and another on a node.
func parseName(ref string) (name.Tag, error) {
	tag, err := name.NewTag(ref)
	if err != nil {
		return tag, fault.Invalidf("USAGE", "%q is no name of an image: %v", ref, err)
	}
	return tag, nil
}

// WriteArchive writes one image as docker save would.
func WriteArchive(w io.Writer, ref string, p Programs) error {
	tag, err := parseName(ref)
	if err != nil {
		return err
	}
	image, err := Image(p)
	if err != nil {
		return err
	}
	return tarball.Write(tag, image, w)
}

// WriteLayout makes a directory with an OCI layout: an image, or an index of images where there are several architectures.
func WriteLayout(dir, ref string, all []Programs) (err error) {
	tag, err := parseName(ref)
	if err != nil {
		return err
	}
	// A layout is added to where there is one, and this is to be the whole of it.
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		return fault.Invalidf("USAGE", "%s is there already", dir).WithHint("Remove it, or name another directory.")
	} else if err != nil {
		return fault.Invalidf("USAGE", "cannot make %s: %v", dir, err)
	}
	defer func() {
		if err == nil {
			return
		}
		if left := os.RemoveAll(dir); left != nil { // Half of an image is none, and would be in the way of the next.
			err = errors.Join(err, left)
		}
	}()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	seen := map[string]bool{}
	for _, p := range all {
		if seen[p.Arch] {
			return fault.Invalidf("USAGE", "there are two programs for %s", p.Arch)
		}
		seen[p.Arch] = true
		image, err := Image(p)
		if err != nil {
			return err
		}
		image = mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: p.Arch}},
		})
	}
	return writeIndex(dir, tag, index, len(all) > 1)
}

// writeIndex writes what is in an index below its name, or the index itself.
func writeIndex(dir string, tag name.Tag, index v1.ImageIndex, whole bool) error {
	named := layout.WithAnnotations(map[string]string{refName: tag.Name()})
	out, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if whole {
		return out.AppendIndex(index, named)
	}
	images, err := partial.FindImages(index, func(v1.Descriptor) bool { return true })
	if err != nil {
		return err
	}
	for _, image := range images {
		if err := out.AppendImage(image, named); err != nil {
			return err
		}
	}
	return nil
}
