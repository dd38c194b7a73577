package registry

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestConfig: what makes no sense is refused before anything is pulled.
func TestConfig(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no host":         {Hosts: map[string]Host{"https://x": {}}},
		"a path":          {Hosts: map[string]Host{"registry.example/team": {}}},
		"twice":           {Hosts: map[string]Host{"docker.io": {}, "index.docker.io": {}}},
		"many downloads":  {Hosts: map[string]Host{"a.example": {MaxDownloads: MaxDownloads + 1}}},
		"too slow":        {Hosts: map[string]Host{"a.example": {BytesPerSecond: 1}}},
		"no CA":           {Hosts: map[string]Host{"a.example": {CAFile: "/no/such/file"}}},
		"an empty CA":     {Hosts: map[string]Host{"a.example": {CAFile: writeFile(t, "x")}}},
		"allows a path":   {Allow: []string{"a.example/team"}},
		"allows nonsense": {Allow: []string{"*.*"}},
	} {
		if _, err := New(cfg); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := New(Config{Allow: []string{"docker.io", "*.example", "registry.internal:5000"}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"index.docker.io": true, "a.example": true, "a.b.example": true, "A.EXAMPLE": true, "registry.internal:5000": true,
		"example": false, "evilexample": false, "a.example.evil": false, "registry.internal": false, "registry.internal:5001": false, "ghcr.io": false, "a.example:444": false,
	} {
		if err := c.Allowed(host); (err == nil) != want {
			t.Errorf("%s: %v", host, err)
		}
	}
	none, err := New(Config{Allow: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Allowed("index.docker.io"); !strings.Contains(fmt.Sprint(err), "from no registry") {
		t.Errorf("%v", err)
	}
}

// TestTLS: a certificate that nobody vouches for is refused; with its authority listed it is trusted.
func TestTLS(t *testing.T) {
	l := imagetest.New(t)
	l.Add(imagetest.Image{Name: "v1", Layers: [][]byte{imagetest.Tar(t)}})
	r, ca := imagetest.ServeTLS(t)
	r.Push("team/tool", l)
	for file, ok := range map[string]bool{"": false, writeFile(t, string(ca)): true} {
		c, err := New(Config{Hosts: map[string]Host{r.Host: {Private: true, CAFile: file}}, Limits: quick()})
		if err != nil {
			t.Fatal(err)
		}
		repo, err := repository(r.Host + "/team/tool")
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Open(t.Context(), repo)
		if (err == nil) != ok || !ok && !strings.Contains(err.Error(), "certificate") {
			t.Errorf("with the authority %q: %v", file, err)
		}
		c.Close()
	}
}

// TestNoProxy: a proxy of the environment is not used, since it would hide which address is connected to.
func TestNoProxy(t *testing.T) {
	tr, err := (&Client{}).transport(Host{})
	if err != nil {
		t.Fatal(err)
	}
	if tr.Proxy != nil {
		if u, err := tr.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: "a.example"}}); err != nil || u != nil {
			t.Errorf("%v %v", u, err)
		}
	}
}
