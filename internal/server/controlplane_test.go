package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
)

const (
	profilesPath = "/v1beta2/sandbox/profile-templates"
	runnersPath  = "/v1beta2/sandbox/managed-runners"
	zonesPath    = "/berm/v1/zones"
)

// same compares two JSON values.
func same(t *testing.T, what string, got any, want string) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(v, got); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

func (w *world) newProfile(name, spec string) *answer {
	w.Helper()
	return w.call(w.admin, http.MethodPost, profilesPath, `{"profileTemplate": {"displayName": "`+name+`", "spec": `+spec+`}}`).want(http.StatusOK)
}

// TestSpecOverREST: absent, null and empty come back as they were written, in the form of the wire.
func TestSpecOverREST(t *testing.T) {
	w := newWorld(t)
	p := w.newProfile("agent", `{
		"containerImage": null, "runtime_class": "gvisor", "tags": [], "nodeSelector": {}, "resource_defaults": {"cpu_limit": "2", "memoryLimit": null},
		"namespace": {"strategy": "per-user", "namespacePrefix": "a-"},
		"networkConfigJson": "{\"egress\": {\"default\": \"off\", \"modes\": {\"off\": {\"type\": \"none\"}}}}",
		"pod": {"spec": {"nodeSelector": {"a": "b"}, "volumes": null}},
		"guardrails": {"resources": {"max_cpu": "8"}}}`)
	spec := p.at("spec").(object)
	for _, key := range []string{"namespaceConfigJson", "networkConfigJson", "podTemplateJson"} {
		var v any
		if err := json.Unmarshal([]byte(spec[key].(string)), &v); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		spec[key] = v
	}
	same(t, "spec", spec, `{
		"containerImage": null, "runtimeClass": "gvisor", "tags": [], "nodeSelector": {}, "resourceDefaults": {"cpuLimit": "2", "memoryLimit": null},
		"namespaceConfigJson": {"strategy": "per-user", "namespacePrefix": "a-"},
		"networkConfigJson": {"egress": {"default": "off", "modes": {"off": {"type": "none"}}}},
		"podTemplateJson": {"spec": {"nodeSelector": {"a": "b"}, "volumes": null}},
		"guardrails": {"resources": {"maxCpu": "8"}}}`)
	if p.text("id") == "" || p.text("organizationId") == "" || p.at("revision") != 1.0 || !strings.HasSuffix(p.text("createdAt"), "Z") ||
		p.header.Get("ETag") != `"`+p.text("etag")+`"` || p.at("labels") == nil {
		t.Errorf("profile %s %v", p.raw, p.header)
	}
	// What was read can be written again and changes nothing.
	again := w.call(w.admin, http.MethodPatch, profilesPath+"/agent?update_mask=spec,description,labels", `{"profileTemplate": `+p.raw+`}`).want(http.StatusOK)
	if again.raw != p.raw {
		t.Errorf("written again: %s", again.raw)
	}
	// Over gRPC nulls and empties are not there.
	c := v1beta2rpc.NewProfileTemplateServiceClient(w.dial(w.addr, w.user))
	m, err := c.GetProfileTemplate(t.Context(), &v1beta2pb.GetProfileTemplateRequest{Id: "agent"})
	w.must(err)
	if m.GetSpec().ContainerImage != nil || m.GetSpec().RuntimeClass == nil || m.GetSpec().GetResourceDefaults().GetCpuLimit() != "2" ||
		m.GetSpec().GetGuardrails().GetResources().GetMaxCpu() != "8" || !strings.Contains(m.GetSpec().GetNetworkConfigJson(), "egress") {
		t.Errorf("message %v", m)
	}
}

