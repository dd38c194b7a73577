package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestConsolidateOverREST: the wire form of edits that move bindings from profile to profile, and their preview.
func TestConsolidateOverREST(t *testing.T) {
	w := newWorld(t)
	for name, spec := range map[string]string{
		"agent": `{"container_image": "host", "node_selector": {"region": "east"}}`, "agent-west": `{"container_image": "host", "node_selector": {"region": "west"}}`,
	} {
		id := w.newProfile(name, spec).text("id")
		w.call(w.admin, http.MethodPost, "/berm/v1/runners/r1/bindings", `{"binding": {"profileTemplateId": "`+id+`"}}`).want(http.StatusOK)
	}
	const path, body = "/berm/v1/profiles/agent/consolidate", `{"others": ["agent-west"], "delete": true}`
	text, err := json.Marshal(map[string]string{"method": "POST", "path": path, "body": body})
	w.must(err)
	seen := w.call(w.admin, http.MethodPost, "/berm/v1/preview", string(text)).want(http.StatusOK)
	if raw := seen.raw; !strings.Contains(raw, `runner r1: profile_bindings[agent-west].profile`) || !strings.Contains(raw, "profile agent-west") {
		t.Error(raw)
	}
	if len(seen.at("bindings").([]any)) != 0 {
		t.Errorf("a binding comes to something else: %s", seen.raw)
	}
	w.call(w.user, http.MethodPost, path, body).want(http.StatusForbidden)
	w.call(w.admin, http.MethodPost, path, `{}`).want(http.StatusBadRequest)
	w.call(w.admin, http.MethodPost, path, `{"others": ["agent-west"], "etag": "stale"}`).want(http.StatusConflict)
	a := w.call(w.admin, http.MethodPost, path, body, "X-Berm-Reason", "one%20is%20enough").want(http.StatusOK)
	same(t, "bindings", a.at("bindings"), `[{"runnerId": "r1", "name": "agent-west", "fromProfile": "agent-west", "overridesJson": "{\"nodeSelector\":{\"region\":\"west\"}}", "pinned": []}]`)
	w.call(w.admin, http.MethodGet, "/v1beta2/sandbox/profile-templates/agent-west", nil).want(http.StatusNotFound)

	const promote = "/berm/v1/runners/r1/bindings/agent-west/promote"
	w.call(w.admin, http.MethodPost, promote, `{"displayName": "agent"}`).want(http.StatusConflict)
	a = w.call(w.admin, http.MethodPost, promote, `{"displayName": "west"}`).want(http.StatusOK)
	same(t, "bindings", a.at("bindings"), `[{"runnerId": "r1", "name": "agent-west", "fromProfile": "agent", "overridesJson": "", "pinned": []}]`)
	w.call(w.admin, http.MethodPost, promote, `{"displayName": "west-2"}`).want(http.StatusBadRequest)
}
