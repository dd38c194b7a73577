package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/server"
	"github.com/bermhq/berm/internal/server/wire"
)

// layered makes a world in which all four layers have something to say.
func layered(t *testing.T) *world {
	t.Helper()
	return layeredWith(t, server.Config{})
}

func layeredWith(t *testing.T, cfg server.Config) *world {
	t.Helper()
	w := newWorldWith(t, cfg, "east=us-east", "west=us-west")
	w.call(w.admin, http.MethodPut, zonesPath+"/us-east", `{"zone": {"defaults": {"tags": ["zone"], "resource_defaults": {"cpu_limit": "3"}}}}`).want(http.StatusOK)
	p := w.newProfile("agent", `{"container_image": "host", "resource_defaults": {"cpu_limit": "2", "memory_limit": "1Gi"}, "tags": ["profile"]}`)
	for _, r := range []string{"east", "west"} {
		w.call(w.admin, http.MethodPatch, runnersPath+"/"+r, fmt.Sprintf(
			`{"runner": {"profileBindings": [{"profileTemplateId": %q, "isDefault": true, "overridesJson": "{\"tags\": null, \"node_selector\": {\"pool\": \"x\"}}"}]}}`, p.text("id"))).want(http.StatusOK)
	}
	return w
}

// TestExplain has exactly the names that scripts rely on.
func TestExplain(t *testing.T) {
	w := layered(t)
	started := w.call(w.user, http.MethodPost, "/v1beta2/sandboxes", `{"runnerIds": ["east"], "resources": {"cpu": "500m", "memory": "128Mi"}}`).want(http.StatusOK)
	e := w.call(w.user, http.MethodGet, "/berm/v1/sandboxes/"+started.text("sandboxId")+"/explain", nil).want(http.StatusOK)
	if e.text("sandboxId") != started.text("sandboxId") || e.text("runnerId") != "east" || e.text("profileName") != "agent" || e.at("profileRevision") != 1.0 ||
		!strings.HasPrefix(e.text("digest"), "sha256:") || e.text("observation") != "CURRENT" || e.text("isolation") == "" {
		t.Errorf("explain %s", e.raw)
	}
	fields := map[string]object{}
	var paths []string
	for _, f := range e.at("fields").([]any) {
		f := f.(object)
		fields[f["path"].(string)] = f
		paths = append(paths, f["path"].(string))
	}
	if !slices.IsSorted(paths) {
		t.Errorf("paths %v", paths)
	}
	cpu := fields["resource_defaults.cpu_limit"]
	if cpu["value"] != "500m" || cpu["layer"] != "request" || cpu["object"] != "request" || cpu["revision"] != 0.0 || cpu["by"] != "token:user" || cpu["at"] == nil || cpu["enforcement"] == "" {
		t.Errorf("cpu %v", cpu)
	}
	same(t, "shadowed", cpu["shadowed"], `[{"value": "2", "layer": "profile", "object": "profile agent", "revision": 1}, {"value": "3", "layer": "zone", "object": "zone us-east", "revision": 1}]`)
	for path, want := range map[string]string{"tags": "override", "node_selector": "override", "container_image": "profile", "network.egress.default": "zone"} {
		if fields[path]["layer"] != want {
			t.Errorf("%s is of %v", path, fields[path])
		}
	}
	if v, there := fields["tags"]["value"]; v != nil || !there {
		t.Errorf("a cleared field is null: %v", fields["tags"])
	}
	same(t, "value", fields["node_selector"]["value"], `{"pool": "x"}`)
	for _, key := range []string{"path", "value", "layer", "object", "revision", "by", "at", "shadowed", "enforcement"} {
		for _, f := range fields {
			if _, there := f[key]; !there && key != "at" {
				t.Errorf("%v has no %s", f, key)
			}
		}
	}
	chosen := 0
	for _, c := range e.at("candidates").([]any) {
		if c.(object)["chosen"] == true {
			chosen++
		}
	}
	if timeline := e.at("timeline").([]any); chosen != 1 || len(timeline) < 3 || timeline[0].(object)["name"] != "accepted" {
		t.Errorf("candidates and timeline: %s", e.raw)
	}
	one := w.call(w.user, http.MethodGet, "/berm/v1/sandboxes/"+started.text("sandboxId")+"/explain?fieldPath=resource_defaults", nil).want(http.StatusOK)
	if n := len(one.at("fields").([]any)); n != 4 {
		t.Errorf("%d fields below resource_defaults: %s", n, one.raw)
	}
	full, err := w.explain().GetSandbox(t.Context(), &bermv1.GetSandboxRequest{SandboxId: started.text("sandboxId")})
	w.must(err)
	if full.GetCreatedBy() != "token:user" || full.ExitCode != nil || full.GetRequest().GetResourceLimits().GetCpu() != "500m" || full.GetRequest().GetRunnerIds()[0] != "east" {
		t.Errorf("sandbox %v", full)
	}
}