// TestProfileUpdates: what a PATCH changes, with a mask in either place and spelling, and without one.
func TestProfileUpdates(t *testing.T) {
	w := newWorld(t)
	const start = `{"containerImage": "a:1", "tags": ["x"], "nodeSelector": {"k": "v"}, "resourceDefaults": {"cpuLimit": "2", "memoryLimit": "1Gi"}}`
	for name, c := range map[string]struct{ query, body, want, description string }{
		"mask of the spec":         {body: `{"profileTemplate": {"spec": {"containerImage": "b:1"}}, "updateMask": "spec"}`, want: `{"containerImage": "b:1"}`},
		"mask of a field":          {body: `{"profile_template": {"spec": {"container_image": "b:1", "tags": ["ignored"]}}, "update_mask": "spec.container_image"}`, want: `{"containerImage": "b:1", "tags": ["x"], "nodeSelector": {"k": "v"}, "resourceDefaults": {"cpuLimit": "2", "memoryLimit": "1Gi"}}`},
		"mask in the query":        {query: "?updateMask=spec.resourceDefaults", body: `{"profileTemplate": {"spec": {"resourceDefaults": {"cpuLimit": "3"}}}}`, want: `{"containerImage": "a:1", "tags": ["x"], "nodeSelector": {"k": "v"}, "resourceDefaults": {"cpuLimit": "3"}}`},
		"mask of what is absent":   {body: `{"profileTemplate": {"spec": {}}, "updateMask": "spec.tags,spec.node_selector"}`, want: `{"containerImage": "a:1", "resourceDefaults": {"cpuLimit": "2", "memoryLimit": "1Gi"}}`},
		"mask of a null":           {body: `{"profileTemplate": {"spec": {"tags": null}}, "updateMask": "spec.tags"}`, want: `{"containerImage": "a:1", "tags": null, "nodeSelector": {"k": "v"}, "resourceDefaults": {"cpuLimit": "2", "memoryLimit": "1Gi"}}`},
		"no mask, nested":          {body: `{"profileTemplate": {"spec": {"resourceDefaults": {"cpuLimit": "3"}, "nodeSelector": {"n": "m"}}}}`, want: `{"containerImage": "a:1", "tags": ["x"], "nodeSelector": {"n": "m"}, "resourceDefaults": {"cpuLimit": "3", "memoryLimit": "1Gi"}}`},
		"no mask, null and empty":  {body: `{"profileTemplate": {"spec": {"containerImage": null, "tags": []}}}`, want: `{"containerImage": null, "tags": [], "nodeSelector": {"k": "v"}, "resourceDefaults": {"cpuLimit": "2", "memoryLimit": "1Gi"}}`},
		"no mask, an empty spec":   {body: `{"profileTemplate": {"spec": {}}}`, want: `{}`},
		"no mask, description":     {body: `{"profileTemplate": {"description": "d", "labels": {"a": "b"}}}`, want: start, description: "d"},
		"no mask, the same name":   {body: `{"profileTemplate": {"displayName": "NAME", "description": "d"}}`, want: start, description: "d"},
		"an empty mask is no mask": {body: `{"profileTemplate": {"description": "d"}, "updateMask": ""}`, want: start, description: "d"},
		"mask beside a whole body": {body: `{"profileTemplate": {"id": "ignored", "createdAt": "2020-01-01T00:00:00Z", "description": "d", "spec": {"tags": ["ignored"]}}, "updateMask": "description"}`, want: start, description: "d"},
	} {
		t.Run(name, func(t *testing.T) {
			id := strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ",", "")
			before := w.newProfile(id, start)
			got := w.call(w.admin, http.MethodPatch, profilesPath+"/"+before.text("id")+c.query, strings.ReplaceAll(c.body, "NAME", id)).want(http.StatusOK)
			same(t, "spec", got.at("spec"), c.want)
			if got.text("description") != c.description || got.at("revision") != 2.0 || got.text("etag") == before.text("etag") {
				t.Errorf("answer %s", got.raw)
			}
			read := w.call(w.user, http.MethodGet, profilesPath+"/"+id, nil).want(http.StatusOK)
			same(t, "read", read.at("spec"), c.want)
		})
	}
}

// TestWireStringsAreOneField: without a mask, a part that the wire carries as text is replaced as a whole; as an object it is
// changed field by field.
func TestWireStringsAreOneField(t *testing.T) {
	w := newWorld(t)
	const start = `{"namespace": {"strategy": "per-user", "namespacePrefix": "a-"}}`
	namespace := func(body string) any {
		t.Helper()
		w.newProfile("n", start)
		defer func() { w.call(w.admin, http.MethodDelete, profilesPath+"/n", nil).want(http.StatusOK) }()
		got := w.call(w.admin, http.MethodPatch, profilesPath+"/n", body).want(http.StatusOK)
		var v any
		w.must(json.Unmarshal([]byte(got.text("spec", "namespaceConfigJson")), &v))
		return v
	}
	same(t, "text", namespace(`{"profileTemplate": {"spec": {"namespaceConfigJson": "{\"strategy\": \"per-org\"}"}}}`), `{"strategy": "per-org"}`)
	same(t, "object", namespace(`{"profileTemplate": {"spec": {"namespace": {"strategy": "per-org"}}}}`), `{"strategy": "per-org", "namespacePrefix": "a-"}`)
}

