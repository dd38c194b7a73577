package selfupdate_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// cluster is an API server with one StatefulSet and the pods of one namespace, as far as a runner that updates itself sees it.
type cluster struct {
	t *testing.T
	// chart is the StatefulSet as it was installed; applied is what the runner applied last.
	mu      sync.Mutex
	chart   map[string]any
	applied map[string]any
	pods    map[string]map[string]any
	made    []map[string]any
	// fate is the status of a pod that is made; forbid refuses to change the StatefulSet.
	fate   map[string]any
	forbid bool
}

const setPath = "/apis/apps/v1/namespaces/berm/statefulsets/berm-runner"

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const pods = "/api/v1/namespaces/berm/pods"
	switch {
	case r.URL.Path == setPath && r.Method == http.MethodGet:
		reply(w, 200, c.set())
	case r.URL.Path == setPath && r.Method == http.MethodPatch && c.forbid:
		refuse(w, 403, "Forbidden", "statefulsets.apps is forbidden")
	case r.URL.Path == setPath && r.Method == http.MethodPatch:
		if r.Header.Get("Content-Type") != "application/apply-patch+yaml" || r.URL.Query().Get("fieldManager") == "" {
			c.t.Errorf("%s %v", r.Header.Get("Content-Type"), r.URL)
		}
		c.applied = body(c.t, r)
		reply(w, 200, c.set())
	case r.URL.Path == pods && r.Method == http.MethodPost:
		c.create(w, body(c.t, r))
	case r.URL.Path == pods && r.Method == http.MethodGet:
		name := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
		items := []any{}
		if pod, ok := c.pods[name]; ok {
			items = append(items, pod)
		}
		reply(w, 200, map[string]any{"apiVersion": "v1", "kind": "PodList", "items": items})
	case strings.HasPrefix(r.URL.Path, pods+"/") && r.Method == http.MethodDelete:
		name := strings.TrimPrefix(r.URL.Path, pods+"/")
		if _, ok := c.pods[name]; !ok {
			refuse(w, 404, "NotFound", "no pod "+name)
			return
		}
		delete(c.pods, name)
		reply(w, 200, map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Success"})
	default:
		refuse(w, 403, "Forbidden", r.Method+" "+r.URL.Path+" is not what a runner may do")
	}
}

func (c *cluster) create(w http.ResponseWriter, pod map[string]any) {
	name, _ := pod["metadata"].(map[string]any)["name"].(string)
	if _, ok := c.pods[name]; ok {
		refuse(w, 409, "AlreadyExists", name)
		return
	}
	c.made = append(c.made, pod)
	held := maps.Clone(pod)
	held["status"] = c.fate
	c.pods[name] = held
	reply(w, 201, held)
}

// set is the StatefulSet as it is: what the chart says, and over it what was applied.
func (c *cluster) set() map[string]any {
	return merge(c.chart, c.applied).(map[string]any)
}

// merge is what server-side apply makes of maps, and of lists whose entries have names.
func merge(a, b any) any {
	switch b := b.(type) {
	case map[string]any:
		old, _ := a.(map[string]any)
		out := maps.Clone(old)
		if out == nil {
			out = map[string]any{}
		}
		for k, v := range b {
			if k == "nodeSelector" { // atomic
				out[k] = v
				continue
			}
			out[k] = merge(out[k], v)
		}
		return out
	case []any:
		old, _ := a.([]any)
		named := func(v any) any { m, _ := v.(map[string]any); return m["name"] }
		if len(b) == 0 || named(b[0]) == nil {
			return b
		}
		out := append([]any{}, old...)
	next:
		for _, v := range b {
			for i := range out {
				if named(out[i]) == named(v) {
					out[i] = merge(out[i], v)
					continue next
				}
			}
			out = append(out, v)
		}
		return out
	case nil:
		return a
	}
	return b
}

func body(t *testing.T, r *http.Request) (out map[string]any) {
	if err := json.NewDecoder(r.Body).Decode(&out); err != nil {
		t.Error(err)
	}
	return out
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	reply(w, code, map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message})
}

// client is one of a cluster.
func (c *cluster) client() rest.Interface {
	s := httptest.NewServer(c)
	c.t.Cleanup(s.Close)
	scheme := runtime.NewScheme()
	client, err := rest.RESTClientFor(&rest.Config{Host: s.URL, APIPath: "/api", QPS: 1000, Burst: 1000, ContentConfig: rest.ContentConfig{
		GroupVersion: &schema.GroupVersion{Version: "v1"}, NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}
