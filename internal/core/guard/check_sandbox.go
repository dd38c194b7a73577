package guard

import (
	"fmt"
	"slices"
	"strconv"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/spec"
)

func (c *checker) egress() {
	mode, asked := c.mode(c.set.egressSelected, c.set.egressDefault)
	names := c.egressModes
	if slices.Contains(names, mode.text()) {
		return
	}
	v := c.undeclared("egress", mode, names, c.set.egressModes)
	if mode.text() == "" {
		v.Reason, v.Path = ReasonMissing, c.set.egressDefault.Path
		v.Message = fmt.Sprintf("no egress mode is given and there is no default%s; declared are %s", from(mode.origin), listed(names))
	}
	own := c.below(c.set.egressDefault).text()
	switch {
	case asked && slices.Contains(names, own):
		v.repair("network.egress_mode", "", func(l *specpb.Launch) { l.EgressMode = "" })
	case len(names) > 0:
		v.repair("network.egress_mode", strconv.Quote(names[0]), func(l *specpb.Launch) { l.EgressMode = names[0] })
	}
	c.add(v)
}

func (c *checker) ingress() {
	mode, asked := c.mode(c.set.ingressSelected, c.set.ingressDefault)
	names := c.ingressModes
	switch {
	case mode.text() == "":
		c.exposure(names)
	case slices.Contains(names, mode.text()):
	default:
		v := c.undeclared("ingress", mode, names, c.set.ingressModes)
		own := c.below(c.set.ingressDefault).text()
		switch {
		case asked && (own == "" || slices.Contains(names, own)):
			v.repair("network.ingress_mode", "", func(l *specpb.Launch) { l.IngressMode = "" })
		case len(names) > 0:
			v.repair("network.ingress_mode", strconv.Quote(names[0]), func(l *specpb.Launch) { l.IngressMode = names[0] })
		}
		c.add(v)
	}
}

// exposure refuses to expose ports without an ingress mode: nobody could reach them.
func (c *checker) exposure(names []string) {
	if len(c.s.Request.Launch.GetExposedPorts()) == 0 {
		return
	}
	v := Violation{
		Reason: ReasonMissing, Path: c.set.ingressSelected.Path, Limit: listed(names), LimitPath: c.set.ingressModes.Path,
		ValueOrigin: c.s.Origin, LimitOrigin: c.declared(c.set.ingressModes).origin,
		Message: "ports are to be exposed, but no ingress mode is given and there is no default; declared are " + listed(names),
	}
	v.repair("network.exposed_ports", "", func(l *specpb.Launch) { l.ExposedPorts = nil })
	c.add(v)
}

// mode returns the mode in force: the request's, else the default.
func (c *checker) mode(selected, byDefault *spec.Field) (v found, asked bool) {
	if v = c.value(selected); v.asked {
		return v, true
	}
	return c.below(byDefault), false
}

// declared returns the modes with who declares them. Where no layer does, it is a built-in rule that there are none.
func (c *checker) declared(modes *spec.Field) found {
	v := c.below(modes)
	if v.origin == nil {
		v.origin = builtIn()
	}
	return v
}

func (c *checker) undeclared(kind string, mode found, names []string, declared *spec.Field) Violation {
	where := c.declared(declared)
	v := Violation{
		Reason: ReasonUndeclared, Path: mode.Path(), Value: mode.text(), Limit: listed(names), LimitPath: declared.Path,
		ValueOrigin: mode.origin, LimitOrigin: where.origin,
	}
	v.Message = fmt.Sprintf("%s mode %s%s is not declared; declared are %s%s", kind, mode.text(), from(mode.origin), listed(names), from(where.origin))
	if !mode.asked {
		v.Reason = ReasonUnresolvable
		v.Message = fmt.Sprintf("%s names mode %s%s, which is not declared; declared are %s%s",
			mode.Path(), mode.text(), from(mode.origin), listed(names), from(where.origin))
	}
	return v
}

