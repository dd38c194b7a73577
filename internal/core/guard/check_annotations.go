package guard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/resolve"
)

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
	if rule := Reserved(key); rule != "" {
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
