package app

import (
	"os"

	"github.com/bermhq/berm/internal/backend/local"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/selfimage"
)

// Image is what `berm kube-image` can be told.
type Image struct {
	// Name is what the image is called; Archive or Layout is where it goes.
	Name, Archive, Layout string
	// InitOnly leaves out everything but the init of pods.
	InitOnly bool
	// From are directories with the programs of an architecture; none is this program.
	From []string
}

// Write makes the image.
func (i *Image) Write() error {
	programs, err := i.programs()
	if err != nil {
		return err
	}
	if i.Layout != "" {
		return selfimage.WriteLayout(i.Layout, i.Name, programs)
	}
	if len(programs) > 1 {
		return fault.Invalidf("USAGE", "an archive holds one architecture").WithHint("Make a layout of several: --layout DIR.")
	}
	f, err := os.OpenFile(i.Archive, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fault.Invalidf("USAGE", "cannot make %s: %v", i.Archive, err)
	}
	err = selfimage.WriteArchive(f, i.Name, programs[0])
	if closed := f.Close(); err == nil && closed != nil {
		err = fault.Invalidf("USAGE", "cannot write %s: %v", i.Archive, closed)
	}
	if err != nil {
		_ = os.Remove(i.Archive)
	}
	return err
}

func (i *Image) programs() (out []selfimage.Programs, err error) {
	for _, dir := range i.From {
		p, err := selfimage.ReadPrograms(dir, i.InitOnly)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	if len(out) > 0 {
		return out, nil
	}
	program, err := local.EmbeddedShim()
	if err != nil {
		return nil, err
	}
	p, err := selfimage.Running(program, i.InitOnly)
	return []selfimage.Programs{p}, err
}
