package server_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestMaintenance: the REST form of taking a runner out of service, and what it refuses.
func TestMaintenance(t *testing.T) {
	w := newWorld(t)
	const runner = "/berm/v1/runners/r1"
	w.call(w.user, http.MethodPost, runner+":cordon", `{}`).want(http.StatusForbidden)
	w.call(w.admin, http.MethodPost, "/berm/v1/runners/none:cordon", `{}`).want(http.StatusNotFound)
	w.call(w.admin, http.MethodPost, runner+":cordon", `{"why": "x"}`).want(http.StatusBadRequest)
	w.call(w.admin, http.MethodPost, runner+":cordon", `{"etag": "stale"}`).want(http.StatusConflict)
	w.call(w.admin, http.MethodPost, runner+":cordon", `{"reason": "`+strings.Repeat("x", 1025)+`"}`).want(http.StatusBadRequest, "reason")
	w.call(w.admin, http.MethodPost, runner+":drain", `{"graceSeconds": -1}`).want(http.StatusBadRequest, "grace_seconds")

	a := w.call(w.admin, http.MethodPost, runner+":cordon", `{}`, "X-Berm-Reason", "new+kernel").want(http.StatusOK)
	if a.at("cordoned") != true || a.text("reason") != "new kernel" || a.text("cordonedBy") == "" || a.text("cordonedAt") == "" {
		t.Errorf("%s", a.raw)
	}
	a = w.call(w.admin, http.MethodPost, runner+":drain", `{"reason": "new disk"}`, "X-Berm-Reason", "new+kernel").want(http.StatusOK)
	if got := a.at("runner").(object); got["reason"] != "new disk" || got["cordoned"] != true {
		t.Errorf("what the request says is not what counts: %s", a.raw)
	}
	a = w.call(w.user, http.MethodGet, "/berm/v1/cordoned-runners", nil).want(http.StatusOK)
	if list := a.at("runners").([]any); len(list) != 1 || list[0].(object)["runnerId"] != "r1" {
		t.Errorf("%s", a.raw)
	}
	etag := w.call(w.user, http.MethodGet, runner+"/maintenance", nil).want(http.StatusOK).text("etag")
	a = w.call(w.admin, http.MethodPost, runner+":uncordon", `{"etag": "`+etag+`"}`).want(http.StatusOK)
	if a.at("cordoned") == true || a.text("etag") == etag {
		t.Errorf("%s", a.raw)
	}
}
