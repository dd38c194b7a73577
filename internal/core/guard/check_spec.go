package guard

import (
	"fmt"
	"slices"
	"strconv"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/resolve"
)

func (c *checker) image() {
	digest := c.bounds[c.set.requireDigest].True()
	if len(c.patterns) == 0 && digest == nil {
		return
	}
	v, ref := c.value(c.set.image), c.Limits.image
	if v.asked {
		ref = c.s.ref
	}
	if digest != nil && !byDigest(ref) {
		out := c.badImage(v, digest.Origin, c.set.requireDigest.Path, "@sha256:…")
		out.Message = fmt.Sprintf("image %s%s is not named by digest, which is required%s", imageText(v), from(v.origin), from(digest.Origin))
		c.add(out)
	}
	for i := range c.patterns {
		p := &c.patterns[i]
		if ref != "" && p.matches(ref) {
			continue
		}
		out := c.badImage(v, p.origin, c.set.imagesAllowed.Path, listed(p.texts))
		out.Message = fmt.Sprintf("image %s%s is not among those allowed: %s%s", imageText(v), from(v.origin), listed(p.texts), from(p.origin))
		c.add(out)
	}
}

func imageText(v found) string {
	if v.text() == "" {
		return "(none)"
	}
	return v.text()
}

func (c *checker) badImage(v found, limitOrigin *resolve.Origin, path, limit string) Violation {
	out := Violation{
		Reason: ReasonViolated, Path: c.set.image.Path, Value: v.text(), Limit: limit, LimitPath: path, ValueOrigin: v.origin, LimitOrigin: limitOrigin,
	}
	if v.text() == "" {
		out.Reason = ReasonMissing
	}
	if to, ok := c.anImage(v.asked); ok {
		text := ""
		if to != "" {
			text = strconv.Quote(to)
		}
		out.repair("container_image", text, func(l *specpb.Launch) { l.ContainerImage = to })
	}
	return out
}

// anImage returns an image that every layer allows: the profile's own ("" in a request that gave another), else the first
// one that some layer names in full.
func (c *checker) anImage(asked bool) (string, bool) {
	if own := c.below(c.set.image).text(); asked && own != "" && c.allows(own) {
		return "", true
	}
	for i := range c.patterns {
		for _, text := range c.patterns[i].texts {
			if isLiteral(text) && c.allows(text) {
				return text, true
			}
		}
	}
	return "", false
}

func (c *checker) allows(image string) bool {
	ref := NormalizeImage(image)
	if c.bounds[c.set.requireDigest].True() != nil && !byDigest(ref) {
		return false
	}
	for i := range c.patterns {
		if !c.patterns[i].matches(ref) {
			return false
		}
	}
	return true
}

// runtime checks the class that the sandbox will really run with. No request can change it.
func (c *checker) runtime() {
	b := c.bounds[c.set.runtimeClasses]
	if b == nil {
		return
	}
	v := c.value(c.set.runtimeClass)
	class, what := v.text(), "runtime class "+v.text()
	if class == "" {
		class, what = c.s.RuntimeClass, "the runner's default runtime "+c.s.RuntimeClass
	}
	t := b.Without(class)
	if t == nil {
		return
	}
	out := Violation{
		Reason: ReasonViolated, Path: c.set.runtimeClass.Path, Value: class, Limit: listed(b.Common()), LimitPath: b.Field.Path,
		ValueOrigin: v.origin, LimitOrigin: t.Origin,
		Message: fmt.Sprintf("%s%s is not among those allowed: %s%s", what, from(v.origin), listed(list(t.Leaf)), from(t.Origin)),
	}
	if class == "" {
		out.Reason = ReasonMissing
		out.Message = fmt.Sprintf("no runtime class is given, and only these are allowed: %s%s", listed(list(t.Leaf)), from(t.Origin))
	}
	c.add(out)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
