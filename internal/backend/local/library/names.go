package library

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/core/fault"
)

// reference is what an image is called, spelt out.
type reference struct {
	// text is as it was written.
	text string
	repo name.Repository
	// tag or digest, one of them: where a reference has both, the digest counts.
	tag, digest string
}

// parse reads a reference to something in a registry.
func parse(text string) (reference, error) {
	r, err := name.ParseReference(text, name.WeakValidation)
	if err != nil {
		return reference{}, fault.Invalidf(fault.ReasonImageInvalid, "%q is no image reference: %v", text, err)
	}
	out := reference{text: text, repo: r.Context()}
	if d, ok := r.(name.Digest); ok {
		out.digest = d.DigestStr()
	} else {
		out.tag = r.Identifier()
	}
	return out, nil
}

// identifier is the tag or the digest.
func (r reference) identifier() string {
	if r.digest != "" {
		return r.digest
	}
	return r.tag
}

// name is the reference in the one form that is compared.
func (r reference) name() string {
	if r.digest != "" {
		return byDigest(r.repo.Name(), r.digest)
	}
	return r.repo.Name() + ":" + r.tag
}

func byDigest(repo, digest string) string { return repo + "@" + digest }

// pretty is a normalised name as people write it.
func pretty(text string) string {
	return strings.Replace(text, name.DefaultRegistry+"/", "docker.io/", 1)
}

// source is one place that a reference may be had from.
type source struct {
	repo name.Repository
	// mirror says which one it is, "" for the registry of the reference itself.
	mirror string
}

func (s source) String() string {
	if s.mirror != "" {
		return "mirror " + s.mirror
	}
	return "registry " + pretty(s.repo.RegistryStr() + "/")[:len(pretty(s.repo.RegistryStr()+"/"))-1]
}

// sources lists where a reference is looked for, in this order.
func (l *Library) sources(r reference, extra Names) ([]source, error) {
	host := r.repo.RegistryStr()
	var out []source
	for _, m := range append(append([]string(nil), l.cfg.Names.Mirrors[host]...), extra.Mirrors[host]...) {
		repo, err := name.NewRepository(m+"/"+r.repo.RepositoryStr(), name.WeakValidation)
		if err != nil {
			return nil, fault.Invalidf(fault.ReasonImageInvalid, "mirror %s of %s: %v", m, host, err)
		}
		out = append(out, source{repo: repo, mirror: m})
	}
	if len(out) == 0 || !l.cfg.Sealed[host] {
		out = append(out, source{repo: r.repo})
	}
	return out, nil
}

// Names are what references stand for. It is immutable.
type Names struct {
	// Aliases maps a normalised reference to what it means.
	Aliases map[string]Alias
	// Mirrors maps the canonical host of a registry to HOST[/PREFIX] of others that have the same, the first to be asked first.
	Mirrors map[string][]string
}

// Alias is what a reference means: one of the three.
type Alias struct {
	// Given is the alias as it was written, Owner who gave it: "runner r1", "zone eu".
	Given, Owner string
	// Host is the machine's own /usr.
	Host bool
	// Layout is an OCI layout on the machine.
	Layout image.Target
	// Image is another reference.
	Image string
}

func (a Alias) String() string {
	switch {
	case a.Host:
		return image.Host
	case a.Image != "":
		return a.Image
	}
	return "an OCI layout"
}

// ParseNames reads aliases and mirrors as people write them. layouts says whether an alias may be a directory of the machine: only who
// owns the machine may name one.
func ParseNames(owner string, aliases map[string]string, mirrors map[string][]string, layouts bool) (Names, error) {
	out := Names{Aliases: map[string]Alias{}, Mirrors: map[string][]string{}}
	if len(aliases) > image.MaxAliases {
		return out, fault.Invalidf(fault.ReasonFieldInvalid, "%d image aliases, at most %d are possible", len(aliases), image.MaxAliases)
	}
	for given, value := range aliases {
		a, norm, err := parseAlias(given, value, layouts)
		if err != nil {
			return out, fault.Invalidf(fault.ReasonFieldInvalid, "image alias %s=%s: %v", given, value, err)
		}
		if _, twice := out.Aliases[norm]; twice {
			return out, fault.Invalidf(fault.ReasonFieldInvalid, "image alias %s is given twice", given)
		}
		a.Owner = owner
		out.Aliases[norm] = a
	}
	for given, list := range mirrors {
		host, err := canonicalHost(given)
		if err != nil {
			return out, fault.Invalidf(fault.ReasonFieldInvalid, "mirrors of %s: %v", given, err)
		}
		if len(list) > MaxMirrors {
			return out, fault.Invalidf(fault.ReasonFieldInvalid, "mirrors of %s: %d, at most %d are possible", given, len(list), MaxMirrors)
		}
		if _, twice := out.Mirrors[host]; twice {
			return out, fault.Invalidf(fault.ReasonFieldInvalid, "the mirrors of %s are given twice", given)
		}
		for _, m := range list {
			if err := checkMirror(m); err != nil {
				return out, fault.Invalidf(fault.ReasonFieldInvalid, "mirror %s of %s: %v", m, given, err)
			}
		}
		out.Mirrors[host] = append([]string(nil), list...)
	}
	return out, nil
}

func parseAlias(given, value string, layouts bool) (Alias, string, error) {
	if given == image.Host {
		return Alias{}, "", fmt.Errorf("%q is the built-in image", given)
	}
	r, err := parse(given)
	if err != nil {
		return Alias{}, "", err
	}
	if r.digest != "" {
		return Alias{}, "", fmt.Errorf("an alias has no digest: a digest means one image everywhere")
	}
	a := Alias{Given: given}
	switch {
	case value == image.Host:
		a.Host = true
	case strings.HasPrefix(value, "oci:"):
		if !layouts {
			return a, "", fmt.Errorf("a directory of the machine can only be named by who runs the server: berm serve --image-alias")
		}
		if a.Layout, err = image.ParseTarget(value); err != nil {
			return a, "", err
		}
	case strings.Contains(value, "://"):
		return a, "", fmt.Errorf("want %q, oci:DIR[:NAME], or another reference without a scheme", image.Host)
	default:
		if _, err := parse(value); err != nil {
			return a, "", fmt.Errorf("want %q, oci:DIR[:NAME], or another reference: %w", image.Host, err)
		}
		a.Image = value
	}
	return a, r.name(), nil
}

// alias returns what a reference was made to stand for: by the runner, else by extra, the zone's.
func (l *Library) alias(r reference, extra Names) (Alias, bool) {
	if r.digest != "" {
		return Alias{}, false
	}
	if a, ok := l.cfg.Names.Aliases[r.name()]; ok {
		return a, true
	}
	a, ok := extra.Aliases[r.name()]
	return a, ok
}

// checkMirror accepts HOST or HOST/PREFIX.
func checkMirror(m string) error {
	host, _, _ := strings.Cut(m, "/")
	if strings.Contains(m, "://") {
		return fmt.Errorf("want HOST or HOST/PREFIX, without a scheme")
	}
	canonical, err := canonicalHost(host)
	if err != nil {
		return err
	}
	repo, err := name.NewRepository(m+"/x", name.WeakValidation)
	if err != nil || strings.Contains(m, "//") || strings.HasSuffix(m, "/") {
		return fmt.Errorf("want HOST or HOST/PREFIX")
	}
	if repo.RegistryStr() != canonical {
		return fmt.Errorf("%q is no host: it has neither a point nor a port", host)
	}
	return nil
}
