package kube

import (
	"net/http"
	"net/url"
	"testing"

	"k8s.io/client-go/rest"
)

// TestDirect: the API server that a cluster gives its pods is reached without the proxy of the environment; any other as that says.
func TestDirect(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	t.Setenv("https_proxy", "")
	named := func(*http.Request) (*url.URL, error) { return url.Parse("http://named.example") }
	for name, tt := range map[string]struct {
		proxy string
		cfg   rest.Config
		want  string
	}{
		"no proxy":     {"", rest.Config{Host: "https://10.96.0.1:443"}, "as the environment says"},
		"a proxy":      {"http://proxy.example", rest.Config{Host: "https://10.96.0.1:443"}, "none"},
		"elsewhere":    {"http://proxy.example", rest.Config{Host: "https://api.example:6443"}, "as the environment says"},
		"its own file": {"http://proxy.example", rest.Config{Host: "https://10.96.0.1:443", Proxy: named}, "http://named.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", tt.proxy)
			direct(&tt.cfg)
			got := "as the environment says"
			if tt.cfg.Proxy != nil {
				u, err := tt.cfg.Proxy(nil)
				if err != nil {
					t.Fatal(err)
				}
				if got = "none"; u != nil {
					got = u.String()
				}
			}
			if got != tt.want {
				t.Errorf("%s, not %s", got, tt.want)
			}
		})
	}
}
