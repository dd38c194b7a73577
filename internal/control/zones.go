package control

import (
	"context"
	"strings"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// ZoneInput is what a caller says about a zone.
type ZoneInput struct {
	// Defaults is layer 1 above the built-in defaults; nil is none.
	Defaults *spec.Layer
	// Etag, when not empty, is the state that the caller has seen.
	Etag   string
	Reason string
}

// PutZone makes a zone, or replaces its defaults as a whole. Runners that already name it use it from the next launch on;
// an edit that leaves one of their bindings unresolvable is refused with the list, and the second result lists overrides
// that lose their effect. The same defaults again write nothing.
func (s *Service) PutZone(ctx context.Context, p core.Principal, name string, in ZoneInput) (*core.Zone, []string, error) {
	if err := s.allow(ctx, p, "PutZone", audit.Target{Kind: string(store.KindZone), Ref: name, Reason: in.Reason}); err != nil {
		return nil, nil, err
	}
	if err := checkZone(name, in); err != nil {
		return nil, nil, err
	}
	if err := s.checkSpecOf("zone", "defaults", in.Defaults); err != nil {
		return nil, nil, err
	}
	return s.putZone(ctx, p, name, func(store.Tx) (ZoneInput, error) { return in, nil })
}

// putZone writes defaults of a zone, in one transaction with what they are made from.
func (s *Service) putZone(ctx context.Context, p core.Principal, name string, edit func(store.Tx) (ZoneInput, error)) (*core.Zone, []string, error) {
	fresh := s.meta(p, "")
	var (
		zone     *core.Zone
		warnings []string
	)
	failpoint.Hit(fpZonePut)
	warned, err := s.editWarned(ctx, p.OrgID, func(tx store.Tx) error {
		in, err := edit(tx)
		if err != nil {
			return err
		}
		current, err := findZone(ctx, tx, p.OrgID, name)
		if err != nil {
			return err
		}
		next := &core.Zone{Meta: fresh, Name: name, Defaults: in.Defaults}
		next.Reason = in.Reason
		if current == nil {
			if in.Etag != "" {
				return fault.New(fault.Conflict, fault.ReasonEtagMismatch, "zone %s does not exist any more", name)
			}
		} else {
			if err := checkEtag(in.Etag, "zone "+name, current.Meta); err != nil {
				return err
			}
			zone, warnings = current, nil
			if current.Defaults.String() == in.Defaults.String() {
				return nil
			}
			next.Meta = current.Meta
			s.revise(&next.Meta, p, in.Reason)
		}
		if warnings, err = s.zoneImpact(ctx, tx, current, next); err != nil {
			return err
		}
		o, err := zoneObject(next)
		if err != nil {
			return err
		}
		if current == nil {
			err = tx.Insert(ctx, o)
		} else {
			err = tx.Update(ctx, o)
		}
		if err != nil {
			return err
		}
		zone, err = zoneFrom(o)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return zone, append(warnings, warned...), nil
}

// GetZone returns a zone by name.
func (s *Service) GetZone(ctx context.Context, p core.Principal, name string) (*core.Zone, error) {
	if err := s.allow(ctx, p, "GetZone"); err != nil {
		return nil, err
	}
	var zone *core.Zone
	err := s.store.View(ctx, func(r store.Reader) error {
		var err error
		zone, err = readZone(ctx, r, p.OrgID, name)
		return err
	})
	return zone, err
}

// ListZones lists zones by name.
func (s *Service) ListZones(ctx context.Context, p core.Principal, page Page) ([]*core.Zone, string, error) {
	if err := s.allow(ctx, p, "ListZones"); err != nil {
		return nil, "", err
	}
	return listPage(ctx, s, store.KindZone, p.OrgID, page, "", zoneFrom, nil)
}

// DeleteZone deletes a zone that no runner names.
func (s *Service) DeleteZone(ctx context.Context, p core.Principal, name string, opts DeleteOptions) error {
	if err := s.allow(ctx, p, "DeleteZone", audit.Target{Kind: string(store.KindZone), Ref: name}); err != nil {
		return err
	}
	if err := opts.check(); err != nil {
		return err
	}
	failpoint.Hit(fpZoneDelete)
	err := s.edit(ctx, p.OrgID, func(tx store.Tx) error {
		zone, err := readZone(ctx, tx, p.OrgID, name)
		if err != nil {
			return err
		}
		if err := checkEtag(opts.Etag, "zone "+name, zone.Meta); err != nil {
			return err
		}
		var in []string
		err = eachRunner(ctx, tx, p.OrgID, func(r *core.Runner) error {
			if r.Zone == name {
				in = append(in, r.RunnerID)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(in) > 0 {
			in = in[:min(len(in), maxListed)]
			return fault.Preconditionf(fault.ReasonZoneInUse, "zone %s is named by %s: %s", name, counted(len(in), "runner"), strings.Join(in, ", ")).
				WithMeta("runners", strings.Join(in, ",")).
				WithHint("move the runners to another zone first, or put empty defaults")
		}
		s.revise(&zone.Meta, p, opts.Reason)
		o, err := zoneObject(zone)
		if err != nil {
			return err
		}
		return tx.Delete(ctx, o)
	})
	return err
}

func checkZone(name string, in ZoneInput) error {
	if err := spec.CheckName("name", name); err != nil {
		return err
	}
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid zone")
	checkText(e, "reason", in.Reason, MaxReason)
	return orNil(e)
}

// findZone returns the zone, nil when there is none.
func findZone(ctx context.Context, r store.Reader, orgID, name string) (*core.Zone, error) {
	o, err := r.ObjectByName(ctx, store.KindZone, orgID, name)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return zoneFrom(o)
}

func readZone(ctx context.Context, r store.Reader, orgID, name string) (*core.Zone, error) {
	zone, err := findZone(ctx, r, orgID, name)
	if err == nil && zone == nil {
		err = fault.NotFoundf(fault.ReasonZoneNotFound, "zone %.80q does not exist", name).
			WithHint("a runner may name a zone that does not exist: it then has the built-in defaults")
	}
	return zone, err
}
