package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/rest"
	"github.com/bermhq/berm/internal/server/wire"
)

// zoneService is the gRPC form of zones. google.protobuf.Struct carries nulls, so nothing is lost in it.
type zoneService struct {
	bermv1rpc.UnsafeZoneServiceServer
	*Front
}

var _ bermv1rpc.ZoneServiceServer = (*zoneService)(nil)

func (s *zoneService) GetZone(ctx context.Context, r *bermv1.GetZoneRequest) (*bermv1.Zone, error) {
	z, err := s.control.GetZone(ctx, edge.Principal(ctx), r.GetName())
	if err != nil {
		return nil, err
	}
	return zoneMessage(z, nil), nil
}

func (s *zoneService) ListZones(ctx context.Context, r *bermv1.ListZonesRequest) (*bermv1.ListZonesResponse, error) {
	list, next, err := s.control.ListZones(ctx, edge.Principal(ctx), pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListZonesResponse{NextPageToken: next}
	for _, z := range list {
		out.Zones = append(out.Zones, zoneMessage(z, nil))
	}
	return out, nil
}

func (s *zoneService) PutZone(ctx context.Context, r *bermv1.PutZoneRequest) (*bermv1.Zone, error) {
	wrong := &rest.Problems{}
	e := rest.EnvelopeOf("zone", r.GetZone(), wrong)
	e.OutputOnly(r.GetZone().ProtoReflect().Descriptor(), wrong)
	defaults := zoneDefaults(e.Object.Get("defaults"), wrong)
	if err := wrong.Fault(); err != nil {
		return nil, err
	}
	z, warnings, err := s.control.PutZone(ctx, edge.Principal(ctx), r.GetName(),
		control.ZoneInput{Defaults: defaults, Etag: r.GetZone().GetEtag(), Reason: rest.ReasonOf(ctx)})
	if err != nil {
		return nil, err
	}
	return zoneMessage(z, warnings), nil
}

func (s *zoneService) DeleteZone(ctx context.Context, r *bermv1.DeleteZoneRequest) (*bermv1.DeleteZoneResponse, error) {
	if err := s.control.DeleteZone(ctx, edge.Principal(ctx), r.GetName(), control.DeleteOptions{Etag: r.GetEtag(), Reason: rest.ReasonOf(ctx)}); err != nil {
		return nil, err
	}
	return &bermv1.DeleteZoneResponse{}, nil
}

func zoneMessage(z *core.Zone, warnings []string) *bermv1.Zone {
	return &bermv1.Zone{
		Name: z.Name, Defaults: wire.Struct(z.Defaults.JSON()), Revision: z.Revision, Etag: control.Etag(z.Meta),
		CreatedAt: wire.Time(z.CreatedAt), UpdatedAt: wire.Time(z.UpdatedAt), UpdatedBy: z.UpdatedBy, Warnings: warnings,
	}
}

// zoneNode returns a zone as REST shows it. Numbers of the defaults do not pass through floating point.
func zoneNode(z *core.Zone, warnings []string) (*tree.Node, error) {
	m := zoneMessage(z, warnings)
	m.Defaults = nil
	n, err := rest.MessageNode(m)
	if err != nil {
		return nil, err
	}
	defaults, err := tree.ParseJSON(z.Defaults.JSON())
	if err != nil {
		return nil, fault.Internalf(err, "the defaults of zone %s cannot be rendered", z.Name)
	}
	n.Keys = append(n.Keys, tree.Key{Name: "defaults", Value: defaults})
	return n, nil
}

// zoneDefaults reads layer 1, nil when it is not given.
func zoneDefaults(n *tree.Node, wrong *rest.Problems) *spec.Layer {
	if n == nil || n.Kind == tree.Null {
		return nil
	}
	l, err := spec.DecodeLayer(n, "zone.defaults")
	wrong.Merge(err)
	return l
}