// TestExplainEnded: what holds over all layers and what was submitted are told of a sandbox that has ended too.
func TestExplainEnded(t *testing.T) {
	w := layered(t)
	w.call(w.admin, http.MethodPut, zonesPath+"/us-east", `{"zone": {"defaults": {"guardrails": {"resources": {"max_cpu": "2"}, "images": {"allowed": ["host"]}}}}}`).want(http.StatusOK)
	p := w.newProfile("bounded", `{"container_image": "host", "resource_defaults": {"cpu_limit": "1"}, "guardrails": {"resources": {"max_cpu": "4"}, "images": {"allowed": ["**"]}}}`)
	w.call(w.admin, http.MethodPatch, runnersPath+"/east", fmt.Sprintf(`{"runner": {"profileBindings": [{"profileTemplateId": %q, "isDefault": true}]}}`, p.text("id"))).want(http.StatusOK)
	id := w.call(w.user, http.MethodPost, "/v1beta2/sandboxes", `{"runnerIds": ["east"], "environmentVariables": {"KEY": "hunter2"}}`).want(http.StatusOK).text("sandboxId")
	w.call(w.user, http.MethodDelete, "/v1beta2/sandboxes/"+id, nil).want(http.StatusOK)
	e := w.call(w.user, http.MethodGet, "/berm/v1/sandboxes/"+id+"/explain", nil).want(http.StatusOK)
	rails := map[string]object{}
	for _, f := range e.at("fields").([]any) {
		f := f.(object)
		rails[f["path"].(string)] = f
	}
	cpu, images := rails["guardrails.resources.max_cpu"], rails["guardrails.images.allowed"]
	if cpu["value"] != "2" || cpu["object"] != "zone us-east" || cpu["revision"] != 2.0 {
		t.Errorf("%v", cpu)
	}
	same(t, "shadowed", cpu["shadowed"], `[{"value": "4", "layer": "profile", "object": "profile bounded", "revision": 1}]`)
	same(t, "combined", cpu["combined"], `[]`)
	same(t, "value", images["value"], `{"allOf": [["host"], ["**"]]}`)
	same(t, "combined", images["combined"], `[{"value": ["**"], "layer": "profile", "object": "profile bounded", "revision": 1}]`)
	if e.at("submitted", "sandboxId") != id || strings.Contains(e.raw, "hunter2") {
		t.Errorf("submitted: %s", e.raw)
	}
	full, err := w.explain().GetSandbox(t.Context(), &bermv1.GetSandboxRequest{SandboxId: id})
	w.must(err)
	if full.GetSubmitted().AsMap()["sandboxId"] != id {
		t.Errorf("of the sandbox: %v", full.GetSubmitted())
	}
	wrong := w.call(w.user, http.MethodGet, "/berm/v1/sandboxes/"+id+"/explain?fieldPath=guardrails.resource.max_cpu", nil)
	wrong.want(http.StatusBadRequest, "FIELD_UNKNOWN", "did you mean guardrails.resources.max_cpu?")
}

