package guard

import (
	"regexp"
	"strings"

	"github.com/bermhq/berm/internal/core/resolve"
)

const (
	// hostImage is the built-in image; it is no reference and has no registry.
	hostImage = "host"
	// defaultRegistry and defaultNamespace complete a short reference, as every client of registries does.
	defaultRegistry, defaultNamespace = "docker.io", "library/"
	defaultTag                        = ":latest"
)

// NormalizeImage returns an image reference with registry, namespace and tag spelt out: "python:3.11" is
// "docker.io/library/python:3.11". A reference by digest keeps the tag that it has and gets none. "host" stays as it is.
func NormalizeImage(ref string) string {
	if ref == hostImage || ref == "" {
		return ref
	}
	ref = qualify(ref)
	if name, _ := splitReference(ref); name == ref {
		return ref + defaultTag
	}
	return ref
}

// qualify adds the default registry and namespace to a reference or a pattern.
func qualify(ref string) string {
	name, _ := splitReference(ref)
	first, rest, hasPath := strings.Cut(name, "/")
	switch {
	case hasPath && (strings.ContainsAny(first, ".:*") || first == "localhost"):
		if first == "index.docker.io" {
			ref = defaultRegistry + ref[len(first):]
		}
		if strings.HasPrefix(ref, defaultRegistry+"/") && !strings.Contains(rest, "/") && !strings.Contains(rest, "*") {
			return defaultRegistry + "/" + defaultNamespace + ref[len(defaultRegistry)+1:]
		}
		return ref
	case hasPath:
		return defaultRegistry + "/" + ref
	}
	return defaultRegistry + "/" + defaultNamespace + ref
}

// splitReference cuts a reference or a pattern into its name and what follows, with its mark: ":tag", "@digest" or both.
func splitReference(ref string) (name, rest string) {
	slash := strings.LastIndexByte(ref, '/')
	if at := strings.IndexAny(ref[slash+1:], ":@"); at >= 0 {
		return ref[:slash+1+at], ref[slash+1+at:]
	}
	return ref, ""
}

// patterns are the images that one layer allows.
type patterns struct {
	origin *resolve.Origin
	texts  []string
	all    []pattern
}

// pattern is one compiled image pattern.
type pattern struct {
	re *regexp.Regexp
	// nameOnly: the pattern gives neither tag nor digest, so that any will do.
	nameOnly bool
}

func compilePatterns(b *Bound) []patterns {
	if b == nil {
		return nil
	}
	out := make([]patterns, 0, len(b.Terms))
	for _, t := range b.Terms {
		p := patterns{origin: t.Origin, texts: list(t.Leaf)}
		for _, text := range p.texts {
			if c, ok := compilePattern(text); ok {
				p.all = append(p.all, c)
			}
		}
		out = append(out, p)
	}
	return out
}

// compilePattern turns a pattern into an expression over normalised references. It matches in linear time whatever the
// pattern. Patterns are completed like references, except that one of wildcards alone, such as "**", means everything.
func compilePattern(text string) (pattern, bool) {
	full := text
	if text != hostImage && !strings.HasPrefix(text, "**") {
		full = qualify(text)
	}
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for rest := full; rest != ""; {
		literal, after, wild := strings.Cut(rest, "*")
		b.WriteString(regexp.QuoteMeta(literal))
		if !wild {
			break
		}
		if rest, wild = strings.CutPrefix(after, "*"); wild {
			b.WriteString(`.*`)
		} else {
			b.WriteString(`[^/]*`)
		}
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		return pattern{}, false
	}
	_, tail := splitReference(full)
	return pattern{re: re, nameOnly: tail == ""}, true
}

// matches reports whether the layer allows a normalised reference.
func (p *patterns) matches(ref string) bool {
	name, _ := splitReference(ref)
	for i := range p.all {
		subject := ref
		if p.all[i].nameOnly {
			subject = name
		}
		if p.all[i].re.MatchString(subject) {
			return true
		}
	}
	return false
}

// byDigest reports whether a reference names an immutable image.
func byDigest(ref string) bool { return strings.Contains(ref, "@sha256:") }

// isLiteral reports whether a pattern names one image, which can then be suggested.
func isLiteral(text string) bool { return !strings.Contains(text, "*") }
