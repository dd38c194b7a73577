package bermv1

import (
	"net/http"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/rest"
)

func (f *Front) listZones(w http.ResponseWriter, r *http.Request, _ string) error {
	m := &bermv1.ListZonesRequest{}
	if err := rest.List(r, m); err != nil {
		return err
	}
	list, next, err := f.control.ListZones(r.Context(), edge.Principal(r.Context()), control.Page{Size: int(m.GetPageSize()), Token: m.GetPageToken()})
	if err != nil {
		return err
	}
	return rest.WriteList(w, "zones", list, next, func(z *core.Zone) (*tree.Node, error) { return zoneNode(z, nil) })
}

func (f *Front) getZone(w http.ResponseWriter, r *http.Request, name string) error {
	if _, err := rest.Query(r); err != nil {
		return err
	}
	if err := rest.NoBody(r); err != nil {
		return err
	}
	z, err := f.control.GetZone(r.Context(), edge.Principal(r.Context()), name)
	if err != nil {
		return err
	}
	return writeZone(w, z, nil)
}

func (f *Front) putZone(w http.ResponseWriter, r *http.Request, name string) error {
	if _, err := rest.Query(r); err != nil {
		return err
	}
	n, err := rest.ParseBody(r)
	if err != nil {
		return err
	}
	in, err := decodeZone(n, name)
	if err != nil {
		return err
	}
	if in.Etag, err = rest.Etag(r, in.Etag); err != nil {
		return err
	}
	if in.Reason, err = rest.Reason(r); err != nil {
		return err
	}
	z, warnings, err := f.control.PutZone(r.Context(), edge.Principal(r.Context()), name, in)
	if err != nil {
		return err
	}
	return writeZone(w, z, warnings)
}

// decodeZone reads the body of a PUT. name is the one in the path, which a body may repeat.
func decodeZone(n *tree.Node, name string) (control.ZoneInput, error) {
	wrong := &rest.Problems{}
	m := &bermv1.PutZoneRequest{}
	e := rest.Unwrap(n, m, "zone", "defaults", wrong)
	if m.GetName() != "" && m.GetName() != name {
		wrong.Add(n.Get("name"), "name", "is %.80q in the body and %.80q in the path; leave it out of the body", m.GetName(), name)
	}
	e.OutputOnly(m.GetZone().ProtoReflect().Descriptor(), wrong)
	in := control.ZoneInput{Defaults: zoneDefaults(e.Object.Get("defaults"), wrong), Etag: m.GetZone().GetEtag()}
	return in, wrong.Fault()
}

func (f *Front) deleteZone(w http.ResponseWriter, r *http.Request, name string) error {
	query, err := rest.Query(r, "etag")
	if err != nil {
		return err
	}
	if err := rest.NoBody(r); err != nil {
		return err
	}
	etag, err := rest.Etag(r, query["etag"])
	if err != nil {
		return err
	}
	reason, err := rest.Reason(r)
	if err != nil {
		return err
	}
	if err := f.control.DeleteZone(r.Context(), edge.Principal(r.Context()), name, control.DeleteOptions{Etag: etag, Reason: reason}); err != nil {
		return err
	}
	rest.WriteJSON(w, []byte("{}"))
	return nil
}

func writeZone(w http.ResponseWriter, z *core.Zone, warnings []string) error {
	n, err := zoneNode(z, warnings)
	if err != nil {
		return err
	}
	return rest.WriteObject(w, n)
}
