package server_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
)

// TestExplainDrift has exactly the names that scripts rely on.
func TestExplainDrift(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	w.running(id)
	path := "/berm/v1/sandboxes/" + id + "/drift"
	w.call(w.user, http.MethodGet, path, nil).want(http.StatusNotImplemented)

	w.fakes["r1"].SetDrift(id, &backend.Drift{Omitted: 2, Fields: []backend.DriftField{
		{Path: "spec.containers[main].image", Kind: backend.DriftChanged, Submitted: json.RawMessage(`"a"`), Held: json.RawMessage(`"b"`), By: "kubectl-edit", At: time.Unix(1_800_000_000, 0)},
		{Path: "spec.nodeName", Kind: backend.DriftAdded, Held: json.RawMessage(`"n1"`), Filled: true},
		{Path: "spec.volumes[tmp]", Kind: backend.DriftRemoved, Submitted: json.RawMessage(`{"name": "tmp"}`)},
	}})
	d := w.call(w.user, http.MethodGet, path, nil).want(http.StatusOK)
	if d.text("sandboxId") != id || d.text("runnerId") != "r1" || d.at("omittedFields") != 2.0 {
		t.Errorf("%s", d.raw)
	}
	same(t, "fields", d.at("fields"), `[
		{"path": "spec.containers[main].image", "kind": "changed", "submitted": "a", "held": "b", "filled": false, "by": "kubectl-edit", "at": "2027-01-15T08:00:00Z"},
		{"path": "spec.nodeName", "kind": "added", "held": "n1", "filled": true, "by": ""},
		{"path": "spec.volumes[tmp]", "kind": "removed", "submitted": {"name": "tmp"}, "filled": false, "by": ""}]`)

	w.call(w.newOrg("other"), http.MethodGet, path, nil).want(http.StatusNotFound)
	w.call(w.user, http.MethodGet, "/berm/v1/sandboxes/none/drift", nil).want(http.StatusNotFound)
}
