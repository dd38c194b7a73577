package kube

import (
	"archive/tar"
	"bytes"
	"io"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/bermhq/berm/internal/core/fault"
)

// imageMode lets the user of the copy read the program.
const imageMode = 0o755

// WriteInitImage writes an image with the init alone, as docker save would: the same program makes the same bytes.
func WriteInitImage(w io.Writer, ref string, program []byte) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return fault.Invalidf("USAGE", "%q is no name of an image: %v", ref, err)
	}
	var content bytes.Buffer
	files := tar.NewWriter(&content)
	err = files.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: imageProgram[1:], Mode: imageMode, Size: int64(len(program)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	})
	if err == nil {
		_, err = files.Write(program)
	}
	if err == nil {
		err = files.Close()
	}
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config.Architecture, config.OS, config.Config = runtime.GOARCH, "linux", v1.Config{Entrypoint: []string{imageProgram}, User: "65532:65532"}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	return tarball.Write(tag, image, w)
}