// TestRefusals: a launch that is refused carries the whole explanation over REST, over gRPC what fits into a trailer, and in a
// plan it is no error.
func TestRefusals(t *testing.T) {
	w := layered(t)
	const request = `{"profileNames": ["agent"], "resources": {"cpu": "4", "memory": "2Gi"}}`
	a := w.call(w.user, http.MethodPost, "/v1beta2/sandboxes", request).want(http.StatusBadRequest, "CWSANDBOX_PROFILE_MISMATCH", "resource_limits.cpu", "resource_limits.memory")
	var over *bermv1.Refusal
	for _, d := range a.body["details"].([]any) {
		if d := d.(object); strings.HasSuffix(d["@type"].(string), "berm.v1.Refusal") {
			delete(d, "@type")
			text, _ := json.Marshal(d)
			over = &bermv1.Refusal{}
			w.must(protojson.Unmarshal(text, over))
		}
	}
	checkRefusal(t, "REST", over)

	_, err := w.gateway().Start(t.Context(), &v1beta2pb.StartSandboxRequest{ProfileNames: []string{"agent"}, Resources: &v1beta2pb.ResourceRequest{Cpu: "4", Memory: "2Gi"}})
	if status.Code(err) != codes.FailedPrecondition || reasonOf(err) != "CWSANDBOX_PROFILE_MISMATCH" {
		t.Fatal(err)
	}
	checkRefusal(t, "gRPC", refusalOf(err))

	planned := w.call(w.user, http.MethodPost, "/berm/v1/plan", `{"request": `+request+`}`).want(http.StatusOK)
	text, _ := json.Marshal(planned.at("refusal"))
	inPlan := &bermv1.Refusal{}
	w.must(protojson.Unmarshal(text, inPlan))
	if planned.at("admitted") != false || planned.text("runnerId") != "" {
		t.Errorf("plan %s", planned.raw)
	}
	checkRefusal(t, "plan", inPlan)

	// The nearest request is admitted as it stands.
	nearest, err := protojson.Marshal(over.GetNearestRequest())
	w.must(err)
	admitted := w.call(w.user, http.MethodPost, "/berm/v1/plan", `{"request": `+string(nearest)+`, "includePod": false}`).want(http.StatusOK)
	if admitted.at("admitted") != true || admitted.text("profileName") != "agent" || admitted.at("spec", "resourceDefaults", "cpuLimit") != "2" || len(admitted.at("fields").([]any)) == 0 {
		t.Errorf("the nearest request: %s", admitted.raw)
	}
	w.call(w.user, http.MethodPost, "/berm/v1/plan", `{"request": {}, "includePod": true}`).want(http.StatusNotImplemented, "CWSANDBOX_NOT_IMPLEMENTED")
	w.call(w.user, http.MethodPost, "/berm/v1/plan", `{}`).want(http.StatusBadRequest, "request")
	if list := w.call(w.user, http.MethodGet, "/v1beta2/sandboxes?includeStopped=true", nil); len(list.at("sandboxes").([]any)) != 0 {
		t.Errorf("a plan or a refusal left something behind: %s", list.raw)
	}
}

func checkRefusal(t *testing.T, where string, r *bermv1.Refusal) {
	t.Helper()
	if r.GetReason() != "CWSANDBOX_PROFILE_MISMATCH" || len(r.GetCandidates()) != 2 || r.GetNearestRequest() == nil || len(r.GetChanges()) == 0 {
		t.Fatalf("%s: %v", where, r)
	}
	reason := r.GetCandidates()[0].GetReasons()[0]
	if reason.GetCode() == "" || reason.GetPath() == "" || reason.GetLimit() == "" || reason.GetLimitOrigin().GetLayer() != "profile" {
		t.Errorf("%s: reason %v", where, reason)
	}
}

func refusalOf(err error) *bermv1.Refusal {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*bermv1.Refusal); ok {
			return r
		}
	}
	return nil
}

// TestManyRunnersRefuse: the refusal of a large fleet still fits into a trailer, with what matters in it.
func TestManyRunnersRefuse(t *testing.T) {
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("runner-with-a-rather-long-name-%02d", i))
	}
	w := newWorld(t, names...)
	_, err := w.gateway().Start(t.Context(), &v1beta2pb.StartSandboxRequest{Network: &v1beta2pb.NetworkOptions{EgressMode: strings.Repeat("internet", 7)}})
	if reasonOf(err) != "CWSANDBOX_NO_SUITABLE_RUNNER" {
		t.Fatal(err)
	}
	s := status.Convert(err)
	if n := proto.Size(s.Proto()); n > wire.MaxTrailer {
		t.Errorf("the status has %d bytes", n)
	}
	r := refusalOf(err)
	if len(r.GetCandidates()) == 0 || r.GetNearestRequest() == nil || metaOf(err)["truncated"] != "true" || metaOf(err)["request_id"] == "" {
		t.Errorf("what was kept: %v, %v", r, metaOf(err))
	}
	planned, err := w.explain().PlanSandbox(t.Context(), &bermv1.PlanSandboxRequest{Request: &v1beta2pb.StartSandboxRequest{Network: &v1beta2pb.NetworkOptions{EgressMode: "internet"}}})
	w.must(err)
	if n := len(planned.GetRefusal().GetCandidates()); n != 40 || planned.GetOmittedCandidates() != 0 {
		t.Errorf("a plan lists %d candidates and leaves out %d", n, planned.GetOmittedCandidates())
	}
	if n := len(r.GetCandidates()) + int(r.GetOmittedCandidates()); n != 40 {
		t.Errorf("the refusal lists %d of %d candidates", len(r.GetCandidates()), n)
	}
}

func TestPlanPod(t *testing.T) {
	w := layeredWith(t, server.Config{Pod: func(p core.Principal, pl *plan.Plan) (json.RawMessage, error) {
		return json.RawMessage(`{"kind": "Pod", "of": "` + pl.Binding.Name + ` by ` + p.Actor + `"}`), nil
	}})
	a := w.call(w.user, http.MethodPost, "/berm/v1/plan", `{"request": {}, "includePod": true}`).want(http.StatusOK)
	if a.text("pod", "kind") != "Pod" || a.text("pod", "of") != "agent by token:user" {
		t.Errorf("pod %s", a.raw)
	}
}

