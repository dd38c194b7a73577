package server_test

import (
	"net/http"
	"testing"
)

// TestHistory: the wire form of revisions, differences and rollbacks.
func TestHistory(t *testing.T) {
	w := newWorld(t)
	for _, text := range []string{`{"tags": ["a"], "container_image": "host"}`, `{"tags": null, "container_image": "host"}`} {
		w.call(w.admin, http.MethodPut, zonesPath+"/z", `{"zone": {"defaults": `+text+`}}`).want(http.StatusOK)
	}
	const z = "/berm/v1/zones/z"
	revisions := w.call(w.user, http.MethodGet, z+"/revisions", nil).want(http.StatusOK)
	same(t, "content", revisions.at("revisions").([]any)[1].(object)["content"], `{"defaults": {"tags": ["a"], "containerImage": "host"}}`)
	d := w.call(w.user, http.MethodGet, z+"/diff", nil).want(http.StatusOK)
	same(t, "changes", d.at("changes"), `[{"path": "defaults.tags", "old": ["a"], "new": null, "meaning": "cleared: nothing from beneath shows through"}]`)
	d = w.call(w.user, http.MethodGet, z+"/diff?to=1", nil).want(http.StatusOK)
	for _, c := range d.at("changes").([]any) {
		if _, there := c.(object)["old"]; there {
			t.Errorf("what was not stated has a value: %v", c)
		}
	}
	w.call(w.user, http.MethodGet, z+"/diff?from=9", nil).want(http.StatusNotFound)
	w.call(w.user, http.MethodGet, z+"/diff?form=1", nil).want(http.StatusBadRequest)
	w.call(w.user, http.MethodPost, z+"/rollback", `{"revision": 1}`).want(http.StatusForbidden)
	w.call(w.admin, http.MethodPost, z+"/rollback", `{}`).want(http.StatusBadRequest)
	w.call(w.admin, http.MethodPost, z+"/rollback", `{"revision": 1, "etag": "stale"}`).want(http.StatusConflict)
	back := w.call(w.admin, http.MethodPost, z+"/rollback", `{"revision": 1}`).want(http.StatusOK)
	if back.at("revision").(object)["revision"] != 3.0 || back.text("etag") == "" {
		t.Errorf("%s", back.raw)
	}
	now := w.call(w.user, http.MethodGet, zonesPath+"/z", nil).want(http.StatusOK)
	same(t, "defaults", now.at("defaults"), `{"tags": ["a"], "containerImage": "host"}`)
	if now.text("etag") != back.text("etag") {
		t.Error("the etag of a rollback is not that of the object")
	}
	w.call(w.user, http.MethodGet, "/berm/v1/runners/r1/diff", nil).want(http.StatusOK)
	w.call(w.user, http.MethodGet, "/berm/v1/profiles/default/diff", nil).want(http.StatusOK)
}

// TestDeletionsHaveReasons: why something was deleted is in its history, whichever way it was said.
func TestDeletionsHaveReasons(t *testing.T) {
	w := newWorld(t)
	profile := w.newProfile("agent", `{}`).text("id")
	w.call(w.admin, http.MethodDelete, profilesPath+"/"+profile, nil, "X-Berm-Reason", "nobody+uses+it").want(http.StatusOK)
	w.call(w.admin, http.MethodGet, "/berm/v1/profiles/"+profile+"/revisions", nil).want(http.StatusOK, "nobody uses it")
	w.call(w.admin, http.MethodPut, zonesPath+"/mars", `{"zone": {"defaults": {}}}`).want(http.StatusOK)
	w.call(w.admin, http.MethodDelete, zonesPath+"/mars", nil, "X-Berm-Reason", "too+far").want(http.StatusOK)
	w.call(w.admin, http.MethodGet, "/berm/v1/audit", nil).want(http.StatusOK, "too far", "nobody uses it")
}
