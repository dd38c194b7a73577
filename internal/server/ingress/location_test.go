package ingress

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestLocation: where an answer may send a caller, who takes his token along.
func TestLocation(t *testing.T) {
	const mount = "/berm/v1/sandboxes/s1/ports/80"
	path := &target{id: "s1", port: 80, mount: mount, path: "/dir/page"}
	host := &target{id: "s1", port: 80, path: "/dir/page"}
	for _, tt := range []struct {
		to         *target
		header, at string
		want       string // "" where it is taken away
	}{
		{path, "Authorization", "/login?a=1#b", mount + "/login?a=1#b"},
		{path, "Authorization", "/", mount + "/"},
		{path, "Authorization", "other", mount + "/dir/other"},
		{path, "Authorization", "../up", mount + "/up"},
		{path, "Authorization", "?q", mount + "/dir/page?q"},
		{path, "Authorization", "/a%2Fb", mount + "/a%2Fb"},
		{path, "Authorization", "http://localhost:80/own", mount + "/own"},
		{path, "Authorization", "http://elsewhere.example/x", "http://elsewhere.example/x"},
		{path, "Authorization", "//elsewhere.example/x", "//elsewhere.example/x"},
		{path, TokenHeader, "/login", mount + "/login"},

		{path, "Authorization", "/../../../../../../v1beta2/sandboxes/x/stop", ""},
		{path, "Authorization", "../../../../../v1beta2/sandboxes", ""},
		{path, "Authorization", "/%2e%2E/%2e./.%2e/x", ""},
		{path, "Authorization", `/..\..\..\x`, ""},
		{path, "Authorization", "../../81/x", ""},
		{path, "Authorization", "http://gw.example:7070/v1beta2/sandboxes", ""},
		{path, "Authorization", "https://GW.example/v1beta2/sandboxes", ""},
		{path, "Authorization", "//gw.example:7070/x", ""},
		{path, "Authorization", `\\gw.example:7070/x`, ""},
		{path, "Authorization", `/\..\..\livez`, ""},
		{path, "Authorization", "http:/x", ""},
		{path, "Authorization", "http:x", ""},
		{path, "Authorization", "javascript:alert(1)", ""},
		{path, "Authorization", "http://u:p@elsewhere.example/", ""},
		{path, "Authorization", "/a b%zz", ""},
		{path, TokenHeader, "http://elsewhere.example/x", ""},

		{host, "Authorization", "/login", "/login"},
		{host, "Authorization", "http://elsewhere.example/x", "http://elsewhere.example/x"},
		{host, TokenHeader, "/login", "/login"},
		{host, TokenHeader, "http://gw.example:7070/x", "http://gw.example:7070/x"}, // its own host
		{host, TokenHeader, "http://elsewhere.example/x", ""},
		{host, TokenHeader, "//elsewhere.example/x", ""},
	} {
		in := httptest.NewRequest(http.MethodGet, "http://gw.example:7070/", nil)
		h := http.Header{"Location": {tt.at}}
		redirect(h, in, tt.to, credential{name: tt.header})
		if got := h.Get("Location"); got != tt.want || tt.want == "" && len(h) > 0 {
			t.Errorf("%q with %s at mount %q: %q, want %q", tt.at, tt.header, tt.to.mount, got, tt.want)
		}
	}
}

// TestTunnels: what is asked for between a caller and a program is never another version of HTTP.
func TestTunnels(t *testing.T) {
	for value, want := range map[string]bool{
		"websocket": true, "echo": true, "": false, "h2c": false, "H2C": false, "HTTP/2.0": false, "TLS/1.3": false, "websocket, h2c": false, " h2c ,x": false,
	} {
		if got := tunnels(http.Header{"Upgrade": {value}}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}
