package server_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestSingleBindings: the wire form of edits of one binding, and what it refuses.
func TestSingleBindings(t *testing.T) {
	w := newWorld(t)
	p := w.newProfile("agent", `{"container_image": "host"}`)
	const runner = "/berm/v1/runners/r1"
	names := func(a *answer) string {
		t.Helper()
		var out []string
		for _, b := range a.at("profileBindings").([]any) {
			name := b.(object)["profileName"].(string)
			if b.(object)["isDefault"] == true {
				name += "*"
			}
			out = append(out, name)
		}
		return strings.Join(out, " ")
	}
	add := `{"binding": {"profileTemplateId": "` + p.text("id") + `", "profileName": "big", "overridesJson": "{\"tags\": null}"}}`
	w.call(w.user, http.MethodPost, runner+"/bindings", add).want(http.StatusForbidden)
	a := w.call(w.admin, http.MethodPost, runner+"/bindings", add).want(http.StatusOK)
	if names(a) != "default* big" || a.text("etag") == "" {
		t.Errorf("%s", a.raw)
	}
	w.call(w.admin, http.MethodPost, runner+"/bindings", add).want(http.StatusBadRequest)
	w.call(w.admin, http.MethodPost, runner+"/bindings", `{}`).want(http.StatusBadRequest)
	w.call(w.admin, http.MethodPost, runner+"/bindings", `{"bindings": {}}`).want(http.StatusBadRequest)
	w.call(w.admin, http.MethodPatch, runner+"/bindings/big", `{"binding": {}, "updateMask": "etag"}`).want(http.StatusBadRequest)
	w.call(w.admin, http.MethodPatch, runner+"/bindings/none", `{"binding": {"isDefault": true}}`).want(http.StatusNotFound)
	w.call(w.admin, http.MethodPatch, runner+"/bindings/big", `{"binding": {"isDefault": true}, "etag": "stale"}`).want(http.StatusConflict)
	a = w.call(w.admin, http.MethodPatch, runner+"/bindings/big", `{"binding": {"isDefault": true}}`).want(http.StatusOK)
	if names(a) != "default big*" || a.at("profileBindings").([]any)[1].(object)["overridesJson"] == "" {
		t.Errorf("without a mask more changed than was sent: %s", a.raw)
	}
	a = w.call(w.admin, http.MethodPatch, runner+"/bindings/big", `{"binding": {}, "updateMask": "overridesJson"}`).want(http.StatusOK)
	if a.at("profileBindings").([]any)[1].(object)["overridesJson"] != "" {
		t.Errorf("the mask does not clear: %s", a.raw)
	}
	w.call(w.admin, http.MethodDelete, runner+"/bindings/big", nil).want(http.StatusBadRequest)
	a = w.call(w.admin, http.MethodPost, runner+"/bindings/default:set-default", `{}`).want(http.StatusOK)
	if names(a) != "default* big" {
		t.Errorf("%s", a.raw)
	}
	a = w.call(w.admin, http.MethodDelete, runner+"/bindings/big?etag="+a.text("etag"), nil, "X-Berm-Reason", "too%20big").want(http.StatusOK)
	if names(a) != "default*" {
		t.Errorf("%s", a.raw)
	}
	revisions := w.call(w.admin, http.MethodGet, runner+"/revisions", nil).want(http.StatusOK)
	if got := revisions.at("revisions").([]any)[0].(object)["reason"]; got != "too big" {
		t.Errorf("the reason of the last revision is %v", got)
	}
}
