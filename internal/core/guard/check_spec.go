package guard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
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

// annotations checks the keys that the request adds.
func (c *checker) annotations() {
	asked := c.s.Request.Launch.GetPodAnnotations()
	if len(asked) == 0 {
		return
	}
	base := c.below(c.set.annotations)
	own, _ := base.Any().(map[string]string)
	var bad []Violation
	for _, key := range c.s.annotations {
		if v, ok := c.annotation(key, asked[key], own, base.origin); !ok {
			v.Path, v.Value, v.ValueOrigin = c.set.annotations.PathOf(key), asked[key], c.s.Origin
			v.repair("pod_annotations["+key+"]", "", func(l *specpb.Launch) { delete(l.PodAnnotations, key) })
			bad = append(bad, v)
			if c.brief {
				break
			}
		}
	}
	c.out = append(c.out, bad...)
	c.annotationCount(len(asked), bad)
}

// annotation checks one key. own is what layers 1 to 3 set.
func (c *checker) annotation(key, value string, own map[string]string, by *resolve.Origin) (v Violation, ok bool) {
	v.Reason = ReasonReserved
	if have, set := own[key]; set {
		v.Limit, v.LimitPath, v.LimitOrigin = have, c.set.annotations.Path, by
		v.Message = fmt.Sprintf("annotation %s is already set to %s%s, not %s; a request adds annotations and replaces none", key, have, from(by), value)
		return v, false
	}
	if rule := reserved(key); rule != "" {
		v.Limit, v.LimitOrigin = rule, builtIn()
		v.Message = fmt.Sprintf("annotation %s is reserved: keys of %s are not the caller's to set", key, rule)
		return v, false
	}
	if d := c.deniedBy(key); d != nil {
		v.Reason, v.Limit, v.LimitPath, v.LimitOrigin = ReasonViolated, d.text, c.set.deniedPrefixes.Path, d.origin
		v.Message = fmt.Sprintf("annotation %s has the denied prefix %s%s", key, d.text, from(d.origin))
		return v, false
	}
	return v, true
}

func (c *checker) deniedBy(key string) *entry {
	i := slices.IndexFunc(c.denied, func(d entry) bool { return strings.HasPrefix(key, d.text) })
	if i < 0 {
		return nil
	}
	return &c.denied[i]
}

// annotationCount counts all that were asked for; the last of those that are fine otherwise are the ones to leave out.
func (c *checker) annotationCount(asked int, bad []Violation) {
	b := c.bounds[c.set.annotationCount]
	if b == nil || int64(asked) <= b.Amount() {
		return
	}
	t, most := b.Decisive(), int(b.Amount())
	v := Violation{
		Reason: ReasonViolated, Path: c.set.annotations.Path, Value: strconv.Itoa(asked), Limit: t.String(), LimitPath: b.Field.Path,
		ValueOrigin: c.s.Origin, LimitOrigin: t.Origin,
		Message: fmt.Sprintf("%d annotations (request) are more than %d%s", asked, most, from(t.Origin)),
	}
	good := slices.DeleteFunc(slices.Clone(c.s.annotations), func(key string) bool {
		path := c.set.annotations.PathOf(key)
		return slices.ContainsFunc(bad, func(v Violation) bool { return v.Path == path })
	})
	if len(good) > most {
		drop := good[most:]
		v.repair("pod_annotations["+drop[0]+"]", "", func(l *specpb.Launch) {
			for _, key := range drop {
				delete(l.PodAnnotations, key)
			}
		})
	}
	c.add(v)
}

// locked checks that what the request gives for a locked field is what the layers below say anyway.
func (c *checker) locked() {
	if len(c.locks) == 0 {
		return
	}
	for _, leaf := range c.s.Request.Layer.Leaves() {
		if leaf.Field.Additive {
			// Each entry is a field of its own. None equals what is below, since a request replaces no entry.
			for _, e := range leaf.Entries() {
				c.lock(e, found{Leaf: spec.Leaf{Field: e.Field, Key: e.Key}})
			}
			continue
		}
		switch leaf.Field {
		case c.set.egressSelected:
			c.lock(leaf, c.below(c.set.egressDefault))
		case c.set.ingressSelected:
			c.lock(leaf, c.below(c.set.ingressDefault))
		default:
			c.lock(leaf, c.below(leaf.Field))
		}
	}
}

// lock compares one statement of the request with what it may only repeat.
func (c *checker) lock(leaf spec.Leaf, own found) {
	path := leaf.Path()
	lock := c.lockOf(path)
	if lock == nil || c.equal(leaf, own.Leaf) {
		return
	}
	limit := "unset"
	if own.State == spec.Set {
		limit = own.String()
	}
	v := Violation{
		Reason: ReasonLocked, Path: path, Value: leaf.String(), Limit: limit, LimitPath: c.set.locked.Path,
		ValueOrigin: c.s.Origin, LimitOrigin: lock.origin,
		Message: fmt.Sprintf("%s is locked%s; below the request it is %s%s, the request asks for %s", path, from(lock.origin), limit, from(own.origin), leaf),
	}
	v.repair(launch.RequestPath(path), "", func(l *specpb.Launch) { unset(l, path) })
	c.add(v)
}

// lockOf returns the lock that covers a path. To lock the default mode is to lock the mode.
func (c *checker) lockOf(path string) *entry {
	for i := range c.locks {
		lock := c.locks[i].text
		if covers(lock, path) ||
			path == c.set.egressSelected.Path && lock == c.set.egressDefault.Path ||
			path == c.set.ingressSelected.Path && lock == c.set.ingressDefault.Path {
			return &c.locks[i]
		}
	}
	return nil
}

// covers reports whether path is root or inside it.
func covers(root, path string) bool {
	rest, ok := strings.CutPrefix(path, root)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// equal compares by meaning: quantities by amount, images by normalised reference.
func (c *checker) equal(a, b spec.Leaf) bool {
	if a.State != b.State {
		return false
	}
	x, okX := a.Amount()
	y, okY := b.Amount()
	if okX && okY {
		return x == y
	}
	if a.Field == c.set.image {
		s, _ := a.Any().(string)
		t, _ := b.Any().(string)
		return NormalizeImage(s) == NormalizeImage(t)
	}
	return a.String() == b.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
