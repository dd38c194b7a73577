// Package selfimage makes the container image of Berm itself, without a container engine and without a registry: a server, a runner
// and the init of pods are the same image. The same programs make the same bytes.
package selfimage

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const (
	// Init is where pods of sandboxes take the init from.
	Init = "/berm-shim"
	// Program is the server, the runner and the command line.
	Program = "/usr/bin/berm"
	// State is where they keep their data: it is XDG_STATE_HOME/berm there.
	State = "/var/lib/berm"
	// User is who they run as, a number that no image gives to anybody.
	User = 65532

	stateHome = "/var/lib"
)

// Programs are what an image for one architecture holds. Berm is nil in an image of the init alone.
type Programs struct {
	Arch       string
	Init, Berm []byte
}

// Image makes the image. The layer of the init is the first: it is the same with and without the rest.
func Image(p Programs) (v1.Image, error) {
	config := v1.Config{Entrypoint: []string{Init}, User: userName}
	// Who mounts the image can start the init and not read it, which keeps others from tracing it from its first instruction on; who copies
	// it is its owner.
	layers := [][]entry{{{name: Init, mode: 0o711, owner: User, content: p.Init}}}
	if p.Berm != nil {
		roots, err := authorities()
		if err != nil {
			return nil, err
		}
		layers = append(layers, base(roots), []entry{{name: Program, mode: 0o755, content: p.Berm}})
		config = v1.Config{
			Entrypoint: []string{Program}, User: userName, WorkingDir: State,
			Env: []string{"PATH=/usr/bin", "XDG_STATE_HOME=" + stateHome, "HOME=" + State},
		}
	}
	image := empty.Image
	for _, entries := range layers {
		content, err := archive(entries)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(content)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = p.Arch, "linux", config
	return mutate.ConfigFile(image, file)
}