// TestZones: absent, null and empty survive, over REST and gRPC.
func TestZones(t *testing.T) {
	w := newWorld(t)
	const defaults = `{"tags": null, "nodeSelector": {}, "instanceTypes": [], "containerImage": "a:1", "pod": {"spec": {"x": {"n": 9007199254740991}}}}`
	z := w.call(w.admin, http.MethodPut, zonesPath+"/z1", `{"zone": {"defaults": `+defaults+`}}`, "X-Berm-Reason", "first+try").want(http.StatusOK)
	same(t, "put", z.at("defaults"), defaults)
	if z.text("name") != "z1" || z.at("revision") != 1.0 || z.text("updatedBy") != "token:admin" || z.text("etag") == "" {
		t.Errorf("zone %s", z.raw)
	}
	c := bermv1rpc.NewZoneServiceClient(w.dial(w.addr, w.admin))
	m, err := c.GetZone(t.Context(), &bermv1.GetZoneRequest{Name: "z1"})
	w.must(err)
	if _, isNull := m.GetDefaults().GetFields()["tags"].GetKind().(*structpb.Value_NullValue); !isNull || m.GetDefaults().GetFields()["nodeSelector"].GetStructValue() == nil {
		t.Errorf("message %v", m)
	}
	m.GetDefaults().GetFields()["tags"] = structpb.NewListValue(&structpb.ListValue{})
	put, err := c.PutZone(t.Context(), &bermv1.PutZoneRequest{Name: "z1", Zone: &bermv1.Zone{Defaults: m.GetDefaults(), Etag: m.GetEtag()}})
	w.must(err)
	if put.GetRevision() != 2 {
		t.Errorf("put %v", put)
	}
	same(t, "read", w.call(w.user, http.MethodGet, zonesPath+"/z1", nil).at("defaults"), strings.Replace(defaults, "null", "[]", 1))
	if _, err := c.PutZone(t.Context(), &bermv1.PutZoneRequest{Name: "z1", Zone: &bermv1.Zone{Revision: 9}}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an output-only field: %v", err)
	}
	w.call(w.admin, http.MethodPut, zonesPath+"/z1", `{"zone": {}}`, "If-Match", m.GetEtag()).want(http.StatusConflict)
	w.call(w.admin, http.MethodPut, zonesPath+"/z1", `{"zone": {}}`).want(http.StatusOK, `"defaults":{}`)
	list := w.call(w.user, http.MethodGet, zonesPath+"?pageSize=1", nil).want(http.StatusOK)
	if len(list.at("zones").([]any)) != 1 || list.text("nextPageToken") == "" {
		t.Errorf("list %s", list.raw)
	}
	w.call(w.admin, http.MethodDelete, zonesPath+"/z1", nil).want(http.StatusOK)
	if _, err := c.GetZone(t.Context(), &bermv1.GetZoneRequest{Name: "z1"}); status.Code(err) != codes.NotFound {
		t.Errorf("deleted: %v", err)
	}
}

func TestRevisions(t *testing.T) {
	w := newWorld(t)
	w.newProfile("p", `{"tags": null}`)
	w.call(w.admin, http.MethodPatch, profilesPath+"/p", `{"profileTemplate": {"description": "d"}}`, "X-Berm-Reason", "50%25+more").want(http.StatusOK)
	w.call(w.admin, http.MethodPatch, profilesPath+"/p", `{"profileTemplate": {}}`, "X-Berm-Reason", "%zz").want(http.StatusBadRequest, "X-Berm-Reason")
	all := w.call(w.user, http.MethodGet, "/berm/v1/profiles/p/revisions", nil).want(http.StatusOK)
	list := all.at("revisions").([]any)
	newest, first := list[0].(object), list[1].(object)
	if newest["revision"] != 2.0 || newest["reason"] != "50% more" || newest["by"] != "token:admin" || newest["deleted"] != false {
		t.Errorf("newest %v", newest)
	}
	same(t, "content", first["content"], `{"displayName": "p", "description": "", "labels": {}, "spec": {"tags": null}}`)
	runner := w.call(w.user, http.MethodGet, "/berm/v1/runners/r1/revisions", nil).want(http.StatusOK)
	content := runner.at("revisions").([]any)[0].(object)["content"].(object)
	if content["identity"].(object)["runnerId"] != "r1" || len(content["profileBindings"].([]any)) != 1 || content["connectionStatus"] != nil {
		t.Errorf("runner %v", content)
	}
}
