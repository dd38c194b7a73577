package control_test

import (
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestZones(t *testing.T) {
	w := newWorld(t, "r1=us")
	put := func(in control.ZoneInput) (*core.Zone, error) {
		z, _, err := w.svc.PutZone(w.ctx(), w.admin, "us", in)
		return z, err
	}
	z, err := put(control.ZoneInput{Defaults: w.layer(`{"tags":["a"],"instance_types":null}`), Reason: "r"})
	w.must(err)
	if z.Revision != 1 || z.UpdatedBy != w.admin.Actor || z.Reason != "r" || z.Defaults.String() != `{"instanceTypes":null,"tags":["a"]}` {
		t.Errorf("%+v %s", z, z.Defaults)
	}
	if again, err := put(control.ZoneInput{Defaults: w.layer(`{"tags":["a"],"instance_types":null}`)}); err != nil || again.Revision != 1 {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	next, err := put(control.ZoneInput{Defaults: w.layer(`{}`), Etag: control.Etag(z.Meta)})
	w.must(err)
	if next.Revision != 2 || next.ID != z.ID {
		t.Errorf("%+v", next)
	}
	_, err = put(control.ZoneInput{Defaults: w.layer(`{"tags":[]}`), Etag: control.Etag(z.Meta)})
	wantFault(t, err, fault.Conflict, fault.ReasonEtagMismatch)
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "gone", control.ZoneInput{Etag: "x"})
	wantFault(t, err, fault.Conflict, fault.ReasonEtagMismatch)
	for _, name := range []string{"", "a b", "6f1c1a52-8c1a-4a7e-9d6c-0d8f5a1b2c3d"} {
		if _, _, err = w.svc.PutZone(w.ctx(), w.admin, name, control.ZoneInput{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	wantFault(t, w.svc.DeleteZone(w.ctx(), w.admin, "us", control.DeleteOptions{}), fault.Precondition, fault.ReasonZoneInUse, "r1")
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "eu", control.ZoneInput{})
	w.must(err)
	wantFault(t, w.svc.DeleteZone(w.ctx(), w.admin, "eu", control.DeleteOptions{Etag: "stale"}), fault.Conflict, fault.ReasonEtagMismatch)
	w.must(w.svc.DeleteZone(w.ctx(), w.admin, "eu", control.DeleteOptions{}))
	_, err = w.svc.GetZone(w.ctx(), w.user, "eu")
	wantFault(t, err, fault.NotFound, fault.ReasonZoneNotFound)
	all, _, err := w.svc.ListZones(w.ctx(), w.user, control.Page{})
	w.must(err)
	if len(all) != 2 || all[0].Name != "local" || all[1].Name != "us" {
		t.Errorf("%+v", all)
	}
}

// TestZoneMadeLater: a runner may name a zone that does not exist; when it is made, the next launch has its defaults.
func TestZoneMadeLater(t *testing.T) {
	w := newWorld(t, "r1=us")
	value := func(sb *core.Sandbox, path string) (string, string) {
		e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, path)
		w.must(err)
		if len(e.Fields) == 0 {
			return "", ""
		}
		return string(e.Fields[0].Value), e.Fields[0].Object
	}
	if v, _ := value(w.launch(nil), "tags"); v != "" {
		t.Errorf("tags without a zone: %s", v)
	}
	_, _, err := w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{Defaults: w.layer(`{"tags":["z"]}`)})
	w.must(err)
	if v, object := value(w.launch(nil), "tags"); v != `["z"]` || object != "zone us" {
		t.Errorf("tags with it: %s from %s", v, object)
	}
}
