package server_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/server/openapi"
)

// TestOpenAPIDescribesWhatIsServed: every operation that the description names is routed, by path and method, and those that are
// written by hand are described.
func TestOpenAPIDescribesWhatIsServed(t *testing.T) {
	w := newWorld(t)
	a := w.call("", http.MethodGet, openapi.Path, nil).want(http.StatusOK)
	if a.header.Get("Content-Type") != "application/json" || a.raw != string(openapi.Document()) {
		t.Errorf("%s, %d bytes", a.header.Get("Content-Type"), len(a.raw))
	}
	w.call("", http.MethodPost, openapi.Path, nil).want(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]json.RawMessage
	}
	w.must(json.Unmarshal([]byte(a.raw), &doc))
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("version %q", doc.OpenAPI)
	}
	parameter := regexp.MustCompile(`\{[^}]+\}`)
	operations := 0
	for path, methods := range doc.Paths {
		for method := range methods {
			operations++
			got := w.call(w.admin, strings.ToUpper(method), parameter.ReplaceAllString(path, "nobody"), nil)
			if slices.Contains([]string{"PATH_NOT_FOUND", "METHOD_NOT_ALLOWED"}, got.reason()) || got.status >= http.StatusInternalServerError && got.status != http.StatusNotImplemented {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.raw)
			}
		}
	}
	if operations < 80 {
		t.Errorf("%d operations", operations)
	}
	for _, path := range []string{profilesPath, runnersPath + "/{id}:apply-update", zonesPath + "/{name}", "/v1beta2/sandboxes/{sandbox_id}/exec"} {
		if doc.Paths[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
}

// TestEnumsInQueries: a value of an enum may be given without the prefix that all have, as a refusal spells it.
func TestEnumsInQueries(t *testing.T) {
	w := newWorld(t)
	for _, view := range []string{"FULL", "RUNNER_VIEW_FULL", "2"} {
		a := w.call(w.user, http.MethodGet, "/v1beta2/runners?view="+view, nil).want(http.StatusOK)
		if a.at("runners").([]any)[0].(object)["resources"] == nil {
			t.Errorf("%s: %s", view, a.raw)
		}
	}
	w.call(w.user, http.MethodGet, "/v1beta2/runners?view=WHOLE", nil).want(http.StatusBadRequest, "view", "BASIC, FULL")
}
