package guard

import (
	"fmt"
	"strconv"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Check returns everything that keeps a launch from being admitted, in a fixed order; nil admits it. It looks at what the
// layers of l and the request over them resolve to.
func Check(l *Limits, s *Subject) []Violation {
	c := checker{Limits: l, s: s, set: fields()}
	c.run()
	return c.out
}

// Admits reports whether Check would find nothing. It stops at the first violation.
func Admits(l *Limits, s *Subject) bool {
	c := checker{Limits: l, s: s, set: fields(), brief: true}
	c.run()
	return len(c.out) == 0
}

// checker is one run of the checks.
type checker struct {
	*Limits
	s   *Subject
	set *fieldSet
	// brief: one violation is enough.
	brief bool
	out   []Violation
}

// run checks in a fixed order. Locks come first: to leave a locked field alone may be all that is needed. The calls are
// spelt out, because through a table of functions the checker would be on the heap, once for every binding of a fleet.
func (c *checker) run() {
	c.s.prepare()
	c.out = append(c.out, c.broken...)
	c.locked()
	c.resources()
	c.storage()
	c.gpus()
	c.image()
	c.runtime()
	if c.enough() {
		return
	}
	c.egress()
	c.ingress()
	c.annotations()
	if c.enough() {
		return
	}
	c.lifetime()
	c.mountedFiles()
	c.ports()
}

// enough reports whether nothing more needs to be found.
func (c *checker) enough() bool { return c.brief && len(c.out) > 0 }

// found is the resolved value of a field.
type found struct {
	spec.Leaf
	origin *resolve.Origin
	// asked: the request gives it.
	asked bool
}

// value resolves one field: a request replaces what is below it.
func (c *checker) value(f *spec.Field) found {
	if leaf, ok := c.s.Request.Layer.At(f, ""); ok {
		return found{leaf, c.s.Origin, true}
	}
	return c.below(f)
}

// below resolves one field without the request.
func (c *checker) below(f *spec.Field) found {
	for i := range c.known {
		if c.known[i].Field == f {
			return c.known[i]
		}
	}
	return at(c.folded, f, "")
}

// at returns what the layers below a request say about a field, an absent value when that is nothing.
func at(folded *resolve.Folded, f *spec.Field, key string) found {
	v, ok := folded.At(f, key)
	if !ok {
		return found{Leaf: spec.Leaf{Field: f, Key: key}}
	}
	return found{*v.Leaf, v.Origin, false}
}

// text returns a string value, "" when there is none.
func (f found) text() string {
	s, _ := f.Any().(string)
	return s
}

func (c *checker) add(v Violation) {
	c.out = append(c.out, v)
}

// repair states the change of the request that passes a bound.
func (v *Violation) repair(path, to string, apply func(*specpb.Launch)) {
	v.Fix = &launch.Change{Path: path}
	if to != "" {
		v.Fix.To = []byte(to)
	}
	v.fix = apply
}

func (c *checker) resources() {
	for i := range c.set.dimensions {
		c.resource(&c.set.dimensions[i], &c.ceilings[i])
	}
}

// resource checks request and limit of one resource against each other and against its ceiling.
func (c *checker) resource(d *dimension, top *ceiling) {
	limit, asked := c.value(d.limit), c.value(d.request)
	most, hasLimit := limit.Amount()
	switch need := c.bounds[c.set.requireLimits].True(); {
	case hasLimit && top.known && most > top.amount:
		c.add(c.tooMuch(d, top, limit))
	case !hasLimit && top.bound != nil:
		c.add(c.unlimited(d, top.bound, limit.origin))
	case !hasLimit && need != nil:
		c.add(c.unlimited(d, need, limit.origin))
	}
	if want, ok := asked.Amount(); ok && hasLimit && want > most {
		c.add(c.inverted(d, asked, limit))
	}
}

func (c *checker) tooMuch(d *dimension, top *ceiling, v found) Violation {
	out := Violation{
		Reason: ReasonViolated, Path: d.limit.Path, Value: v.String(), Limit: top.text, LimitPath: top.path,
		ValueOrigin: v.origin, LimitOrigin: top.origin,
	}
	if top.explicit {
		out.Message = fmt.Sprintf("%s limit %s%s is above the maximum %s%s", d.name, v, from(v.origin), top.text, from(top.origin))
	} else {
		out.Message = fmt.Sprintf("%s limit %s%s is above the default and ceiling %s%s", d.name, v, from(v.origin), top.text, from(top.origin))
	}
	out.repair(d.limited, strconv.Quote(top.text), func(l *specpb.Launch) { setLimit(l, d, top.text) })
	return out
}

// unlimited is about a limit that no layer gives although a bound needs one: nothing would be enforced.
func (c *checker) unlimited(d *dimension, bound *Term, cleared *resolve.Origin) Violation {
	out := Violation{
		Reason: ReasonMissing, Path: d.limit.Path, Limit: bound.String(), LimitPath: bound.Field.Path,
		ValueOrigin: cleared, LimitOrigin: bound.Origin,
	}
	to := bound.String()
	if bound.Field == c.set.requireLimits {
		out.Limit, to = "required", ""
		out.Message = fmt.Sprintf("no %s limit is given, and limits are required%s", d.name, from(bound.Origin))
		// Any limit will do; the one that changes least is the request's own amount.
		if asked := c.value(d.request); asked.State == spec.Set {
			to = asked.String()
		}
	} else {
		out.Message = fmt.Sprintf("no %s limit is given, so the maximum %s%s could not hold: ask for a limit", d.name, to, from(bound.Origin))
	}
	if to != "" {
		out.repair(d.limited, strconv.Quote(to), func(l *specpb.Launch) { setLimit(l, d, to) })
	}
	return out
}

// inverted is about a request above its limit.
func (c *checker) inverted(d *dimension, asked, limit found) Violation {
	out := Violation{
		Reason: ReasonViolated, Path: d.request.Path, Value: asked.String(), Limit: limit.String(), LimitPath: d.limit.Path,
		ValueOrigin: asked.origin, LimitOrigin: limit.origin,
		Message: fmt.Sprintf("%s request %s%s is above the limit %s%s", d.name, asked, from(asked.origin), limit, from(limit.origin)),
	}
	to := limit.String()
	out.repair(d.asked, strconv.Quote(to), func(l *specpb.Launch) { setRequest(l, d, to) })
	return out
}

// setLimit and setRequest write a quantity into a launch of the caller's own. A request above the new limit goes down with
// it: the two could not be given together.
func setLimit(l *specpb.Launch, d *dimension, to string) {
	if l.ResourceLimits == nil {
		l.ResourceLimits = &specpb.ResourceAmounts{}
	}
	d.set(l.ResourceLimits, to)
	if asked := d.get(l.ResourceRequests); asked != "" && d.above(asked, to) {
		setRequest(l, d, to)
	}
}

func setRequest(l *specpb.Launch, d *dimension, to string) {
	if l.ResourceRequests == nil {
		l.ResourceRequests = &specpb.ResourceAmounts{}
	}
	d.set(l.ResourceRequests, to)
}

// above compares two quantities. One that cannot be read is not above anything.
func (d *dimension) above(a, b string) bool {
	x, err := d.parse(a)
	y, err2 := d.parse(b)
	return err == nil && err2 == nil && x > y
}

// storage checks the limit of ephemeral storage. No request says anything about it, so no change of one helps.
func (c *checker) storage() {
	b := c.bounds[c.set.maxStorage]
	if b == nil {
		return
	}
	limit, t := c.below(c.set.storage), b.Decisive()
	most, ok := limit.Amount()
	if ok && most <= b.Amount() {
		return
	}
	v := Violation{
		Reason: ReasonViolated, Path: c.set.storage.Path, Value: limit.String(), Limit: t.String(), LimitPath: b.Field.Path,
		ValueOrigin: limit.origin, LimitOrigin: t.Origin,
		Message: fmt.Sprintf("ephemeral storage limit %s%s is above the maximum %s%s", limit, from(limit.origin), t, from(t.Origin)),
	}
	if !ok {
		v.Reason, v.Value = ReasonMissing, ""
		v.Message = fmt.Sprintf("no ephemeral storage limit is given, so the maximum %s%s could not hold: the profile or the binding must set one", t, from(t.Origin))
	}
	c.add(v)
}

func (c *checker) gpus() {
	b := c.bounds[c.set.maxGPU]
	if b == nil || c.s.Request.GPU.GetCount() <= b.Amount() {
		return
	}
	t, most := b.Decisive(), b.Amount()
	v := Violation{
		Reason: ReasonViolated, Path: "resource_defaults.gpu", Value: strconv.FormatInt(c.s.Request.GPU.GetCount(), 10), Limit: t.String(),
		LimitPath: b.Field.Path, ValueOrigin: c.s.Origin, LimitOrigin: t.Origin,
		Message: fmt.Sprintf("%d GPUs (request) are above the maximum %d%s", c.s.Request.GPU.GetCount(), most, from(t.Origin)),
	}
	v.repair("resource_limits.gpu", "", func(l *specpb.Launch) {
		for _, a := range []*specpb.ResourceAmounts{l.ResourceRequests, l.ResourceLimits} {
			switch {
			case a.GetGpu() == nil:
			case most == 0:
				a.Gpu = nil
			default:
				a.Gpu.Count = most
			}
		}
	})
	if most > 0 {
		v.Fix.To = fmt.Appendf(nil, `{"count":%d}`, most)
	}
	c.add(v)
}
