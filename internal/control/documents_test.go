package control

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

func layer(t testing.TB, text string) *spec.Layer {
	t.Helper()
	l, err := spec.ParseLayer([]byte(text))
	if err != nil {
		t.Fatalf("layer %s: %v", text, err)
	}
	return l
}

// layerText compares layers by their canonical text, telling nil from empty.
func layersByText() cmp.Option {
	return cmp.Transformer("text", func(l *spec.Layer) string {
		if l == nil {
			return "none"
		}
		return l.String()
	})
}

// TestDocumentsKeepEverything: what is written is read, with absent, null and empty told apart in every layer.
func TestDocumentsKeepEverything(t *testing.T) {
	at := time.Date(2026, 5, 14, 12, 0, 0, 5, time.UTC)
	meta := core.Meta{ID: "id", OrgID: "org", Revision: 3, CreatedAt: at, UpdatedAt: at, UpdatedBy: "token:t", Reason: "why"}
	tricky := `{"node_selector":null,"tags":[],"instance_types":["a"],"resource_defaults":{"cpu_limit":"1","memory_limit":null},"network":{"egress":{"modes":{}}},"pod":{"spec":{"a":null,"b":{"c":[1,2]}}}}`
	since := at.Add(time.Hour)
	runner := &core.Runner{
		Meta: meta, RunnerID: "r1", DisplayName: "R", Zone: "us", ClusterName: "c", GroupID: "g", DeletingSince: &since,
		Managed: core.ManagedSpec{
			ReleaseChannel: ChannelRapid, AllowPrivilegedProfileAnnotation: true, EnforceResourceLimits: true, CPURuntimeClass: "gvisor", GPURuntimeClass: "nvidia",
			MaintenancePolicyJSON: `{"windows":[]}`, OverridesJSON: `{"args":["<&>"]}`,
		},
		Bindings: []core.Binding{
			{ProfileID: "p1", Default: true}, {ProfileID: "p1", Alias: "other", Overrides: layer(t, `{}`)}, {ProfileID: "p2", Overrides: layer(t, tricky)},
		},
	}
	o, err := runnerObject(runner)
	if err != nil {
		t.Fatal(err)
	}
	back, err := runnerFrom(o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(runner, back, layersByText()); diff != "" {
		t.Errorf("runner: %s", diff)
	}
	profile := &core.Profile{Meta: meta, DisplayName: "agent", Description: "d", Labels: map[string]string{"a": "b"}, Spec: layer(t, tricky)}
	if o, err = profileObject(profile); err != nil {
		t.Fatal(err)
	}
	if back, err := profileFrom(o); err != nil || cmp.Diff(profile, back, layersByText()) != "" {
		t.Errorf("profile: %v %s", err, cmp.Diff(profile, back, layersByText()))
	}
	for _, defaults := range []*spec.Layer{nil, layer(t, `{}`), layer(t, tricky)} {
		zone := &core.Zone{Meta: meta, Name: "us", Defaults: defaults}
		if o, err = zoneObject(zone); err != nil {
			t.Fatal(err)
		}
		if back, err := zoneFrom(o); err != nil || cmp.Diff(zone, back, layersByText()) != "" {
			t.Errorf("zone: %v %s", err, cmp.Diff(zone, back, layersByText()))
		}
	}
}

func TestDocumentsOfOtherVersionsAreRefused(t *testing.T) {
	o, err := profileObject(&core.Profile{DisplayName: "a", Spec: layer(t, `{}`)})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{`{"version":2,"displayName":"a","spec":{}}`, `{"displayName":"a","spec":{}}`, `{`, ``} {
		o.Body = json.RawMessage(body)
		if _, err := profileFrom(o); !fault.Is(err, fault.Internal) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestEtagIsOfTheRevision(t *testing.T) {
	m := core.Meta{ID: "a", OrgID: "o", Revision: 1}
	next := m
	next.Revision = 2
	if Etag(m) == Etag(next) || Etag(m) != Etag(core.Meta{ID: "a", OrgID: "o", Revision: 1, UpdatedBy: "x"}) {
		t.Error("an etag must change with the revision, and with nothing else")
	}
	if err := checkEtag(Etag(next), "profile a", m); !fault.Is(err, fault.Conflict) || !fault.HasReason(err, fault.ReasonEtagMismatch) {
		t.Errorf("a stale etag: %v", err)
	}
	if err := checkEtag("", "profile a", m); err != nil {
		t.Errorf("no etag: %v", err)
	}
}
