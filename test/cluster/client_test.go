//go:build cluster

package cluster

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// requestTimeout bounds one call, so that a server that hangs fails the test.
const requestTimeout = 20 * time.Second

// client speaks to the API server of $KUBECONFIG with plain HTTP. What is tested is what goes over the wire, so that no
// client library may round it off.
type client struct {
	url, token string
	http       *http.Client
}

func newClient(t *testing.T) *client {
	t.Helper()
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     string `json:"certificate-authority"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Token string `json:"token"`
			} `json:"user"`
		} `json:"users"`
	}
	path := os.Getenv("KUBECONFIG")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("KUBECONFIG=%q: %v (dryrun.sh starts a server and sets it)", path, err)
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Clusters) != 1 || len(config.Users) != 1 {
		t.Fatalf("%s does not name one cluster and one user", path)
	}
	ca, err := os.ReadFile(config.Clusters[0].Cluster.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("%s has no certificate", config.Clusters[0].Cluster.CA)
	}
	return &client{
		url: config.Clusters[0].Cluster.Server, token: config.Users[0].User.Token,
		http: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
	}
}

// object is a Kubernetes object as JSON.
type object map[string]any

func (o object) kind() string { s, _ := o["kind"].(string); return s }

func (o object) meta(key string) string {
	m, _ := o["metadata"].(map[string]any)
	s, _ := m[key].(string)
	return s
}

// path is where the API server keeps an object.
func (o object) path(t *testing.T) string {
	t.Helper()
	switch o.kind() {
	case "Namespace":
		return "/api/v1/namespaces/" + o.meta("name")
	case "Pod", "Secret", "Service", "ServiceAccount", "ResourceQuota":
		plural := map[string]string{"Pod": "pods", "Secret": "secrets", "Service": "services", "ServiceAccount": "serviceaccounts", "ResourceQuota": "resourcequotas"}[o.kind()]
		return "/api/v1/namespaces/" + o.meta("namespace") + "/" + plural + "/" + o.meta("name")
	case "NetworkPolicy":
		return "/apis/networking.k8s.io/v1/namespaces/" + o.meta("namespace") + "/networkpolicies/" + o.meta("name")
	case "Ingress":
		return "/apis/networking.k8s.io/v1/namespaces/" + o.meta("namespace") + "/ingresses/" + o.meta("name")
	case "HTTPRoute":
		return "/apis/gateway.networking.k8s.io/v1/namespaces/" + o.meta("namespace") + "/httproutes/" + o.meta("name")
	case "CustomResourceDefinition":
		return "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/" + o.meta("name")
	case "RuntimeClass":
		return "/apis/node.k8s.io/v1/runtimeclasses/" + o.meta("name")
	case "PriorityClass":
		return "/apis/scheduling.k8s.io/v1/priorityclasses/" + o.meta("name")
	}
	t.Fatalf("no path for a %s", o.kind())
	return ""
}

// apply does a server-side apply with strict validation: unknown and duplicate fields are errors. A dry run goes through
// everything but the write.
func (c *client) apply(t *testing.T, o object, dry bool) (object, error) {
	t.Helper()
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	query := "?fieldManager=berm&fieldValidation=Strict&force=true"
	if dry {
		query += "&dryRun=All"
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, c.url+o.path(t)+query, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/apply-patch+yaml")
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out object
	if err := json.Unmarshal(answer, &out); err != nil {
		t.Fatalf("%s: %q", resp.Status, answer)
	}
	if resp.StatusCode >= 300 {
		return nil, &refusal{resp.StatusCode, fmt.Sprint(out["message"])}
	}
	return out, nil
}

// serves reports whether there is something at a path.
func (c *client) serves(t *testing.T, path string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// refusal is an answer other than success.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d: %s", r.status, r.message) }

// ensure makes an object exist.
func (c *client) ensure(t *testing.T, o object) {
	t.Helper()
	if _, err := c.apply(t, o, false); err != nil {
		t.Fatalf("%s %s: %v", o.kind(), o.meta("name"), err)
	}
}
