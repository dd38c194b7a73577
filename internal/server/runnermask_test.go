package server_test

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/server"
)

// configuration is what of a runner a caller may write.
func configuration(r *answer) object {
	return object{"displayName": r.at("displayName"), "identity": r.at("identity"), "managedSpec": r.at("managedSpec"), "profileBindings": r.at("profileBindings")}
}

const wholeRunner = `{"displayName": "East", "identity": {"zone": "us-east", "runnerGroupId": "g"},
	"managedSpec": {"releaseChannel": "RELEASE_CHANNEL_RAPID", "allowPrivilegedProfileAnnotations": true, "enforceResourceLimits": true,
		"maintenancePolicy": {"windows": [{"cron": "0 2 * * SAT", "durationSeconds": 3600}], "exclusions": [{"startTime": "2026-12-20T00:00:00Z", "endTime": "2027-01-03T00:00:00Z", "reason": "holidays"}]},
		"overrides": {"cpuRuntimeClass": "gvisor", "gpuRuntimeClass": "nvidia", "resources": {"cpuRequest": "200m"}, "env": {"TZ": "UTC"}, "args": ["--verbose"],
			"tolerations": [{"key": "a", "operator": "Exists"}], "nodeSelector": {"pool": "x"}, "labels": {"team": "ml"}, "annotations": {"a.example/b": "c"}, "scaling": {"replicas": 2}}}}`

// TestRunnerMaskPaths: each path of a mask changes what it names and nothing else, clears it with a body that has nothing there, and each
// change is another etag, none of which a status is.
func TestRunnerMaskPaths(t *testing.T) {
	w := newWorld(t)
	limited := w.call(w.admin, http.MethodPost, profilesPath, `{"profileTemplate": {"displayName": "limited", "spec": {"containerImage": "host", "resourceDefaults": {"cpuLimit": "1", "memoryLimit": "1Gi"}}}}`).want(http.StatusOK)
	binding := `[{"profileTemplateId": "` + limited.text("id") + `", "isDefault": true}]`
	w.call(w.admin, http.MethodPost, runnersPath, `{"runnerId": "east", "runner": {"identity": {"zone": "z", "clusterName": "c"}, "profileBindings": `+binding+`}}`).want(http.StatusOK)
	patch := func(mask, body string) *answer {
		return w.call(w.admin, http.MethodPatch, runnersPath+"/east", `{"runner": `+body+`, "updateMask": "`+mask+`"}`)
	}
	empty := w.call(w.admin, http.MethodGet, runnersPath+"/east", nil).want(http.StatusOK)
	for mask, where := range map[string][]string{
		"display_name": {"displayName"}, "identity.runner_group_id": {"identity", "runnerGroupId"}, "identity.runnerGroupId": {"identity", "runnerGroupId"},
		"managed_spec": {"managedSpec"}, "managedSpec.releaseChannel": {"managedSpec", "releaseChannel"}, "managed_spec.maintenance_policy": {"managedSpec", "maintenancePolicy"},
		"managedSpec.overrides": {"managedSpec", "overrides"}, "managed_spec.allow_privileged_profile_annotations": {"managedSpec", "allowPrivilegedProfileAnnotations"},
		"managed_spec.enforce_resource_limits": {"managedSpec", "enforceResourceLimits"},
	} {
		set := patch(mask, wholeRunner).want(http.StatusOK)
		whole := json2any(t, wholeRunner)
		for _, key := range where {
			whole = whole.(object)[key]
		}
		if got := configuration(set); !covers(inside(got, where), whole) {
			t.Errorf("%s: %s", mask, set.raw)
		}
		if diff := cmp.Diff(without(configuration(empty), where), without(configuration(set), where)); diff != "" {
			t.Errorf("%s changes what it does not name: %s", mask, diff)
		}
		if set.text("etag") == empty.text("etag") {
			t.Errorf("%s: the etag stays", mask)
		}
		if again := patch(mask, wholeRunner).want(http.StatusOK); again.text("etag") != set.text("etag") {
			t.Errorf("%s: the same again is another etag", mask)
		}
		w.call(w.admin, http.MethodPatch, runnersPath+"/east", `{"runner": {"displayName": "x"}, "updateMask": "displayName"}`, "If-Match", empty.text("etag")).want(http.StatusConflict, "ETAG_MISMATCH")
		cleared := patch(mask, `{}`).want(http.StatusOK)
		if diff := cmp.Diff(configuration(empty), configuration(cleared)); diff != "" {
			t.Errorf("%s is not cleared: %s", mask, diff)
		}
		empty = cleared
	}
	zone := patch("identity.zone", wholeRunner).want(http.StatusOK)
	if zone.text("identity", "zone") != "us-east" {
		t.Errorf("%s", zone.raw)
	}
	patch("identity.zone", `{}`).want(http.StatusBadRequest, "identity.zone")
	two := patch("profile_bindings", `{"profileBindings": [{"profileTemplateId": "`+limited.text("id")+`"}, {"profileTemplateId": "`+w.profile+`", "isDefault": true}]}`).want(http.StatusOK)
	if len(two.at("profileBindings").([]any)) != 2 {
		t.Errorf("%s", two.raw)
	}
	patch("profileBindings", `{}`).want(http.StatusBadRequest, "BINDINGS_INVALID")
	for _, output := range []string{"installStatus", "active_revision", "targetRevision", "deployment_spec", "deployment", "managed_spec.overrides.env"} {
		patch(output, wholeRunner).want(http.StatusBadRequest, "MASK_INVALID")
	}
}

