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

const applyPath = "/berm/v1/apply"

// apply is a request with these objects: KIND NAME, BODY, each.
func (w *world) apply(more object, objects ...[2]string) string {
	w.Helper()
	list := []object{}
	for _, o := range objects {
		kind, name, _ := strings.Cut(o[0], " ")
		list = append(list, object{"kind": kind, "name": name, "body": o[1]})
	}
	request := object{"objects": list}
	for k, v := range more {
		request[k] = v
	}
	text, err := json.Marshal(request)
	w.must(err)
	return string(text)
}

// TestApplyOverREST: bodies are those of the REST resources; a plan writes nothing and says what the apply then does.
func TestApplyOverREST(t *testing.T) {
	w := newWorld(t)
	set := [][2]string{
		{"runner far", `{"identity": {"zone": "moon", "cluster_name": "c"}, "profile_bindings": [{"profile_template_id": "agent", "isDefault": true, "overridesJson": "{\"tags\":null}"}]}`},
		{"profile agent", `{"displayName": "agent", "labels": {"a": "b"}, "spec": {"resource_defaults": {"cpu_limit": "1"}, "tags": []}}`},
		{"zone moon", `{"defaults": {"node_selector": null}}`},
	}
	plan := w.call(w.admin, http.MethodPost, applyPath, w.apply(object{"preview": true, "owner": "fleet"}, set...)).want(http.StatusOK)
	if n := len(plan.at("effect", "bindings").([]any)); n != 1 {
		t.Errorf("%d bindings in %s", n, plan.raw)
	}
	w.call(w.admin, http.MethodGet, "/berm/v1/zones/moon", nil).want(http.StatusNotFound)
	a := w.call(w.admin, http.MethodPost, applyPath, w.apply(object{"owner": "fleet"}, set...), "X-Berm-Reason", "the%20moon").want(http.StatusOK)
	same(t, "zone", a.at("objects").([]any)[2], `{"kind": "zone", "name": "moon", "action": "create", "etag": "", "previousOwner": "", "pruned": false,
		"changes": [{"path": "defaults.node_selector", "new": null, "meaning": "cleared: nothing from beneath shows through"}, {"path": "name", "new": "moon", "meaning": "added"}]}`)
	if got := w.call(w.user, http.MethodGet, "/berm/v1/zones/moon/revisions", nil).want(http.StatusOK); !strings.Contains(got.raw, "the moon") {
		t.Error(got.raw)
	}
	p := w.call(w.user, http.MethodGet, "/v1beta2/sandbox/profile-templates/agent", nil).want(http.StatusOK)
	same(t, "spec", p.at("spec"), `{"resourceDefaults": {"cpuLimit": "1"}, "tags": []}`)
	again := w.call(w.admin, http.MethodPost, applyPath, w.apply(object{"owner": "fleet"}, set...)).want(http.StatusOK)
	if strings.Contains(again.raw, "create") || strings.Contains(again.raw, "change\"") {
		t.Error(again.raw)
	}
	// The etag of a plan holds for the apply; so does its absence.
	stale := `{"objects": [{"kind": "zone", "name": "moon", "body": "{}", "etag": ""}]}`
	w.call(w.admin, http.MethodPost, applyPath, stale).want(http.StatusConflict)
	pruned := w.call(w.admin, http.MethodPost, applyPath, w.apply(object{"owner": "fleet", "prune": true})).want(http.StatusOK)
	if n := strings.Count(pruned.raw, `"pruned":true`); n != 3 {
		t.Errorf("%d pruned: %s", n, pruned.raw)
	}
}

func TestApplyIsRefused(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		token, request string
		status         int
		says           []string
	}{
		"by a user":       {w.user, w.apply(nil), 403, []string{"role"}},
		"unknown kind":    {w.admin, w.apply(nil, [2]string{"token x", "{}"}), 400, []string{"objects[0].kind", "none of zone, profile, runner"}},
		"no JSON":         {w.admin, w.apply(nil, [2]string{"zone x", "{"}), 400, []string{"objects[0]"}},
		"no object":       {w.admin, w.apply(nil, [2]string{"zone x", "[]"}), 400, []string{"objects[0].body", "a list"}},
		"unknown fields":  {w.admin, w.apply(nil, [2]string{"zone x", `{"default": {}}`}, [2]string{"profile y", `{"spec": {"tag": []}}`}), 400, []string{"objects[0].zone.default", `\"defaults\"`, "objects[1].profile_template.spec.tag", `\"tags\"`}},
		"what is made":    {w.admin, w.apply(nil, [2]string{"profile x", `{"id": "x", "spec": {}}`}), 400, []string{"objects[0].profile_template.id", "made by the server"}},
		"another name":    {w.admin, w.apply(nil, [2]string{"profile x", `{"displayName": "y", "spec": {}}`}), 400, []string{"objects[0].profile_template.display_name"}},
		"another id":      {w.admin, w.apply(nil, [2]string{"runner x", `{"identity": {"runnerId": "y"}}`}), 400, []string{"objects[0].runner.identity.runner_id"}},
		"no body":         {w.admin, `{"objects": [{"kind": "runner", "name": "r1"}]}`, 400, []string{"objects[0].body", "must be given, unless delete is"}},
		"delete and body": {w.admin, `{"objects": [{"kind": "runner", "name": "r1", "body": "{}", "delete": true}]}`, 400, []string{"objects[0].body", "is to be deleted"}},
		"too many looked": {w.admin, `{"launches": 10001}`, 400, []string{"launches"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.call(c.token, http.MethodPost, applyPath, c.request).want(c.status)
			for _, says := range c.says {
				if !strings.Contains(a.raw, says) {
					t.Errorf("no %s in %s", says, a.raw)
				}
			}
		})
	}
	c := bermv1rpc.NewApplyServiceClient(w.dial(w.addr, w.admin))
	if _, err := c.Apply(w.ctx(), &bermv1.ApplyRequest{Objects: []*bermv1.ApplyObject{{Kind: "runner", Name: "r1", Delete: true}}, Preview: true}); err != nil {
		t.Error(err)
	}
	if _, err := c.Apply(w.ctx(), &bermv1.ApplyRequest{Objects: []*bermv1.ApplyObject{{Kind: "profile", Name: "default", Delete: true}}}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a profile that is bound: %v", err)
	}
}
