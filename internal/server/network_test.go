package server_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/egress"
)

// TestExplainNetwork has exactly the names that scripts rely on.
func TestExplainNetwork(t *testing.T) {
	w := newWorld(t)
	id := w.call(w.user, http.MethodPost, "/v1beta2/sandboxes", `{}`).want(http.StatusOK).text("sandboxId")
	w.fakes["r1"].SetNetwork(id, &backend.Network{
		Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.7")}, Around: egress.Around{Resolvers: []netip.Addr{netip.MustParseAddr("198.18.0.1")}},
		Names: backend.NameCounts{
			Questions: 5, Answered: 1, Denied: 3, Filtered: 2, Limited: 1,
			Denials: []backend.NameDenial{{Name: "evil.example", Why: "not listed", Count: 3, Last: time.Unix(1_800_000_000, 0)}},
		},
		Connections: map[string]int64{"any": 2, "metadata": 7, "private": 2},
	})
	path := "/berm/v1/sandboxes/" + id
	state := `{"addresses": ["198.18.0.7"], "resolvers": ["198.18.0.1"],
		"names": {"questions": "5", "answered": "1", "denied": "3", "filtered": "2", "limited": "1", "failed": "0", "malformed": "0",
			"denials": [{"name": "evil.example", "why": "not listed", "count": "3", "last": "2027-01-15T08:00:00Z"}]},
		"deniedConnections": [{"why": "metadata", "packets": "7"}, {"why": "any", "packets": "2"}, {"why": "private", "packets": "2"}]}`
	for _, from := range []string{path, path + "/explain"} {
		same(t, from, w.call(w.user, http.MethodGet, from, nil).want(http.StatusOK).at("network"), state)
	}
	if one := w.call(w.user, http.MethodGet, path+"/explain?fieldPath=tags", nil).want(http.StatusOK); one.at("network") != nil {
		t.Errorf("of one field: %s", one.raw)
	}

	d := w.call(w.user, http.MethodGet, path+"/network?destination="+url.QueryEscape("http://0xa9fea9fe:8080/latest"), nil).want(http.StatusOK)
	for key, want := range map[string]any{
		"sandboxId": id, "runnerId": "r1", "destination": "http://0xa9fea9fe:8080/latest", "name": "", "address": "169.254.169.254", "port": 8080.0, "protocol": "tcp",
		"note": "0xa9fea9fe is 169.254.169.254", "verdict": "denied", "mode": "none", "type": "none", "live": true, "liveNote": "",
	} {
		if got := d.at(key); got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
	same(t, "rule", d.at("rule"), `{"allow": false, "kind": "any", "class": "", "path": "network.egress.modes[\"none\"].type", "why": "the mode has no network: there is no interface, and no resolver",
		"range": "", "name": "", "layer": "profile", "object": "profile default", "revision": 1, "by": "bootstrap"}`)
	if by := d.at("chosenBy").(object); by["path"] != "network.egress.default" || by["layer"] != "profile" {
		t.Errorf("chosen by %v", by)
	}

	for destination, want := range map[string]string{"": "nothing is named", "a b": "is no name of a host"} {
		a := w.call(w.user, http.MethodGet, path+"/network?destination="+url.QueryEscape(destination), nil).want(http.StatusBadRequest)
		if !strings.Contains(a.raw, want) || !strings.Contains(a.raw, "destination") {
			t.Errorf("%q: %s", destination, a.raw)
		}
	}
	other := w.newOrg("other")
	w.call(other, http.MethodGet, path+"/network?destination=pypi.org", nil).want(http.StatusNotFound)

	w.call(w.user, http.MethodDelete, "/v1beta2/sandboxes/"+id, nil).want(http.StatusOK)
	if ended := w.call(w.user, http.MethodGet, path, nil).want(http.StatusOK); ended.at("network") != nil {
		t.Errorf("ended: %s", ended.raw)
	}
	d = w.call(w.user, http.MethodGet, path+"/network?destination=pypi.org", nil).want(http.StatusOK)
	if d.at("live") != false || !strings.HasPrefix(d.text("liveNote"), "the sandbox has ended") || d.text("verdict") != "denied" {
		t.Errorf("ended: %s", d.raw)
	}
}

func TestPlanNetwork(t *testing.T) {
	w := newWorld(t)
	plan := w.call(w.user, http.MethodPost, "/berm/v1/plan", `{"request": {}, "networkDestination": "pypi.org:443"}`).want(http.StatusOK)
	if d := plan.at("network").(object); d["verdict"] != "denied" || d["sandboxId"] != "" || d["name"] != "pypi.org" || d["live"] != false {
		t.Errorf("%s", plan.raw)
	}
	if plan = w.call(w.user, http.MethodPost, "/berm/v1/plan", `{"request": {}}`).want(http.StatusOK); plan.at("network") != nil {
		t.Errorf("%s", plan.raw)
	}
	// Of a launch that is refused there is nothing to say, but what is no destination is said.
	refused := w.call(w.user, http.MethodPost, "/berm/v1/plan", `{"request": {"network": {"egressMode": "web"}}, "networkDestination": "pypi.org"}`).want(http.StatusOK)
	if refused.at("admitted") != false || refused.at("network") != nil {
		t.Errorf("%s", refused.raw)
	}
	bad := w.call(w.user, http.MethodPost, "/berm/v1/plan", `{"request": {"network": {"egressMode": "web"}}, "networkDestination": "a..b"}`).want(http.StatusBadRequest)
	if !strings.Contains(bad.raw, "network_destination") {
		t.Errorf("%s", bad.raw)
	}
}
