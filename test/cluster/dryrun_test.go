//go:build cluster

package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"
)

const (
	goldens = "../../internal/backend/kube/testdata/*.txtar"
	// enough is how many goldens end in a pod at the least.
	enough = 20
)

// TestDryRun submits the objects of every golden and expects the API server to take them and to change nothing in them. A
// pod that the runner need not allow specially must also pass Kubernetes' own "baseline" Pod Security Standard, and one that
// it does allow must be refused by it: that is an opinion on our recheck that is not our own.
func TestDryRun(t *testing.T) {
	c := newClient(t)
	paths, err := filepath.Glob(goldens)
	if err != nil {
		t.Fatal(err)
	}
	gatewayAPI(t, c)
	pods := 0
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text := file(archive, "objects.yaml"); text != nil {
			pods++
			// Rules of its own are something that baseline has no room for, either: NET_ADMIN for the container that writes them.
			privileged := bytes.Contains(file(archive, "input.yaml"), []byte("AllowPrivileged: true")) || bytes.Contains(text, []byte("BERM_NODE_ADDRESSES"))
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { submit(t, c, documents(t, text), privileged) })
		}
	}
	if pods < enough {
		t.Errorf("%d goldens end in a pod, want at least %d", pods, enough)
	}
}

// gatewayAPI makes the server know HTTPRoutes.
func gatewayAPI(t *testing.T, c *client) {
	t.Helper()
	dir := os.Getenv("BERM_GATEWAY_API")
	if dir == "" {
		t.Fatal("BERM_GATEWAY_API is not set: test/cluster/dryrun.sh says where the resources of the Gateway API are")
	}
	text, err := os.ReadFile(filepath.Join(dir, "gateway.networking.k8s.io_httproutes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range documents(t, text) {
		if _, err := c.apply(t, o, false); err != nil {
			t.Fatal(err)
		}
	}
	// It is served a moment after it is there.
	for end := time.Now().Add(time.Minute); !c.serves(t, "/apis/gateway.networking.k8s.io/v1/httproutes"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server does not serve HTTPRoutes")
		}
	}
}

