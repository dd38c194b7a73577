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

// checkHome refuses what only another kind of object may set. what is "zone", "profile" or "override".
func checkHome(e *fault.Error, at, what string, l *spec.Layer) {
	for _, leaf := range l.Leaves() {
		switch path := at + "." + leaf.Field.PathOf(leaf.Key); {
		case leaf.Field.ZoneOnly && what != "zone":
			e.WithField(path, "only the defaults of a zone may set it: berm zone put")
		case leaf.Field.ProfileOnly && what != "profile":
			e.WithField(path, "only a profile may set it: it decides between runners, each of which has a zone and overrides of its own")
		}
	}
}

// checkSpecOf is checkLayer for an object that has one layer.
func (s *Service) checkSpecOf(what, at string, l *spec.Layer) error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid %s", what)
	checkHome(e, at, what, l)
	s.checkLayer(e, at, l)
	return orNil(e)
}
