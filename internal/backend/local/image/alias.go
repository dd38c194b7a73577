package image

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/bermhq/berm/internal/core/fault"
)

// Aliases maps image references to what they mean on this machine. It is immutable.
type Aliases struct {
	// exact maps a normalised reference to its target.
	exact map[string]Target
	// given lists the references as they were written, for messages.
	given []string
}

// Target is what a reference stands for.
type Target struct {
	// Layout is the directory of an OCI layout; "" is the image "host".
	Layout string
	// Tag is the name of the manifest in the layout, "" when it has but one.
	Tag string
	// Digest, when not empty, must be that of the index or manifest found.
	Digest string
	// Ref is the reference asked for.
	Ref string
}

// ParseAliases reads aliases: the key is a reference, the value "host" or "oci:DIR[:NAME]" with an absolute directory.
func ParseAliases(in map[string]string) (*Aliases, error) {
	if len(in) > MaxAliases {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "%d image aliases, at most %d are possible", len(in), MaxAliases)
	}
	a := &Aliases{exact: map[string]Target{}, given: slices.Sorted(maps.Keys(in))}
	for _, ref := range a.given {
		t, err := parseTarget(in[ref])
		if err != nil {
			return nil, fault.Invalidf(fault.ReasonFieldInvalid, "image alias %s=%s: %v", ref, in[ref], err)
		}
		norm, digest, err := normalise(ref)
		if err != nil {
			return nil, fault.Invalidf(fault.ReasonFieldInvalid, "image alias %s: %v", ref, err)
		}
		if digest != "" {
			return nil, fault.Invalidf(fault.ReasonFieldInvalid, "image alias %s: an alias has no digest; the layout's own counts", ref)
		}
		if _, twice := a.exact[norm]; twice || ref == Host {
			return nil, fault.Invalidf(fault.ReasonFieldInvalid, "image alias %s is given twice, or is the built-in image", ref)
		}
		a.exact[norm] = t
	}
	return a, nil
}

func parseTarget(s string) (Target, error) {
	if s == Host {
		return Target{}, nil
	}
	rest, ok := strings.CutPrefix(s, "oci:")
	if !ok {
		return Target{}, fmt.Errorf("want %q or oci:DIR[:NAME]", Host)
	}
	dir, tag, _ := strings.Cut(rest, ":")
	if !filepath.IsAbs(dir) {
		return Target{}, fmt.Errorf("the layout's directory %q is not absolute", dir)
	}
	return Target{Layout: filepath.Clean(dir), Tag: tag}, nil
}

// normalise returns the reference with registry, repository and tag spelled out, and the digest if it has one. A reference
// with a digest names a repository; its tag, if any, does not count.
func normalise(ref string) (norm, digest string, err error) {
	r, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return "", "", fmt.Errorf("%q is no image reference: %w", ref, err)
	}
	if d, ok := r.(name.Digest); ok {
		return d.Context().Name(), d.DigestStr(), nil
	}
	return r.Name(), "", nil
}

// Lookup returns what ref stands for. A reference that nothing here knows is a NotFound fault, IMAGE_NOT_FOUND, which lists
// what is known.
func (a *Aliases) Lookup(ref string) ([]Target, error) {
	if ref == Host {
		return []Target{{Ref: ref}}, nil
	}
	norm, digest, err := normalise(ref)
	if err != nil {
		return nil, fault.Invalidf(fault.ReasonImageInvalid, "%v", err)
	}
	if digest == "" {
		if t, ok := a.exact[norm]; ok {
			t.Ref = ref
			return []Target{t}, nil
		}
		return nil, a.unknown(ref)
	}
	// By digest: whichever alias of the repository has it.
	var found []Target
	for _, key := range slices.Sorted(maps.Keys(a.exact)) {
		if t := a.exact[key]; t.Layout != "" && strings.HasPrefix(key, norm+":") {
			t.Ref, t.Digest = ref, digest
			found = append(found, t)
		}
	}
	if len(found) == 0 {
		return nil, a.unknown(ref)
	}
	return found, nil
}

// Known lists the images by the names that work here.
func (a *Aliases) Known() []string { return append([]string{Host}, a.given...) }

// maxKnown is how many images a refusal lists.
const maxKnown = 8

func listed(names []string) string {
	if n := len(names) - maxKnown; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxKnown], ", "), n)
	}
	return strings.Join(names, ", ")
}

func (a *Aliases) unknown(ref string) *fault.Error {
	return fault.NotFoundf(fault.ReasonImageNotFound, "this runner has no image %q; it has: %s", ref, listed(a.Known())).
		WithField("container_image", "%q is not known here; this runner has: %s (give it an OCI layout with berm serve --image-alias; pulls from "+
			"registries come in a later version)", ref, listed(a.Known())).
		WithHint("use one of those, or give the runner an OCI layout: --image-alias %s=oci:DIR", ref).
		WithMeta("image", ref)
}
