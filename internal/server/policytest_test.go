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

// TestPolicyTestsOverREST: tests are kept beside a profile whose published form does not change, are run, and refuse an edit over
// v1beta2 in the form of its errors.
func TestPolicyTestsOverREST(t *testing.T) {
	w := newWorld(t)
	p := w.newProfile("agent", `{"container_image": "host", "resource_defaults": {"memory_limit": "1Gi"}}`)
	w.call(w.admin, http.MethodPost, "/berm/v1/runners/r1/bindings", `{"binding": {"profileTemplateId": "`+p.text("id")+`"}}`).want(http.StatusOK)
	before := w.call(w.admin, http.MethodGet, "/v1beta2/sandbox/profile-templates/agent", nil).want(http.StatusOK)

	const at = "/berm/v1/profiles/agent/tests"
	const file = "tests:\n- name: memory\n  expect: {verdict: admitted, values: {resource_defaults.memory_limit: 1Gi}}\n"
	body := func(fields map[string]string) string {
		text, err := json.Marshal(fields)
		w.must(err)
		return string(text)
	}
	w.call(w.user, http.MethodGet, at, nil).want(http.StatusNotFound)
	w.call(w.user, http.MethodPut, at, body(map[string]string{"file": file})).want(http.StatusForbidden)
	a := w.call(w.admin, http.MethodPut, at, body(map[string]string{"file": file}), "X-Berm-Reason", "small%20machines").want(http.StatusOK)
	if a.text("mode") != "enforce" || a.text("file") != file || a.text("profileName") != "agent" || a.at("revision") != 1.0 {
		t.Error(a.raw)
	}
	for name, c := range map[string]struct{ body, says string }{
		"no file":       {"{}", "file"}, // the file that is there stays, and nothing else is said: no change
		"a broken file": {body(map[string]string{"file": "tests:\n- {name: a, expect: {verdict: maybe}}\n"}), "line 2, column 31: must be admitted or refused"},
		"no mode":       {body(map[string]string{"file": file, "mode": "maybe"}), "mode"},
	} {
		a := w.call(w.admin, http.MethodPut, at, c.body)
		if name == "no file" {
			if a.status != http.StatusOK || a.at("revision") != 1.0 {
				t.Errorf("%s: %d %s", name, a.status, a.raw)
			}
			continue
		}
		if a.status != http.StatusBadRequest || !strings.Contains(a.raw, c.says) {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}

	run := w.call(w.admin, http.MethodPost, at+":run", body(map[string]string{"specJson": `{"container_image": "host", "resource_defaults": {"memory_limit": "2Gi"}}`})).want(http.StatusOK)
	same(t, "results", run.at("results"), `[{"test": "memory", "runnerId": "r1", "binding": "agent", "outcome": "failed", "message": "admitted on r1/agent", "failures": [
		{"aspect": "value", "path": "resource_defaults.memory_limit", "expected": "1Gi", "actual": "2Gi", "origin": {"layer": "profile", "object": "profile agent", "revision": 2}, "shadowed": [],
		 "text": "value of resource_defaults.memory_limit: expected 1Gi, is 2Gi (profile agent revision 2)"}]}]`)
	if run.at("failed") != 1.0 || run.at("passed") != 0.0 {
		t.Error(run.raw)
	}
	w.call(w.admin, http.MethodPost, at+":run", body(map[string]string{"specJson": `{"container_imag": "host"}`})).want(http.StatusBadRequest)
	w.call(w.admin, http.MethodPost, at+":run", body(map[string]string{"specJson": `{`})).want(http.StatusBadRequest)

	edit := w.call(w.admin, http.MethodPatch, "/v1beta2/sandbox/profile-templates/agent", `{"profileTemplate": {"spec": {"resource_defaults": {"memory_limit": "2Gi"}}}, "updateMask": "spec.resource_defaults.memory_limit"}`)
	edit.want(http.StatusBadRequest)
	for _, says := range []string{`"code":9`, "POLICY_TESTS_FAIL", `"field":"policy_tests[memory]"`, "at r1/agent: value of resource_defaults.memory_limit: expected 1Gi, is 2Gi (profile agent revision 2)"} {
		if !strings.Contains(strings.ReplaceAll(edit.raw, `": `, `":`), says) {
			t.Errorf("the refusal does not say %s: %s", says, edit.raw)
		}
	}
	if after := w.call(w.admin, http.MethodGet, "/v1beta2/sandbox/profile-templates/agent", nil).want(http.StatusOK); after.raw != before.raw {
		t.Errorf("the profile\n%s\nwas\n%s", after.raw, before.raw)
	}

	c := bermv1rpc.NewPolicyTestServiceClient(w.dial(w.addr, w.admin))
	over, err := c.PutPolicyTests(w.ctx(), &bermv1.PutPolicyTestsRequest{Id: "agent", Mode: "warn", Etag: a.text("etag")})
	if err != nil || over.GetMode() != "warn" || over.GetRevision() != 2 {
		t.Errorf("%v %v", over, err)
	}
	if _, err := c.PutPolicyTests(w.ctx(), &bermv1.PutPolicyTestsRequest{Id: "agent", Mode: "enforce", Etag: a.text("etag")}); status.Code(err) != codes.Aborted {
		t.Errorf("%v", err)
	}
	edit = w.call(w.admin, http.MethodPatch, "/v1beta2/sandbox/profile-templates/agent", `{"profileTemplate": {"spec": {"resource_defaults": {"memory_limit": "2Gi"}}}, "updateMask": "spec.resource_defaults.memory_limit"}`).want(http.StatusOK)
	if !strings.Contains(edit.raw, `fails with the edit: value of resource_defaults.memory_limit`) {
		t.Error(edit.raw)
	}
	w.call(w.admin, http.MethodDelete, at, nil).want(http.StatusOK)
	w.call(w.admin, http.MethodGet, at, nil).want(http.StatusNotFound)
	if old := w.call(w.user, http.MethodGet, at+"?revision=1", nil).want(http.StatusOK); old.text("file") != file || old.text("mode") != "enforce" {
		t.Error(old.raw)
	}
	list := w.call(w.user, http.MethodGet, at+"/revisions", nil).want(http.StatusOK).at("revisions").([]any)
	if len(list) != 3 || list[0].(object)["deleted"] != true || list[2].(object)["reason"] != "small machines" {
		t.Errorf("%v", list)
	}
}