func (c *checker) lifetime() {
	b := c.bounds[c.set.lifetimeMax]
	if b == nil {
		return
	}
	asked := c.s.Request.Launch.GetMaxLifetimeSeconds()
	seconds, origin := c.Lifetime(asked)
	if asked != 0 {
		origin = c.s.Origin
	}
	t, most := b.Decisive(), b.Amount()
	if seconds != 0 && int64(seconds) <= most {
		return
	}
	v := Violation{
		Reason: ReasonViolated, Path: "max_lifetime_seconds", Value: strconv.Itoa(int(seconds)), Limit: t.String(), LimitPath: b.Field.Path,
		ValueOrigin: origin, LimitOrigin: t.Origin,
		Message: fmt.Sprintf("a lifetime of %d seconds%s is above the maximum %d%s", seconds, from(origin), most, from(t.Origin)),
	}
	if most == 0 {
		v.Message = fmt.Sprintf("a maximum lifetime of 0 seconds%s forbids every sandbox", from(t.Origin))
	} else {
		v.repair("max_lifetime_seconds", strconv.FormatInt(most, 10), func(l *specpb.Launch) { l.MaxLifetimeSeconds = int32(most) })
	}
	c.add(v)
}

func (c *checker) mountedFiles() {
	b := c.bounds[c.set.mountedBytes]
	if b == nil || c.s.Request.MountedBytes <= b.Amount() {
		return
	}
	t, most := b.Decisive(), b.Amount()
	v := Violation{
		Reason: ReasonViolated, Path: "mounted_files", Value: strconv.FormatInt(c.s.Request.MountedBytes, 10), Limit: t.String(),
		LimitPath: b.Field.Path, ValueOrigin: c.s.Origin, LimitOrigin: t.Origin,
		Message: fmt.Sprintf("mounted files of %d bytes (request) are above the maximum %d%s", c.s.Request.MountedBytes, most, from(t.Origin)),
	}
	v.repair("mounted_files", "", func(l *specpb.Launch) { dropFiles(l, most) })
	c.add(v)
}

// dropFiles leaves out the largest files, later ones first among equals, until the rest fits.
func dropFiles(l *specpb.Launch, most int64) {
	total := int64(0)
	for _, f := range l.MountedFiles {
		total += int64(len(f.Content))
	}
	for total > most {
		largest := 0
		for i, f := range l.MountedFiles {
			if len(f.Content) >= len(l.MountedFiles[largest].Content) {
				largest = i
			}
		}
		total -= int64(len(l.MountedFiles[largest].Content))
		l.MountedFiles = slices.Delete(l.MountedFiles, largest, largest+1)
	}
}

func (c *checker) ports() {
	b := c.bounds[c.set.portCount]
	asked := len(c.s.Request.Launch.GetPorts())
	if b == nil || int64(asked) <= b.Amount() {
		return
	}
	t, most := b.Decisive(), int(b.Amount())
	v := Violation{
		Reason: ReasonViolated, Path: "ports", Value: strconv.Itoa(asked), Limit: t.String(), LimitPath: b.Field.Path,
		ValueOrigin: c.s.Origin, LimitOrigin: t.Origin,
		Message: fmt.Sprintf("%d ports (request) are more than %d%s", asked, most, from(t.Origin)),
	}
	v.repair("ports", "", func(l *specpb.Launch) { dropPorts(l, most) })
	c.add(v)
}

// dropPorts leaves out ports that are not exposed first, from the end, and what can then no longer be exposed.
func dropPorts(l *specpb.Launch, most int) {
	drop := func(may func(*specpb.Port) bool) {
		for i := len(l.Ports) - 1; i >= 0 && len(l.Ports) > most; i-- {
			if may(l.Ports[i]) {
				l.Ports = slices.Delete(l.Ports, i, i+1)
			}
		}
	}
	drop(func(p *specpb.Port) bool { return !slices.Contains(l.ExposedPorts, p.GetContainerPort()) })
	drop(func(*specpb.Port) bool { return true })
	l.ExposedPorts = slices.DeleteFunc(l.ExposedPorts, func(n int32) bool {
		return !slices.ContainsFunc(l.Ports, func(p *specpb.Port) bool { return p.GetContainerPort() == n })
	})
}
