package local

import (
	"strings"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// Check reports every field of w that this machine refuses, together: fields that nothing here honours, a runtime that was
// not probed, an image that is not known or not for this machine. It reads the image's manifest and changes nothing.
func (b *Backend) Check(w *backend.Work) error { return b.told(b.check(w)) }

func (b *Backend) check(w *backend.Work) error {
	if err := b.refused(); err != nil {
		return err
	}
	o, fields := read(w, b.machine)
	var other *fault.Error
	if rt, err := b.runtime(o.runtime); err != nil {
		other = join(other, err)
	} else {
		fields = append(fields, rt.refusals(o, &b.machine)...)
	}
	if w.Launch.GetForkOf() != "" {
		fields = append(fields, b.forkable(w, o)...)
	}
	if err := b.checkImage(o); err != nil {
		other = join(other, err)
	}
	if err := b.checkNetwork(o); err != nil {
		other = join(other, err)
	}
	if len(fields) == 0 {
		if other == nil {
			return nil
		}
		return other
	}
	e := fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s cannot run this sandbox", b.cfg.RunnerName)
	e.Fields = fields
	if other != nil {
		e.Fields = append(e.Fields, other.Fields...)
	}
	return e
}

// join adds a second fault's fields to the first.
func join(first *fault.Error, err error) *fault.Error {
	second := fault.From(err)
	if first == nil {
		return second
	}
	first.Fields = append(first.Fields, second.Fields...)
	return first
}

// checkImage finds what a launch would find, up to the content of layers and of registries, which are not asked.
func (b *Backend) checkImage(o *order) error {
	f, err := b.find(o)
	if err != nil {
		e := fault.From(err).Clone()
		if len(e.Fields) == 0 {
			e.WithField("container_image", "%s", e.Message)
		}
		return e
	}
	// Of an image that has to be pulled nothing is known yet.
	if img := f.Image; img != nil && !o.idle && len(o.mainOf(img.Config.Entrypoint, img.Config.Cmd)) == 0 {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "image %s names no command to run", o.image).
			WithField("command", "image %s has neither entrypoint nor command, and the launch names none to keep the sandbox running", o.image).
			WithHint("give the launch a command, or let it idle; with the command line: berm run --image %s -- COMMAND", o.image)
	}
	return nil
}

// runtime returns the runtime of a class. There is no falling back: a class that was not probed is refused.
func (b *Backend) runtime(class string) (ociRuntime, error) {
	if class == "" {
		class = b.info.DefaultRuntimeClass
	}
	if r, ok := b.runtimes[class]; ok {
		return r, nil
	}
	known := strings.Join(b.info.RuntimeClasses, ", ")
	e := fault.NotFoundf(fault.ReasonRuntimeNotFound, "runner %s has no runtime %q; it has: %s", b.cfg.RunnerName, class, known).
		WithField("runtime_class", "%q is not there; it is one of: %s", class, known).
		WithMeta("runtime_class", class)
	if why, ok := b.machine.lacks["runtime:"+class]; ok {
		e.WithHint("it was tried when the server started: %s", why)
	} else {
		e.WithHint("install it and restart the server, or name another")
	}
	return ociRuntime{}, e
}