func TestEtags(t *testing.T) {
	w := newWorld(t)
	first := w.newProfile("p", `{}`).text("etag")
	edit := func(etagInBody, ifMatch string) *answer {
		body := object{"profileTemplate": object{"description": "d" + etagInBody + ifMatch, "etag": etagInBody}, "updateMask": "description"}
		if ifMatch == "" {
			return w.call(w.admin, http.MethodPatch, profilesPath+"/p", body)
		}
		return w.call(w.admin, http.MethodPatch, profilesPath+"/p", body, "If-Match", ifMatch)
	}
	second := edit(first, "").want(http.StatusOK).text("etag")
	edit(first, "").want(http.StatusConflict, "ETAG_MISMATCH")
	edit("", first).want(http.StatusConflict)
	third := edit("", `"`+second+`"`).want(http.StatusOK).text("etag")
	edit(third, second).want(http.StatusBadRequest, "two etags")
	edit("", `W/"`+third+`"`).want(http.StatusBadRequest)
	edit("", `"a", "b"`).want(http.StatusBadRequest)
	edit("", "*").want(http.StatusOK)
	w.call(w.admin, http.MethodDelete, profilesPath+"/p", nil, "If-Match", third).want(http.StatusConflict)
	w.call(w.admin, http.MethodDelete, profilesPath+"/p?etag="+third, nil).want(http.StatusConflict)
	w.call(w.admin, http.MethodDelete, profilesPath+"/p", nil).want(http.StatusOK)
	w.call(w.admin, http.MethodGet, profilesPath+"/p", nil).want(http.StatusNotFound, "CWSANDBOX_PROFILE_NOT_FOUND")
}

