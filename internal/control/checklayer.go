package control

import (
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

// checkLayer asks what would refuse the pod of a layer that is being written (Config.CheckSpec), so that a misspelt pod key is
// refused now and not at some later launch. The violations are added to e below the path at; reason and hint become e's when it
// has none of its own yet.
func (s *Service) checkLayer(e *fault.Error, at string, l *spec.Layer) {
	if s.checkSpec == nil || l.IsEmpty() {
		return
	}
	found := fault.From(s.checkSpec(l.Message()))
	if found == nil {
		return
	}
	if len(e.Fields) == 0 {
		e.Reason = found.Reason
	}
	if e.Hint == "" {
		e.Hint = found.Hint
	}
	if len(found.Fields) == 0 {
		e.WithField(at, "%s", found.Message)
	}
	for _, f := range found.Fields {
		e.WithField(at+"."+f.Path, "%s", f.Description)
	}
}

// checkZoneOnly refuses what only zone defaults may set, in a layer of something else.
func checkZoneOnly(e *fault.Error, at string, l *spec.Layer) {
	for _, leaf := range l.Leaves() {
		if leaf.Field.ZoneOnly {
			e.WithField(at+"."+leaf.Field.PathOf(leaf.Key), "only the defaults of a zone may set it: berm zone put")
		}
	}
}

// checkSpecOf is checkLayer for an object that has one layer.
func (s *Service) checkSpecOf(what, at string, l *spec.Layer) error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid %s", what)
	if what != "zone" {
		checkZoneOnly(e, at, l)
	}
	s.checkLayer(e, at, l)
	return orNil(e)
}
