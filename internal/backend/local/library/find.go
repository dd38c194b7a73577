package library

import (
	"maps"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/core/fault"
)

// Found is what a reference stands for, as far as it can be told without asking a registry.
type Found struct {
	// Ref is the reference asked for, Name the one that is looked for in its place, spelt out.
	Ref, Name string
	// Alias is the alias that was taken, nil for none.
	Alias *Alias
	// Host is the machine's own /usr.
	Host bool
	// Image is nil when it has to be pulled.
	Image *image.Image
	// From says where the image is from: an OCI layout, or what it was pulled or imported from.
	From string
	// Layout: the layers come from an OCI layout.
	Layout bool
	// Proven: an image that is here may be run without asking its registry first, see Verify.
	Proven bool

	ref reference
	// top is the digest that the name has in its registry.
	top string
}

// Find says what a reference stands for. It asks no registry and changes nothing. extra are the aliases and mirrors of the zone.
// Faults: IMAGE_NOT_FOUND, IMAGE_INVALID, IMAGE_PULL_FAILED for a registry that is not allowed.
func (l *Library) Find(ref string, extra Names) (*Found, error) { return l.find(ref, extra, false) }

// find is Find; byHand pulls whatever the policy says.
func (l *Library) find(ref string, extra Names, byHand bool) (*Found, error) {
	f := &Found{Ref: ref, Name: ref}
	if ref == image.Host {
		f.Host = true
		return f, nil
	}
	var err error
	if f.ref, err = parse(ref); err != nil {
		return nil, err
	}
	if a, ok := l.alias(f.ref, extra); ok {
		f.Alias = &a
		switch {
		case a.Host:
			f.Host, f.Name = true, image.Host
			return f, nil
		case a.Image == "":
			return f, l.fromLayout(f, a.Layout)
		}
		if f.ref, err = parse(a.Image); err != nil {
			return nil, err
		}
	}
	f.Name = pretty(f.ref.name())
	if f.ref.digest != "" {
		if done, err := l.digestInLayouts(f, extra); done {
			return f, err
		}
	}
	if f.ref.digest != "" || l.cfg.Pull != PullAlways {
		if l.here(f, extra) {
			return f, nil
		}
	}
	return f, l.mayPull(f, extra, byHand)
}

func (l *Library) fromLayout(f *Found, t image.Target) error {
	t.Ref, f.Layout, f.Proven, f.From = f.Ref, true, true, "an OCI layout"
	var err error
	f.Image, err = image.Resolve(t, l.cfg.Architecture)
	return err
}

// digestInLayouts looks for a digest in the layouts that an alias names for the repository.
func (l *Library) digestInLayouts(f *Found, extra Names) (found bool, err error) {
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Names.Aliases)) {
		a := l.cfg.Names.Aliases[name]
		if a.Layout.Layout == "" || !strings.HasPrefix(name, f.ref.repo.Name()+":") {
			continue
		}
		t := a.Layout
		t.Digest = f.ref.digest
		e := l.fromLayout(f, t)
		if e == nil {
			f.Alias = &a
			return true, nil
		}
		if !fault.HasReason(e, fault.ReasonImageNotFound) {
			err, found = e, true
		}
	}
	f.Layout, f.Proven, f.From = false, false, ""
	return found && f.Image == nil && err != nil && !l.here(f, extra), err
}

// here looks among the images of the library.
func (l *Library) here(f *Found, extra Names) bool {
	l.mu.Lock()
	t := l.names[f.ref.name()]
	var e *entry
	var proofs []proof
	if t != nil {
		e, proofs = l.images[t.Digest], t.Proofs
	}
	l.mu.Unlock()
	if e == nil {
		return false
	}
	img, err := l.open(f.Ref, e)
	if err != nil {
		l.log.Warn("an image of the library cannot be read; it is pulled again", "image", f.Ref, "error", err)
		return false
	}
	f.Image, f.From, f.top = img, t.From, t.Digest
	if t.Index != "" {
		f.top = t.Index
	}
	from, err := l.sources(f.ref, extra)
	f.Proven = err == nil && l.proven(t, proofs, from)
	return true
}

// mayPull refuses what will not be pulled.
func (l *Library) mayPull(f *Found, extra Names, byHand bool) error {
	if (l.cfg.Pull == PullNever && !byHand) || l.closed() {
		return l.unknown(f)
	}
	if err := l.client.Allowed(f.ref.repo.RegistryStr()); err != nil {
		return fault.From(err).Clone().WithHint("%s", l.whatWorks(f)).WithField("container_image", "%s", err.Error()).WithMeta("image", f.Ref)
	}
	for _, m := range extra.Mirrors[f.ref.repo.RegistryStr()] {
		host, _, _ := strings.Cut(m, "/")
		if err := l.client.Allowed(host); err != nil {
			return fault.From(err).Clone().WithHint("the zone names %s as a mirror: the runner must allow it", m)
		}
	}
	return nil
}

// closed reports whether no registry at all may be asked.
func (l *Library) closed() bool { return l.cfg.Registry.Allow != nil && len(l.cfg.Registry.Allow) == 0 }

// maxKnown is how many images a refusal lists.
const maxKnown = 8

// Known lists the names that work here without a registry.
func (l *Library) Known() []string {
	out := []string{image.Host}
	var more []string
	for _, a := range l.cfg.Names.Aliases {
		more = append(more, a.Given)
	}
	slices.Sort(more)
	out = append(out, more...)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(l.names)) {
		if l.names[name].Digest != "" && !strings.Contains(name, "@") {
			out = append(out, pretty(name))
		}
	}
	return out
}

func (l *Library) listed() string {
	names := l.Known()
	if n := len(names) - maxKnown; n > 0 {
		return strings.Join(names[:maxKnown], ", ") + " and more"
	}
	return strings.Join(names, ", ")
}

func (l *Library) whatWorks(f *Found) string {
	return "use one of: " + l.listed() + "; or the operator imports it (berm image import FILE " + f.Ref + "), or gives the runner an OCI layout: berm serve --image-alias " + f.Ref + "=oci:DIR"
}

func (l *Library) unknown(f *Found) *fault.Error {
	why := "it pulls from no registry"
	if l.cfg.Pull == PullNever {
		why = "it does not pull by itself (pull: never)"
	}
	return fault.NotFoundf(fault.ReasonImageNotFound, "this runner has no image %q, and %s; it has: %s", f.Ref, why, l.listed()).
		WithField("container_image", "%q is not known here; this runner has: %s (--image-alias gives it an OCI layout, berm image import an archive)", f.Ref, l.listed()).
		WithHint("%s", l.whatWorks(f)).
		WithMeta("image", f.Ref)
}