// TestStrict shows that the server would have refused: fields and types that it does not know, and what contradicts itself
// or its surroundings.
func TestStrict(t *testing.T) {
	c := newClient(t)
	for name, test := range map[string]struct{ spec, want string }{
		"unknown field":      {`{containers: [{name: main, image: x, imagee: "y"}]}`, "imagee: field not declared"},
		"wrong type":         {`{containers: [{name: main, image: 7}]}`, "expected string"},
		"port twice":         {`{containers: [{name: main, image: x, ports: [{containerPort: 1, protocol: TCP}, {containerPort: 1, protocol: TCP}]}]}`, "duplicate entries"},
		"no such class":      {`{containers: [{name: main, image: x}], runtimeClassName: missing}`, `RuntimeClass "missing" not found`},
		"no such volume":     {`{containers: [{name: main, image: x, volumeMounts: [{name: v, mountPath: /v}]}]}`, "volumeMounts[0].name: Not found"},
		"request over limit": {`{containers: [{name: main, image: x, resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]}`, "must be less than or equal to cpu limit"},
		"not baseline":       {`{containers: [{name: main, image: x}], hostPID: true}`, "violates PodSecurity"},
	} {
		t.Run(name, func(t *testing.T) {
			var spec map[string]any
			if err := yaml.Unmarshal([]byte(test.spec), &spec); err != nil {
				t.Fatal(err)
			}
			pod := object{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p", "namespace": "strict"}, "spec": spec}
			account(t, c, "strict", "default")
			if _, err := c.apply(t, pod, true); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func submit(t *testing.T, c *client, objects []object, privileged bool) {
	pod := objects[len(objects)-1]
	if pod.kind() != "Pod" {
		t.Fatalf("the last object is a %s", pod.kind())
	}
	if objects[0].kind() == "Namespace" {
		takes(t, c, objects[0])
		objects = objects[1:]
	}
	surroundings(t, c, pod)
	if privileged {
		_, err := c.apply(t, pod, true)
		var refused *refusal
		if !errors.As(err, &refused) || refused.status != http.StatusForbidden || !strings.Contains(refused.message, "PodSecurity") {
			t.Errorf("the pod needs permission by our rules, and by Kubernetes' baseline: %v", err)
		}
		namespace(t, c, pod.meta("namespace"), "privileged")
		holds(t, c, pod.meta("namespace"), "privileged")
	}
	for _, o := range objects {
		takes(t, c, o)
	}
}

// takes expects the server to accept an object as it is.
func takes(t *testing.T, c *client, o object) {
	t.Helper()
	got, err := c.apply(t, o, true)
	if err != nil {
		t.Errorf("%s %s: %v", o.kind(), o.meta("name"), err)
		return
	}
	for _, d := range missing(map[string]any(o), map[string]any(got), o.kind()) {
		t.Error(d)
	}
}

// surroundings makes what a pod refers to and what the controllers of a whole cluster would make.
func surroundings(t *testing.T, c *client, pod object) {
	t.Helper()
	spec, _ := pod["spec"].(map[string]any)
	account(t, c, pod.meta("namespace"), "default")
	if name, ok := spec["serviceAccountName"].(string); ok {
		account(t, c, pod.meta("namespace"), name)
	}
	if name, ok := spec["runtimeClassName"].(string); ok {
		c.ensure(t, object{"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": map[string]any{"name": name}, "handler": name})
	}
	if name, ok := spec["priorityClassName"].(string); ok {
		c.ensure(t, object{"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": map[string]any{"name": name}, "value": 1000})
	}
}

// account makes a service account in a namespace that is held to the baseline. Without one the server takes no pod.
func account(t *testing.T, c *client, in, name string) {
	t.Helper()
	namespace(t, c, in, "baseline")
	c.ensure(t, object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": name, "namespace": in}})
	holds(t, c, in, "baseline")
}

// holds waits until the server goes by the level of a namespace: it learns of a label a moment after it was written.
func holds(t *testing.T, c *client, in, level string) {
	t.Helper()
	probe := object{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "probe", "namespace": in},
		"spec": map[string]any{"hostPID": true, "containers": []any{map[string]any{"name": "main", "image": "x"}}}}
	for end := time.Now().Add(requestTimeout); ; time.Sleep(10 * time.Millisecond) {
		_, err := c.apply(t, probe, true)
		if refused := err != nil && strings.Contains(err.Error(), "violates PodSecurity"); refused == (level == "baseline") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("namespace %s is not held to %s: %v", in, level, err)
		}
	}
}

func namespace(t *testing.T, c *client, name, level string) {
	t.Helper()
	c.ensure(t, object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
		"name": name, "labels": map[string]any{"pod-security.kubernetes.io/enforce": level},
	}})
}

// missing lists what of want is not in got. The server adds defaults, appends to lists (tolerations of every pod, for one) and
// drops empty objects.
func missing(want, got any, path string) []string {
	switch want := want.(type) {
	case map[string]any:
		have, _ := got.(map[string]any)
		var out []string
		for key, v := range want {
			if m, ok := v.(map[string]any); ok && len(m) == 0 && have[key] == nil {
				continue
			}
			out = append(out, missing(v, have[key], path+"."+key)...)
		}
		return out
	case []any:
		have, _ := got.([]any)
		if len(have) < len(want) {
			return []string{fmt.Sprintf("%s: sent %d items, the server has %d", path, len(want), len(have))}
		}
		var out []string
		for i := range want {
			out = append(out, missing(want[i], have[i], fmt.Sprintf("%s[%d]", path, i))...)
		}
		return out
	}
	if !reflect.DeepEqual(want, got) {
		return []string{fmt.Sprintf("%s: sent %v, the server has %v", path, want, got)}
	}
	return nil
}

func file(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func documents(t *testing.T, text []byte) []object {
	t.Helper()
	var out []object
	for doc := range bytes.SplitSeq(text, []byte("---\n")) {
		var o object
		if err := yaml.UnmarshalStrict(doc, &o); err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}
