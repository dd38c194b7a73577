package kube

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/backend"
)

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}

// TestComparePods has every kind of difference, with whom the cluster names for it.
func TestComparePods(t *testing.T) {
	submitted := object(t, `{"apiVersion": "v1", "kind": "Pod",
		"metadata": {"name": "p", "labels": {"app": "a", "gone": "x"}, "annotations": {"note": "n"}},
		"spec": {
			"containers": [{"name": "main", "image": "a:1", "args": ["x", "y"], "env": [{"name": "TOKEN", "value": "(withheld)"}, {"name": "LOST", "value": "1"}],
				"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}, "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}],
			"tolerations": [{"key": "gpu", "operator": "Exists"}],
			"automountServiceAccountToken": false}}`)
	held := object(t, `{"metadata": {"name": "p", "uid": "u", "labels": {"app": "b"},
			"annotations": {"note": "n", "berm.dev/submitted": "z", "berm.dev/submitted-at": "z", "berm.dev/traceparent": "z", "seen": "yes"},
			"managedFields": [
				{"manager": "berm", "operation": "Apply", "time": "2026-01-01T00:00:00Z", "fieldsV1": {
					"f:metadata": {"f:labels": {"f:app": {}}},
					"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {}}}}}},
				{"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1": {
					"f:metadata": {"f:labels": {"f:app": {}}, "f:annotations": {"f:seen": {}}}}},
				{"manager": "kubelet", "operation": "Update", "subresource": "status", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:spec": {"f:containers": {}}}}]},
		"spec": {
			"containers": [
				{"name": "main", "image": "mirror/a:1", "args": ["y", "x"], "imagePullPolicy": "IfNotPresent", "env": [{"name": "TOKEN", "value": "s3cret"}],
					"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "2Gi"}}, "terminationMessagePath": "/dev/termination-log",
					"volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "readOnly": true}]},
				{"name": "sidecar", "image": "s"}],
			"tolerations": [{"key": "gpu", "operator": "Exists"},
				{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
				{"key": "spot", "operator": "Exists"}],
			"nodeName": "n1", "dnsPolicy": "Default", "securityContext": {}, "automountServiceAccountToken": false}}`)
	d := comparePods(submitted, held).drift()
	var lines []string
	for _, f := range d.Fields {
		line := fmt.Sprintf("%s %s %s -> %s", f.Kind, f.Path, f.Submitted, f.Held)
		if f.Filled {
			line += " filled"
		}
		if f.By != "" {
			line += " by " + f.By + f.At.Format(" 01-02")
		}
		lines = append(lines, line)
	}
	want := `added metadata.annotations.seen  -> "yes" by kubectl-edit 01-02
changed metadata.labels.app "a" -> "b" by kubectl-edit 01-02
removed metadata.labels.gone "x" -> 
changed spec.containers[main].args ["x","y"] -> ["y","x"] by berm 01-01
removed spec.containers[main].env[LOST] {"name":"LOST","value":"1"} -> 
changed spec.containers[main].image "a:1" -> "mirror/a:1" by berm 01-01
added spec.containers[main].imagePullPolicy  -> "IfNotPresent" filled
added spec.containers[main].resources.requests.cpu  -> "1" filled
added spec.containers[main].resources.requests.memory  -> "2Gi"
added spec.containers[main].terminationMessagePath  -> "/dev/termination-log" filled
added spec.containers[main].volumeMounts[/tmp].readOnly  -> true
added spec.containers[sidecar]  -> {"image":"s","name":"sidecar"}
added spec.dnsPolicy  -> "Default"
added spec.nodeName  -> "n1" filled
added spec.securityContext  -> {} filled
added spec.tolerations[]  -> {"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300} filled
added spec.tolerations[]  -> {"key":"spot","operator":"Exists"}`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if same := comparePods(submitted, submitted).drift(); len(same.Fields) != 0 {
		t.Errorf("nothing differs, and told are %+v", same.Fields)
	}
}

// TestComparePodsLimit: an object with too many differences is told in part, and says so; one that is no pod is no reason to fail.
func TestComparePodsLimit(t *testing.T) {
	labels := map[string]any{}
	for i := range backend.MaxDrift + 7 {
		labels[fmt.Sprint("l", i)] = "x"
	}
	if d := comparePods(map[string]any{}, map[string]any{"metadata": map[string]any{"labels": labels}}).drift(); len(d.Fields) != backend.MaxDrift || d.Omitted != 7 {
		t.Errorf("%d fields, %d omitted", len(d.Fields), d.Omitted)
	}
	for _, text := range []string{`{"spec": []}`, `{"spec": {"containers": [1]}}`, `{"spec": {"containers": [[{}]]}}`, `{"metadata": {"managedFields": 3, "labels": "x"}}`} {
		if d := comparePods(map[string]any{}, object(t, text)).drift(); text[2] == 's' && len(d.Fields) == 0 {
			t.Errorf("%s: nothing differs", text)
		}
	}
}
