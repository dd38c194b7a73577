package rollout_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

func overrides(t *testing.T, text string) rollout.Overrides {
	t.Helper()
	o, err := rollout.ParseOverrides(text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

const full = `{"nodeSelector":{"pool":"runners"},"tolerations":[{"key":"dedicated","operator":"Equal","value":"berm","effect":"NoSchedule"},{"operator":"Exists"}],
	"resources":{"cpuRequest":"200m","memoryRequest":"256Mi","cpuLimit":"1","memoryLimit":"1Gi"},"annotations":{"prometheus.io/scrape":"true"},"labels":{"team":"ml"},
	"env":{"HTTPS_PROXY":"http://proxy.example:3128","no_proxy":".svc","GOMEMLIMIT":"1GiB","TZ":"UTC"},"args":["--log-format=text","--verbose"],"scaling":{"replicas":1}}`

// TestIdentify: another runner, image or override is another deployment; what deploys nothing is not.
func TestIdentify(t *testing.T) {
	w := rollout.Wanted{Revision: 2, Image: "a:1", Overrides: overrides(t, full)}
	one := w.Identify("runner-1").Identity
	if w.Overrides.Scaling.Replicas = 0; w.Identify("runner-1").Identity != one {
		t.Error("scaling makes another deployment")
	}
	other := w
	other.Image = "a:2"
	third := w
	third.Overrides.Args = nil
	for _, id := range []string{w.Identify("runner-2").Identity, other.Identify("runner-1").Identity, third.Identify("runner-1").Identity} {
		if id == one || rollout.IdentityOf(2, id) != id || rollout.IdentityOf(20, id) != "" || rollout.IdentityOf(1, id) != "" {
			t.Error(id)
		}
	}
}

func TestOverridesRefuse(t *testing.T) {
	for text, want := range map[string][2]string{
		`{"env":{"BERM_RUNNER_TOKEN":"x"}}`:                                                    {"o.env[BERM_RUNNER_TOKEN]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"berm_runner_args":"x"}}`:                                                     {"o.env[berm_runner_args]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"SSL_CERT_FILE":"x"}}`:                                                        {"o.env[SSL_CERT_FILE]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"LD_PRELOAD":"x"}}`:                                                           {"o.env[LD_PRELOAD]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"KUBERNETES_SERVICE_HOST":"x"}}`:                                              {"o.env[KUBERNETES_SERVICE_HOST]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"OTEL_EXPORTER_OTLP_ENDPOINT":"x"}}`:                                          {"o.env[OTEL_EXPORTER_OTLP_ENDPOINT]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"OTEL_EXPORTER_OTLP_CLIENT_KEY":"x"}}`:                                        {"o.env[OTEL_EXPORTER_OTLP_CLIENT_KEY]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"GRPC_GO_LOG_SEVERITY_LEVEL":"x"}}`:                                           {"o.env[GRPC_GO_LOG_SEVERITY_LEVEL]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"GRPC_XDS_BOOTSTRAP":"x"}}`:                                                   {"o.env[GRPC_XDS_BOOTSTRAP]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"AWS_SHARED_CREDENTIALS_FILE":"x"}}`:                                          {"o.env[AWS_SHARED_CREDENTIALS_FILE]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"GOOGLE_APPLICATION_CREDENTIALS":"x"}}`:                                       {"o.env[GOOGLE_APPLICATION_CREDENTIALS]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"Http_Proxy":"x"}}`:                                                           {"o.env[Http_Proxy]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"gogc":"x"}}`:                                                                 {"o.env[gogc]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"A.B":"x"}}`:                                                                  {"o.env[A.B]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"env":{"A B":"x"}}`:                                                                  {"o.env[A B]", "cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY"},
		`{"args":["--gateway=https://evil.example"]}`:                                          {"o.args[0]", "cannot be given"},
		`{"args":["--verbose","--guardrails=/dev/null"]}`:                                      {"o.args[1]", "cannot be given"},
		`{"args":["--kube-allow-privileged"]}`:                                                 {"o.args[0]", "cannot be given"},
		`{"args":["--kube-network=recorded"]}`:                                                 {"o.args[0]", "cannot be given"},
		`{"args":["--log-format","json"]}`:                                                     {"o.args[1]", "cannot be given"},
		`{"labels":{"app.kubernetes.io/name":"x"}}`:                                            {"o.labels[app.kubernetes.io/name]", "Kubernetes'"},
		`{"annotations":{"berm.dev/deployment-revision":"9"}}`:                                 {"o.annotations[berm.dev/deployment-revision]", "is of berm.dev/"},
		`{"annotations":{"container.apparmor.security.beta.kubernetes.io/berm":"unconfined"}}`: {"o.annotations[container.apparmor.security.beta.kubernetes.io/berm]", "such as team"},
		`{"labels":{"a":"no value!"}}`:                                                         {"o.labels[a]", "no value of a label"},
		`{"nodeSelector":{"-":"x"}}`:                                                           {"o.node_selector[-]", "is no key"},
		`{"resources":{"cpuRequest":"lots"}}`:                                                  {"o.resources.cpu_request", "no positive quantity"},
		`{"resources":{"memoryLimit":"-1Gi"}}`:                                                 {"o.resources.memory_limit", "no positive quantity"},
		`{"resources":{"cpuRequest":"2","cpuLimit":"1"}}`:                                      {"o.resources.cpu_request", "more than the limit"},
		`{"tolerations":[{"operator":"Maybe","key":"a"}]}`:                                     {"o.tolerations[0].operator", "none of Equal, Exists"},
		`{"tolerations":[{"operator":"Equal"}]}`:                                               {"o.tolerations[0].key", "must be given"},
		`{"tolerations":[{"operator":"Exists","key":"a","value":"b"}]}`:                        {"o.tolerations[0].value", "is for the operator Equal"},
		`{"tolerations":[{"key":"a","effect":"NoLuck"}]}`:                                      {"o.tolerations[0].effect", "none of"},
		`{"scaling":{"replicas":-1}}`:                                                          {"o.scaling.replicas", "not from 0"},
		`{"scaling":{"minReplicas":3,"maxReplicas":2}}`:                                        {"o.scaling.min_replicas", "more than max_replicas"},
		`{"scaling":{"autoscalingEnabled":true,"replicas":2}}`:                                 {"o.scaling.replicas", "without autoscaling"},
		`{"env":{"TZ":"` + strings.Repeat("x", rollout.MaxValue+1) + `"}}`:                     {"o.env[TZ]", "more than 4096"},
	} {
		o := overrides(t, text)
		e := fault.Invalidf("X", "x")
		o.Check(e, "o")
		if len(e.Fields) != 1 || e.Fields[0].Path != want[0] || !strings.Contains(e.Fields[0].Description, want[1]) {
			t.Errorf("%.100s: %+v", text, e.Fields)
		}
	}
	o := overrides(t, full)
	e := fault.Invalidf("X", "x")
	if o.Check(e, "o"); len(e.Fields) > 0 {
		t.Errorf("%+v", e.Fields)
	}
}

// TestResolve: a selector and tolerations replace what was installed, amounts one by one; without overrides all of it is back.
func TestResolve(t *testing.T) {
	installed := rollout.Spec{
		Image: "r/berm:1", NodeSelector: map[string]string{"zone": "a"}, Tolerations: []rollout.Toleration{{Key: "old"}},
		Resources: rollout.Resources{CPURequest: "100m", MemoryLimit: "1Gi"}, ServiceAccount: "berm-runner",
	}
	w := rollout.Wanted{Revision: 2, Image: "r/berm:2", Overrides: overrides(t, `{"nodeSelector":{"pool":"x"},"resources":{"cpuRequest":"1"},"env":{"A":"b"}}`)}
	want := rollout.Spec{
		Image: "r/berm:2", NodeSelector: map[string]string{"pool": "x"}, Tolerations: installed.Tolerations, Env: map[string]string{"A": "b"},
		Resources: rollout.Resources{CPURequest: "1", MemoryLimit: "1Gi"}, ServiceAccount: "berm-runner",
	}
	if diff := cmp.Diff(want, rollout.Resolve(installed, w)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(installed, rollout.Resolve(installed, rollout.Wanted{Revision: 3})); diff != "" {
		t.Error(diff)
	}
}

func TestOverridesAsText(t *testing.T) {
	o := overrides(t, full)
	if diff := cmp.Diff(o, overrides(t, o.JSON())); diff != "" {
		t.Error(diff)
	}
	if want := []string{"node_selector", "tolerations", "resources", "annotations", "labels", "env", "args"}; !cmp.Equal(o.Deployed(), want) {
		t.Error(o.Deployed())
	}
	none := overrides(t, `{"scaling":{"autoscalingEnabled":true,"minReplicas":1,"maxReplicas":5}}`)
	if len(none.Deployed()) != 0 || !strings.Contains(none.Ignored(), "scaling") || (&rollout.Overrides{}).JSON() != "" {
		t.Errorf("%v %q", none.Deployed(), none.Ignored())
	}
}

func TestTakes(t *testing.T) {
	of := []string{"registry.example/team/berm"}
	for image, want := range map[string]bool{
		"registry.example/team/berm:2": true, "registry.example/team/berm@sha256:00": true, "registry.example/team/berm:2@sha256:00": true,
		"registry.example/team/berm": false, "registry.example/team/bermuda:2": false, "registry.example/team/berm:5000/evil:1": false,
		"registry.example/team/berm/x:2": false, "evil.example/registry.example/team/berm:2": false, "": false,
	} {
		if got := rollout.Takes(of, image); got != want {
			t.Errorf("%q: %t", image, got)
		}
	}
	if rollout.Takes([]string{""}, ":2") {
		t.Error("no repository takes everything")
	}
}
