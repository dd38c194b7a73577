package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
)

// TestPreviewEdit: an edit is sent as it would be called, over REST and gRPC; it is refused as it would be, and writes nothing.
func TestPreviewEdit(t *testing.T) {
	w := newWorld(t)
	p := w.newProfile("agent", `{"container_image": "host", "resource_defaults": {"memory_limit": "1Gi"}}`)
	w.call(w.admin, http.MethodPost, "/berm/v1/runners/r1/bindings", `{"binding": {"profileTemplateId": "`+p.text("id")+`"}}`).want(http.StatusOK)
	started := w.call(w.user, http.MethodPost, "/v1beta2/sandboxes", `{"profileNames": ["agent"]}`).want(http.StatusOK)
	preview := func(method, path, body string, more ...string) string {
		fields := map[string]string{"method": method, "path": path, "body": body}
		for i := 0; i+1 < len(more); i += 2 {
			fields[more[i]] = more[i+1]
		}
		text, err := json.Marshal(fields)
		w.must(err)
		return string(text)
	}
	const at = "/berm/v1/preview"
	profile := "/v1beta2/sandbox/profile-templates/agent"
	edit := `{"profileTemplate": {"spec": {"resource_defaults": {"memory_limit": "2Gi"}, "tags": null}}, "updateMask": "spec.resource_defaults.memory_limit,spec.tags"}`
	a := w.call(w.admin, http.MethodPost, at, preview("PATCH", profile, edit)).want(http.StatusOK)
	same(t, "changes", a.at("changes"), `[{"path": "profile agent: spec.resource_defaults.memory_limit", "old": "1Gi", "new": "2Gi", "meaning": "raised"},
		{"path": "profile agent: spec.tags", "new": null, "meaning": "cleared: nothing from beneath shows through"}]`)
	launches := a.at("launches").([]any)
	if len(launches) != 1 || launches[0].(object)["example"] != started.text("sandboxId") || launches[0].(object)["kind"] != "changed" {
		t.Errorf("%s", a.raw)
	}
	field := launches[0].(object)["fields"].([]any)[0].(object)
	same(t, "field", field, `{"path": "resource_defaults.memory_limit", "old": "1Gi", "new": "2Gi", "meaning": "raised",
		"oldOrigin": {"layer": "profile", "object": "profile agent", "revision": 1}, "newOrigin": {"layer": "profile", "object": "profile agent", "revision": 2}}`)
	if now := w.call(w.user, http.MethodGet, profile, nil).want(http.StatusOK); now.at("revision") != 1.0 {
		t.Errorf("a preview wrote: %s", now.raw)
	}
	c := bermv1rpc.NewPreviewServiceClient(w.dial(w.addr, w.admin))
	over, err := c.PreviewEdit(w.ctx(), &bermv1.PreviewEditRequest{Method: "PATCH", Path: profile, Body: edit})
	if err != nil || len(over.GetChanges()) != 2 || over.GetLaunchesSeen() != 1 {
		t.Errorf("%v %v", over, err)
	}
	for name, tt := range map[string]struct {
		token, request, says string
		status               int
	}{
		"by a user":              {w.user, preview("PATCH", profile, edit), "role", 403},
		"stale":                  {w.admin, preview("PATCH", profile, edit, "etag", "stale"), "changed since", 409},
		"an unknown field":       {w.admin, preview("PATCH", profile, `{"profileTemplate": {"spec": {"tag": 1}}}`), "tags", 400},
		"of a missing object":    {w.admin, preview("DELETE", profile+"s", ""), "does not exist", 404},
		"of one that is bound":   {w.admin, preview("DELETE", profile, ""), "bound", 400},
		"of a sandbox":           {w.admin, preview("DELETE", "/v1beta2/sandboxes/"+started.text("sandboxId"), ""), "no edit", 400},
		"of a token":             {w.admin, preview("POST", "/berm/v1/tokens", `{"name": "x"}`), "no edit", 400},
		"of a read":              {w.admin, preview("GET", profile, ""), "no edit", 400},
		"of a preview":           {w.admin, preview("POST", at, "{}"), "no edit", 400},
		"of an update of a host": {w.admin, preview("POST", "/v1beta2/sandbox/managed-runners/r1:apply-update", "{}"), "no edit", 400},
		"no path":                {w.admin, preview("PATCH", "profile", ""), "no path", 400},
		"too many launches":      {w.admin, `{"method": "DELETE", "path": "` + profile + `", "launches": 10001}`, "10000", 400},
	} {
		if a := w.call(tt.token, http.MethodPost, at, tt.request); a.status != tt.status || !strings.Contains(a.raw, tt.says) {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	_, err = c.PreviewEdit(w.ctx(), &bermv1.PreviewEditRequest{Method: "DELETE", Path: profile})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("over gRPC: %v", err)
	}

	w.call(w.admin, http.MethodPatch, profile, edit).want(http.StatusOK)
	out := w.call(w.user, http.MethodGet, "/berm/v1/outdated", nil).want(http.StatusOK)
	list := out.at("sandboxes").([]any)
	if len(list) != 1 || list[0].(object)["sandboxId"] != started.text("sandboxId") || list[0].(object)["fields"].([]any)[0].(object)["new"] != "2Gi" {
		t.Errorf("%s", out.raw)
	}
	w.call(w.user, http.MethodGet, "/berm/v1/outdated?profileNames=default", nil).want(http.StatusOK)
}