func TestRunnerOverREST(t *testing.T) {
	w := newWorld(t)
	created := w.call(w.admin, http.MethodPost, runnersPath, `{"runnerId": "east-1", "runner": {
		"displayName": "East", "identity": {"zone": "us-east", "clusterName": "c1", "runnerGroupId": "g"},
		"managedSpec": {"releaseChannel": "RELEASE_CHANNEL_RAPID", "enforceResourceLimits": true,
			"maintenancePolicy": {"windows": [{"cron": "0 2 * * SAT", "durationSeconds": 3600}]},
			"overrides": {"cpuRuntimeClass": "gvisor", "labels": {"a": "b"}}},
		"profileBindings": [{"profileTemplateId": "`+w.profile+`", "isDefault": true,
			"overridesJson": "{\"node_selector\": {\"pool\": \"x\"}, \"tags\": null, \"resourceDefaults\": {\"cpuLimit\": \"1\", \"memoryLimit\": \"1Gi\"}}"}]}}`).want(http.StatusOK)
	if created.text("installStatus") != "RUNNER_INSTALL_STATUS_PENDING" || created.text("connectionStatus") != "RUNNER_CONNECTION_STATUS_DISCONNECTED" ||
		created.text("managementMode") != "MANAGEMENT_MODE_MANAGED" || created.at("lastHeartbeatAt") != nil || created.text("activeConfigVersion") != "" {
		t.Errorf("created %s", created.raw)
	}
	same(t, "managed", created.at("managedSpec"), `{"releaseChannel": "RELEASE_CHANNEL_RAPID", "enforceResourceLimits": true, "allowPrivilegedProfileAnnotations": false,
		"maintenancePolicy": {"windows": [{"cron": "0 2 * * SAT", "durationSeconds": 3600}], "exclusions": []},
		"overrides": {"cpuRuntimeClass": "gvisor", "gpuRuntimeClass": "", "labels": {"a": "b"}, "nodeSelector": {}, "tolerations": [], "annotations": {}, "env": {}, "args": []}}`)
	binding := created.at("profileBindings").([]any)[0].(object)
	if binding["profileName"] != "default" || binding["isDefault"] != true {
		t.Errorf("binding %v", binding)
	}
	same(t, "overrides", json2any(t, binding["overridesJson"].(string)), `{"nodeSelector": {"pool": "x"}, "tags": null, "resourceDefaults": {"cpuLimit": "1", "memoryLimit": "1Gi"}}`)
	local := w.call(w.admin, http.MethodGet, runnersPath+"/r1", nil).want(http.StatusOK)
	if local.text("connectionStatus") != "RUNNER_CONNECTION_STATUS_CONNECTED" || local.text("installStatus") != "RUNNER_INSTALL_STATUS_READY" || local.text("activeConfigVersion") != "1.2.3" {
		t.Errorf("local %s", local.raw)
	}
	// One field of a message leaves the others; a whole message replaces them.
	got := w.call(w.admin, http.MethodPatch, runnersPath+"/east-1", `{"runner": {"identity": {"zone": "us-west"}, "managedSpec": {"enforceResourceLimits": false}}}`).want(http.StatusOK)
	if got.text("identity", "zone") != "us-west" || got.text("identity", "runnerGroupId") != "g" || got.text("managedSpec", "releaseChannel") != "RELEASE_CHANNEL_RAPID" ||
		got.at("managedSpec", "enforceResourceLimits") != false || got.text("managedSpec", "overrides", "cpuRuntimeClass") != "gvisor" {
		t.Errorf("no mask: %s", got.raw)
	}
	got = w.call(w.admin, http.MethodPatch, runnersPath+"/east-1", `{"runner": {"managedSpec": {}}, "updateMask": "managedSpec,identity.runnerGroupId"}`).want(http.StatusOK)
	if got.text("managedSpec", "releaseChannel") != "RELEASE_CHANNEL_STABLE" || got.at("managedSpec", "overrides") != nil || got.text("identity", "runnerGroupId") != "" {
		t.Errorf("cleared: %s", got.raw)
	}
	// What was read can be written again and changes nothing but the name of the binding, which is then given.
	again := w.call(w.admin, http.MethodPatch, runnersPath+"/east-1?updateMask=managed_spec,display_name,identity.zone", `{"runner": `+got.raw+`}`).want(http.StatusOK)
	if again.text("etag") != got.text("etag") {
		t.Errorf("written again: %s", again.raw)
	}
	w.call(w.admin, http.MethodPatch, runnersPath+"/east-1", `{"runner": {"identity": {"clusterName": "c2"}}}`).want(http.StatusBadRequest, "FIELD_IMMUTABLE", "cluster_name")
	w.call(w.admin, http.MethodPost, runnersPath+"/east-1:apply-update", `{}`).want(http.StatusBadRequest, "UPDATE_NOT_AVAILABLE")
	w.call(w.admin, http.MethodPost, runnersPath, `{"runnerId": "east-2", "runner": {"identity": {"zone": "z", "clusterName": "c1"}, "profileBindings": [{"profileTemplateId": "`+w.profile+`", "isDefault": true}]}}`).
		want(http.StatusConflict, "RUNNER_EXISTS")
	w.call(w.admin, http.MethodDelete, runnersPath+"/east-1?force=perhaps", nil).want(http.StatusBadRequest, "force")
	w.call(w.admin, http.MethodDelete, runnersPath+"/east-1", nil).want(http.StatusOK)
	w.call(w.admin, http.MethodGet, runnersPath+"/east-1", nil).want(http.StatusNotFound, "CWSANDBOX_RUNNER_NOT_FOUND")
}

