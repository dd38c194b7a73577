package server_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
)

// TestAnotherOrganizationsIdsAreMissing: every id of another organization answers exactly as one that never was, whatever is
// done with it, body and all.
func TestAnotherOrganizationsIdsAreMissing(t *testing.T) {
	w := newWorld(t)
	sandbox := w.idle()
	stranger := w.newOrg("other")
	requestID := regexp.MustCompile(`"request_id": *"[^"]*"`)
	const none = "00000000-0000-4000-8000-000000000000"
	same := func(method, path, id string, body any) {
		t.Helper()
		normal := func(id string) (int, string) {
			a := w.call(stranger, method, strings.ReplaceAll(path, "ID", id), body)
			raw := strings.ReplaceAll(strings.Join(strings.Fields(requestID.ReplaceAllString(a.raw, "")), ""), id, "ID")
			return a.status, raw
		}
		s1, theirs := normal(id)
		s2, missing := normal(none)
		if s1 != s2 || theirs != missing || s1 < 400 {
			t.Errorf("%s %s: %d %s, missing %d %s", method, path, s1, theirs, s2, missing)
		}
	}
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{http.MethodGet, "", nil},
		{http.MethodDelete, "", nil},
		{http.MethodPost, "/stop", object{}},
		{http.MethodPost, "/exec", object{"command": []string{"true"}}},
		{http.MethodPost, "/files", object{"filepath": "/tmp/x"}},
		{http.MethodGet, "/files/%2Ftmp%2Fx", nil},
	} {
		same(c.method, "/v1beta2/sandboxes/ID"+c.path, sandbox, c.body)
	}
	same(http.MethodGet, "/berm/v1/sandboxes/ID", sandbox, nil)
	same(http.MethodGet, "/berm/v1/sandboxes/ID/explain", sandbox, nil)

	const profiles, runners = "/v1beta2/sandbox/profile-templates", "/v1beta2/sandbox/managed-runners"
	runner := w.call(w.admin, http.MethodGet, runners+"/r1", nil).text("id")
	patch := object{"profileTemplate": object{"description": "x"}}
	same(http.MethodGet, profiles+"/ID", w.profile, nil)
	same(http.MethodPatch, profiles+"/ID", w.profile, patch)
	same(http.MethodDelete, profiles+"/ID", w.profile, nil)
	same(http.MethodGet, "/berm/v1/profiles/ID/revisions", w.profile, nil)
	for _, id := range []string{runner, "r1"} {
		same(http.MethodGet, runners+"/ID", id, nil)
		same(http.MethodPatch, runners+"/ID", id, object{"runner": object{"displayName": "x"}})
		same(http.MethodDelete, runners+"/ID?force=true", id, nil)
		same(http.MethodPost, runners+"/ID:apply-update", id, nil)
		same(http.MethodGet, "/berm/v1/runners/ID/revisions", id, nil)
		same(http.MethodGet, "/v1beta2/runners/ID", id, nil)
	}
	same(http.MethodGet, "/berm/v1/zones/ID", "local", nil)
	same(http.MethodDelete, "/berm/v1/zones/ID", "local", nil)
	token := w.call(w.user, http.MethodGet, "/berm/v1/whoami", nil).text("tokenId")
	same(http.MethodDelete, "/berm/v1/tokens/ID", token, nil)
	w.call(stranger, http.MethodGet, "/berm/v1/tokens?org=default", nil).want(http.StatusNotFound)

	// Binding a profile of somebody else's is binding a profile of nobody.
	bind := func(id string) *answer {
		return w.call(stranger, http.MethodPost, runners, object{"runnerId": "mine", "runner": object{
			"identity": object{"zone": "z", "clusterName": "c"}, "profileBindings": []object{{"profileTemplateId": id, "isDefault": true}},
		}})
	}
	theirs, missing := bind(w.profile), bind(none)
	if theirs.status != missing.status || strings.ReplaceAll(requestID.ReplaceAllString(theirs.raw, ""), w.profile, none) != requestID.ReplaceAllString(missing.raw, "") && theirs.reason() != missing.reason() {
		t.Errorf("binding: %s and %s", theirs.raw, missing.raw)
	}

	for _, path := range []string{"/v1beta2/sandboxes?includeStopped=true", "/v1beta2/runners", "/v1beta2/profiles", profiles, runners, "/berm/v1/zones"} {
		a := w.call(stranger, http.MethodGet, path, nil).want(http.StatusOK)
		for key, v := range a.body {
			if list, ok := v.([]any); ok && len(list) > 0 {
				t.Errorf("%s shows a stranger %s: %v", path, key, list)
			}
		}
	}
	// A page token of one organization is none of another's.
	w.idle()
	first := w.call(w.user, http.MethodGet, "/v1beta2/sandboxes?page_size=1", nil).want(http.StatusOK)
	w.call(stranger, http.MethodGet, "/v1beta2/sandboxes?page_size=1&page_token="+first.text("nextPageToken"), nil).want(http.StatusBadRequest, "PAGE_TOKEN_INVALID")
	w.call(w.user, http.MethodGet, "/v1beta2/sandboxes?page_size=1&tags=x&page_token="+first.text("nextPageToken"), nil).want(http.StatusBadRequest, "PAGE_TOKEN_INVALID")

	got, err := w.gateway().Get(w.ctx(), &v1beta2pb.GetSandboxRequest{SandboxId: sandbox})
	w.must(err)
	if got.GetSandboxStatus() != v1beta2pb.SandboxStatus_SANDBOX_STATUS_RUNNING {
		t.Errorf("the sandbox suffered: %v", got)
	}
}