func inside(v any, path []string) any {
	for _, key := range path {
		m, _ := v.(object)
		v = m[key]
	}
	return v
}

// without is a copy of a configuration without what is at a path.
func without(o object, path []string) object {
	out := object{}
	for k, v := range o {
		switch m, is := v.(object); {
		case k != path[0]:
			out[k] = v
		case len(path) > 1 && is:
			out[k] = without(m, path[1:])
		}
	}
	return out
}

// covers reports whether everything that is in want is in got: an answer also has what is empty.
func covers(got, want any) bool {
	if list, ok := want.([]any); ok {
		have, _ := got.([]any)
		return slices.EqualFunc(have, list, covers)
	}
	w, ok := want.(object)
	if !ok {
		return cmp.Equal(got, want)
	}
	g, ok := got.(object)
	for k, v := range w {
		ok = ok && covers(g[k], v)
	}
	return ok
}

// TestDeploymentOverREST: what is checked, what is wanted of a process, and what an update answers.
func TestDeploymentOverREST(t *testing.T) {
	set := runner.Deployed(rollout.State{
		Kind: rollout.KindStatefulSet, Version: "0.9", Namespace: "berm", Name: "berm-runner", Image: "r.example/berm:0.9", Gateway: "https://berm.example:7070",
		Installed: rollout.Spec{Image: "r.example/berm:0.9", ServiceAccount: "berm-runner", ImagePullPolicy: "IfNotPresent", Resources: rollout.Resources{CPURequest: "100m"}},
	})
	w := newWorldOver(t, server.Config{Version: "1.2.3"}, func(l runner.Link) runner.Link { return deployed{l, set} })
	patch := func(body string) *answer {
		return w.call(w.admin, http.MethodPatch, runnersPath+"/r1", `{"runner": {"managedSpec": `+body+`}}`)
	}
	patch(`{"overrides": {"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "x"}, "args": ["--gateway=https://evil.example"]}}`).want(http.StatusBadRequest, "managed_spec.overrides.env[OTEL_EXPORTER_OTLP_ENDPOINT]", "managed_spec.overrides.args[0]")
	patch(`{"maintenancePolicy": {"windows": [{"cron": "daily", "durationSeconds": 5}]}}`).want(http.StatusBadRequest, "windows[0].cron", "windows[0].duration_seconds")
	patch(`{"maintenancePolicy": {"windows": [{"cron": "0 2 * * *", "durationSeconds": 600, "zone": "x"}]}}`).want(http.StatusBadRequest, "FIELD_UNKNOWN")
	got := patch(`{"overrides": {"resources": {"memoryLimit": "2Gi"}, "nodeSelector": {"pool": "x"}, "cpuRuntimeClass": "gvisor"}}`).want(http.StatusOK)
	if got.at("targetRevision") != 2.0 || got.at("activeRevision") != 1.0 || got.at("rolloutInProgress") != true || got.text("activeConfigVersion") != "0.9" {
		t.Errorf("%s", got.raw)
	}
	same(t, "spec", got.at("deploymentSpec"), `{"image": "r.example/berm:0.9", "serviceAccount": "berm-runner", "imagePullPolicy": "IfNotPresent", "gatewayServer": "https://berm.example:7070",
		"resources": {"cpuRequest": "100m", "memoryRequest": "", "cpuLimit": "", "memoryLimit": "2Gi"}, "nodeSelector": {"pool": "x"}, "cpuRuntimeClass": "gvisor", "gpuRuntimeClass": "",
		"scaling": {"replicas": 1, "autoscalingEnabled": false, "minReplicas": 0, "maxReplicas": 0}, "env": {}, "args": [], "tolerations": [], "annotations": {}, "labels": {}}`)
	if len(got.at("warnings").([]any)) != 4 || got.at("deployment", "selfUpdate") != false {
		t.Errorf("%s", got.raw)
	}
	w.call(w.admin, http.MethodPost, runnersPath+"/r1:apply-update", `{}`).want(http.StatusBadRequest, "UPDATE_NOT_AVAILABLE") // no release is known
	w.call(w.user, http.MethodPost, runnersPath+"/r1:apply-update", `{}`).want(http.StatusForbidden)
}

// deployed is a runner that is deployed in another way.
type deployed struct {
	runner.Link
	is runner.Deployment
}

func (d deployed) Deployment() rollout.State { return d.is.State() }

func (d deployed) SetDeployment(ctx context.Context, w rollout.Wanted) error {
	return d.is.Want(ctx, w)
}