func json2any(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDeletingABusyRunner(t *testing.T) {
	w := newWorld(t)
	w.idle()
	w.call(w.admin, http.MethodDelete, runnersPath+"/r1", nil).want(http.StatusBadRequest, "RUNNER_HAS_SANDBOXES", "1 ")
	w.call(w.admin, http.MethodDelete, runnersPath+"/r1?force=true", nil).want(http.StatusOK)
}

// TestControlPlaneOverGRPC: the same use cases in messages. An empty list or map in a spec is an unset one there.
func TestControlPlaneOverGRPC(t *testing.T) {
	w := newWorld(t)
	conn, ctx := w.dial(w.addr, w.admin), t.Context()
	profiles, runners := v1beta2rpc.NewProfileTemplateServiceClient(conn), v1beta2rpc.NewManagedRunnerServiceClient(conn)
	p, err := profiles.CreateProfileTemplate(metadata.AppendToOutgoingContext(ctx, "x-berm-reason", "because+of+it"), &v1beta2pb.CreateProfileTemplateRequest{ProfileTemplate: &v1beta2pb.ProfileTemplate{
		DisplayName: "p", Labels: map[string]string{"a": "b"}, Spec: &v1beta2pb.ProfileSpec{
			ContainerImage: proto.String("a:1"), Tags: []string{}, NodeSelector: map[string]string{},
			NamespaceConfigJson: proto.String(`{"strategy": "per-org"}`), Guardrails: &specpb.Guardrails{Resources: &specpb.ResourceGuardrails{MaxCpu: proto.String("8")}},
		},
	}})
	w.must(err)
	rest := w.call(w.admin, http.MethodGet, profilesPath+"/"+p.GetId(), nil)
	same(t, "spec", rest.at("spec"), `{"containerImage": "a:1", "namespaceConfigJson": "{\"strategy\":\"per-org\"}", "guardrails": {"resources": {"maxCpu": "8"}}}`)
	p, err = profiles.UpdateProfileTemplate(ctx, &v1beta2pb.UpdateProfileTemplateRequest{Id: "p", ProfileTemplate: &v1beta2pb.ProfileTemplate{
		Etag: p.GetEtag(), Description: "d", Spec: &v1beta2pb.ProfileSpec{Tags: []string{"x"}},
	}})
	w.must(err)
	if p.GetDescription() != "d" || p.GetSpec().GetContainerImage() != "a:1" || p.GetSpec().GetTags()[0] != "x" || p.GetLabels()["a"] != "b" || p.GetRevision() != 2 {
		t.Errorf("no mask: %v", p)
	}
	p, err = profiles.UpdateProfileTemplate(ctx, &v1beta2pb.UpdateProfileTemplateRequest{Id: "p", ProfileTemplate: &v1beta2pb.ProfileTemplate{Spec: &v1beta2pb.ProfileSpec{}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"spec", "labels"}}})
	w.must(err)
	if proto.Size(p.GetSpec()) != 0 || len(p.GetLabels()) != 0 || p.GetDescription() != "d" {
		t.Errorf("with a mask: %v", p)
	}
	for name, c := range map[string]struct {
		call func() error
		code codes.Code
		says string
	}{
		"nothing given": {func() error {
			_, err := profiles.CreateProfileTemplate(ctx, &v1beta2pb.CreateProfileTemplateRequest{})
			return err
		}, codes.InvalidArgument, "profile_template"},
		"output only": {func() error {
			_, err := profiles.CreateProfileTemplate(ctx, &v1beta2pb.CreateProfileTemplateRequest{ProfileTemplate: &v1beta2pb.ProfileTemplate{Id: "x", DisplayName: "q", Spec: &v1beta2pb.ProfileSpec{}}})
			return err
		}, codes.InvalidArgument, "profile_template.id"},
		"a name in use": {func() error {
			_, err := profiles.CreateProfileTemplate(ctx, &v1beta2pb.CreateProfileTemplateRequest{ProfileTemplate: &v1beta2pb.ProfileTemplate{DisplayName: "p", Spec: &v1beta2pb.ProfileSpec{}}})
			return err
		}, codes.AlreadyExists, "p"},
		"text that is no JSON": {func() error {
			_, err := profiles.UpdateProfileTemplate(ctx, &v1beta2pb.UpdateProfileTemplateRequest{Id: "p", ProfileTemplate: &v1beta2pb.ProfileTemplate{Spec: &v1beta2pb.ProfileSpec{PodTemplateJson: proto.String("{")}}})
			return err
		}, codes.InvalidArgument, "profile_template.spec"},
		"a mask of nothing": {func() error {
			_, err := profiles.UpdateProfileTemplate(ctx, &v1beta2pb.UpdateProfileTemplateRequest{Id: "p", ProfileTemplate: &v1beta2pb.ProfileTemplate{}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"specs"}}})
			return err
		}, codes.InvalidArgument, "specs"},
		"an old etag": {func() error {
			_, err := profiles.DeleteProfileTemplate(ctx, &v1beta2pb.DeleteProfileTemplateRequest{Id: "p", Etag: "old"})
			return err
		}, codes.Aborted, "changed"},
		"no update": {func() error {
			_, err := runners.ApplyManagedRunnerUpdate(ctx, &v1beta2pb.ApplyManagedRunnerUpdateRequest{Id: "r1"})
			return err
		}, codes.FailedPrecondition, "r1"},
	} {
		if err := c.call(); status.Code(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := runners.CreateManagedRunner(ctx, &v1beta2pb.CreateManagedRunnerRequest{RunnerId: "g", Runner: &v1beta2pb.Runner{
		Identity:        &v1beta2pb.RunnerIdentity{Zone: "z", ClusterId: "c"},
		ProfileBindings: []*v1beta2pb.RunnerProfileBinding{{ProfileTemplateId: p.GetId(), IsDefault: true, OverridesJson: `{"tags": null}`}},
	}})
	w.must(err)
	if r.GetProfileBindings()[0].GetOverridesJson() != `{"tags":null}` || r.GetProfileBindings()[0].GetProfileName() != "p" {
		t.Errorf("runner %v", r)
	}
	r, err = runners.UpdateManagedRunner(ctx, &v1beta2pb.UpdateManagedRunnerRequest{Id: "g", Runner: &v1beta2pb.Runner{DisplayName: "G"}})
	w.must(err)
	list, err := runners.ListRunners(ctx, &v1beta2pb.ListRunnersRequest{PageSize: 1})
	w.must(err)
	if r.GetDisplayName() != "G" || r.GetIdentity().GetZone() != "z" || len(list.GetRunners()) != 1 || list.GetNextPageToken() == "" {
		t.Errorf("runner %v, list %v", r, list)
	}
	if _, err := runners.DeleteManagedRunner(ctx, &v1beta2pb.DeleteManagedRunnerRequest{Id: "g", Etag: r.GetEtag()}); err != nil {
		t.Error(err)
	}
	revisions := w.call(w.admin, http.MethodGet, "/berm/v1/profiles/p/revisions", nil).want(http.StatusOK, "because of it")
	if n := len(revisions.at("revisions").([]any)); n != 3 {
		t.Errorf("%d revisions: %s", n, revisions.raw)
	}
}

// TestListsAreFiltered: parameters of a list select, in either spelling, and what cannot be one is refused by name.
func TestListsAreFiltered(t *testing.T) {
	w := newWorld(t)
	w.call(w.admin, http.MethodPost, profilesPath, `{"profileTemplate": {"displayName": "labelled", "spec": {}, "labels": {"team": "ml"}}}`).want(http.StatusOK)
	w.call(w.admin, http.MethodPost, runnersPath, `{"runnerId": "east-1", "runner": {"identity": {"zone": "us-east", "clusterName": "c1"},
		"managedSpec": {"overrides": {"labels": {"rack": "b"}}}, "profileBindings": [{"profileTemplateId": "`+w.profile+`", "isDefault": true}]}}`).want(http.StatusOK)
	for path, want := range map[string]string{
		profilesPath + "?labelSelector=team%3Dml":                                          "labelled",
		profilesPath + "?label_selector=team%21%3Dml":                                      "default",
		runnersPath + "?zone=us-east":                                                      "east-1",
		runnersPath + "?connectionStatus=RUNNER_CONNECTION_STATUS_CONNECTED":               "r1",
		runnersPath + "?install_status=RUNNER_INSTALL_STATUS_PENDING&profile=default":      "east-1",
		runnersPath + "?labelSelector=rack":                                                "east-1",
		runnersPath + "?zone=us-east&connection_status=RUNNER_CONNECTION_STATUS_CONNECTED": "",
		runnersPath + "?pageSize=1&profile=default&connectionStatus=2":                     "east-1",
	} {
		a := w.call(w.admin, http.MethodGet, path, nil).want(http.StatusOK)
		var got []string
		for _, key := range []string{"profileTemplates", "runners"} {
			list, _ := a.at(key).([]any)
			for _, v := range list {
				o := v.(object)
				name, _ := o["displayName"].(string)
				if id, ok := o["identity"].(object); ok {
					name, _ = id["runnerId"].(string)
				}
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want || a.text("nextPageToken") != "" {
			t.Errorf("%s: %v, want %q", path, got, want)
		}
	}
	w.call(w.admin, http.MethodGet, profilesPath+"?labelSelector=a%20b", nil).want(http.StatusBadRequest, "label_selector", "Kubernetes")
	w.call(w.admin, http.MethodGet, runnersPath+"?connectionStatus=UP", nil).want(http.StatusBadRequest, "connection_status", "CONNECTED, DISCONNECTED")
	w.call(w.admin, http.MethodGet, runnersPath+"?installStatus=RUNNER_INSTALL_STATUS_PROVISIONING", nil).want(http.StatusBadRequest, "install_status", "no runner is ever")
	w.call(w.admin, http.MethodGet, runnersPath+"?zones=x", nil).want(http.StatusBadRequest, "zones", "zone")
	w.call(w.admin, http.MethodGet, runnersPath+"?profile=nobody", nil).want(http.StatusNotFound, "nobody")
	w.call(w.admin, http.MethodGet, runnersPath+"?pageSize=many", nil).want(http.StatusBadRequest, "page_size", "many")
}
