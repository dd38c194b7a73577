package control_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
)

// decided says what was decided about a destination, by what, and who says so.
func decided(d *control.NetworkDecision) string {
	out := string(d.Judgement.Verdict)
	if r := d.Rule; r != nil {
		what := strings.TrimPrefix(r.Path, egress.Field)
		if what == "" {
			what = strings.TrimSpace(string(r.Kind) + " " + string(r.Class))
		}
		out += fmt.Sprintf(" by %s of %s %s %d", what, r.Layer, r.Object, r.Revision)
	}
	return strings.TrimSpace(out)
}

// newNetworkWorld is a world whose backend takes every type of egress mode.
func newNetworkWorld(t *testing.T) *world {
	t.Helper()
	features := []string{"image:host"}
	for _, typ := range egress.Types() {
		features = append(features, "egress:"+string(typ))
	}
	return newWorldWith(t, control.Config{}, fake.Config{Info: backend.Info{Features: features}}, "r1")
}

// networked binds a profile whose modes an override replaces, and chooses one by layers 2 and 4.
func networked(w *world) *specpb.Launch {
	w.Helper()
	p := w.newProfile("net", `{"container_image":"host","network":{"egress":{"default":"index","modes":{"index":{"type":"allowlist","dns_names":["old.example"]}}}}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: p.ID, Overrides: w.layer(
		`{"network":{"egress":{"modes":{"index":{"type":"allowlist","dns_names":["pypi.org","*.x.example"],"cidrs":["10.0.0.0/8"]},"web":{"type":"internet"},"team":{"type":"user"}}}}}`)}))
	return &specpb.Launch{ProfileNames: []string{"net"}}
}

func TestExplainNetwork(t *testing.T) {
	w := newNetworkWorld(t)
	sb := w.running(networked(w))
	addr := netip.MustParseAddr
	w.fakes["r1"].SetNetwork(sb.ID, &backend.Network{
		Addresses: []netip.Addr{addr("198.18.0.7")},
		Around: egress.Around{
			Site:      egress.Site{Machine: []netip.Prefix{netip.MustParsePrefix("10.9.9.9/32")}},
			Resolvers: []netip.Addr{addr("198.18.0.1")}, Facts: []egress.Fact{{Addr: addr("1.1.1.1"), Pinned: "pypi.org"}},
		},
		Names: backend.NameCounts{Denied: 3}, Connections: map[string]int64{"metadata": 2},
	})
	explain := func(destination string) *control.NetworkDecision {
		t.Helper()
		d, err := w.svc.ExplainNetwork(w.ctx(), w.user, sb.ID, destination)
		w.must(err)
		return d
	}
	const override = "of override binding r1/net 2"
	for destination, want := range map[string]string{
		"pypi.org": `allowed by ["index"].dnsNames[0] ` + override, "https://a.x.example/": `allowed by ["index"].dnsNames[1] ` + override,
		"old.example": `denied by ["index"] ` + override, "1.1.1.1:443": `allowed by ["index"].dnsNames[0] ` + override, "2.2.2.2": `denied by ["index"] ` + override,
		"10.1.2.3": `allowed by ["index"].cidrs[0] ` + override, "10.9.9.9": "denied by ranges machine of runner runner r1 0",
		"0xa9fea9fe": "denied by ranges metadata of built-in  0", "8.8.8.8:53": "denied by ports of built-in  0", "198.18.0.1:53": "allowed by resolver of built-in  0",
	} {
		d := explain(destination)
		if got := decided(d); got != want {
			t.Errorf("%s: %s, want %s", destination, got, want)
		}
		if !d.Live || d.Note != "" || d.Mode != "index" || d.Chosen == nil || d.Chosen.Path != "network.egress.default" || d.Chosen.Layer != "profile" || d.Modes.Layer != "override" {
			t.Errorf("%s: %+v", destination, d)
		}
	}
	if d := explain("pypi.org"); len(d.Addresses) != 1 || d.Addresses[0].Addr != addr("1.1.1.1") || !d.Addresses[0].Allow || d.Addresses[0].Pinned != "pypi.org" {
		t.Errorf("%+v", d.Addresses)
	}
	n, err := w.svc.Network(w.ctx(), w.user, sb.ID)
	if w.must(err); n.Names.Denied != 3 || n.Connections["metadata"] != 2 {
		t.Errorf("%+v", n)
	}
	if _, err := w.svc.ExplainNetwork(w.ctx(), w.user, sb.ID, "no such//thing"); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	stranger := w.user
	stranger.OrgID = "another"
	_, mine := w.svc.ExplainNetwork(w.ctx(), stranger, sb.ID, "pypi.org")
	_, none := w.svc.ExplainNetwork(w.ctx(), stranger, "00000000-0000-0000-0000-000000000000", "pypi.org")
	if !fault.Is(mine, fault.NotFound) || strings.ReplaceAll(mine.Error(), sb.ID, "") != strings.ReplaceAll(none.Error(), "00000000-0000-0000-0000-000000000000", "") {
		t.Errorf("of another organization: %v, %v", mine, none)
	}

	// What the sandbox was decided from stays, whatever becomes of its profile; what it knew is gone with it.
	w.editProfile("net", `{"container_image":"host","network":{"egress":{"default":"web","modes":{"web":{"type":"internet"}}}}}`)
	w.must(w.svc.Stop(w.ctx(), w.user, sb.ID, 0))
	w.ended(sb.ID)
	for destination, want := range map[string]string{
		"pypi.org": `allowed by ["index"].dnsNames[0] ` + override, "1.1.1.1": `depends by ["index"] ` + override, "169.254.169.254": "denied by ranges metadata of built-in  0",
	} {
		if d := explain(destination); decided(d) != want || d.Live || !strings.HasPrefix(d.Note, "the sandbox has ended: ") || len(d.Addresses) > 0 && d.Addresses[0].Pinned != "" {
			t.Errorf("ended, %s: %s %+v", destination, decided(d), d)
		}
	}
	if _, err := w.svc.Network(w.ctx(), w.user, sb.ID); !fault.Is(err, fault.Precondition) {
		t.Error(err)
	}
}

// TestExplainNetworkUnknown: where the runner says nothing, the record still decides, and that is said.
func TestExplainNetworkUnknown(t *testing.T) {
	w := newNetworkWorld(t)
	l := networked(w)
	l.EgressMode = "team"
	sb := w.running(l)
	d, err := w.svc.ExplainNetwork(w.ctx(), w.user, sb.ID, "198.51.100.7")
	if w.must(err); d.Live || !strings.Contains(d.Note, "no networks") || decided(d) != `depends by ["team"].type of override binding r1/net 2` || d.Chosen.Path != "network.egress.selected" || d.Chosen.Layer != "request" {
		t.Errorf("%s %+v", decided(d), d)
	}
	w.svc.Detach(w.runners["r1"].ID)
	if d, err = w.svc.ExplainNetwork(w.ctx(), w.user, sb.ID, "pypi.org"); err != nil || d.Live || d.Note == "" {
		t.Errorf("%+v %v", d, err)
	}
}

func TestPlanNetwork(t *testing.T) {
	w := newNetworkWorld(t)
	l := networked(w)
	l.EgressMode = "web"
	planned, err := w.svc.Plan(w.ctx(), w.user, l)
	w.must(err)
	ask := func(destination string) *control.NetworkDecision {
		t.Helper()
		d, err := w.svc.PlanNetwork(w.ctx(), w.user, planned, destination)
		w.must(err)
		return d
	}
	if d := ask("10.9.9.9"); decided(d) != "denied by ranges private of built-in  0" || d.Live || !strings.Contains(d.Note, "no networks") {
		t.Errorf("%s %+v", decided(d), d)
	}
	w.fakes["r1"].SetNetwork("", &backend.Network{Around: egress.Around{Site: egress.Site{Machine: []netip.Prefix{netip.MustParsePrefix("10.9.9.9/32")}}}})
	if d := ask("10.9.9.9"); decided(d) != "denied by ranges machine of runner runner r1 0" || d.Live || d.SandboxID != "" || !strings.HasPrefix(d.Note, "nothing runs yet") {
		t.Errorf("%s %+v", decided(d), d)
	}
	if d := ask("pypi.org"); decided(d) != `allowed by ["web"].type of override binding r1/net 2` {
		t.Errorf("%s %+v", decided(d), d)
	}
	if n := w.count(); n != 0 {
		t.Errorf("%d sandboxes", n)
	}
}
