package library

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// until waits for something that another goroutine does.
func (w *world) until(ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("it does not happen")
		}
	}
}

// TestAliases: spellings of one reference are one; a runner's own alias counts before the zone's.
func TestAliases(t *testing.T) {
	w := newWorld(t)
	layout := imagetest.New(t)
	d := layout.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("l", "x"))}, Config: v1.Config{Cmd: []string{"/l"}}})
	w.cfg.Names, _ = ParseNames("runner r1", map[string]string{
		"python:3.11": "oci:" + layout.Dir, "ubuntu:24.04": "host", "tool": w.ref(":v1"),
	}, nil, true)
	zone, err := ParseNames("zone eu", map[string]string{"tool": "host", "zoned": w.ref(":v1")}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	l := w.open()
	for _, ref := range []string{"python:3.11", "docker.io/library/python:3.11", "index.docker.io/library/python:3.11", "python@" + d.Digest.String()} {
		f, err := l.Find(ref, zone)
		if err != nil || f.Image == nil || f.Image.Digest != d.Digest.String() || !f.Layout || f.Alias.Owner != "runner r1" {
			t.Errorf("%s: %+v %v", ref, f, err)
		}
	}
	if f, err := l.Find("ubuntu:24.04", zone); err != nil || !f.Host || f.Alias.Given != "ubuntu:24.04" {
		t.Errorf("%+v %v", f, err)
	}
	for ref, owner := range map[string]string{"tool": "runner r1", "zoned": "zone eu"} {
		g, err := l.Get(t.Context(), Request{Ref: ref, Extra: zone})
		if err != nil || g.Alias.Owner != owner || g.Image.Digest != w.top.Digest.String() {
			t.Errorf("%s: %+v %v", ref, g, err)
		}
	}
	for _, ref := range []string{"python", "python:3.12", "evil.example/library/python:3.11"} {
		if f, err := l.Find(ref, zone); !fault.HasReason(err, fault.ReasonImagePullFailed) {
			t.Errorf("%s: %+v %v", ref, f, err)
		}
	}
	for _, ref := range []string{"UPPER CASE", "a b", "x@sha256:short", strings.Repeat("x", 300)} {
		if _, err := l.Find(ref, zone); !fault.HasReason(err, fault.ReasonImageInvalid) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestNameErrors(t *testing.T) {
	many := map[string]string{}
	for i := range image.MaxAliases + 1 {
		many[strings.Repeat("a", i+1)] = "host"
	}
	for name, in := range map[string]map[string]string{
		"relative": {"a": "oci:relative"}, "no reference": {"A B": "host"}, "scheme": {"a": "docker://a"}, "nothing": {"a": ""},
		"a digest": {"a@sha256:" + strings.Repeat("a", 64): "host"}, "twice": {"a": "host", "docker.io/library/a:latest": "host"},
		"the built-in name": {"host": "oci:/srv/a"}, "too many": many,
	} {
		if _, err := ParseNames("x", in, nil, true); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseNames("zone z", map[string]string{"a": "oci:/etc"}, nil, false); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "--image-alias") {
		t.Errorf("a zone names a directory of the machine: %v", err)
	}
	for _, m := range []string{"https://m.example", "", "m.example//x", "UPPER.example/PATH", "-"} {
		if _, err := ParseNames("x", nil, map[string][]string{"docker.io": {m}}, true); !fault.Is(err, fault.Invalid) {
			t.Errorf("mirror %q: %v", m, err)
		}
	}
}

// TestMirrors: they are asked in their order and before the registry, which a sealed one never is. A mirror that lies or fails is passed over,
// and what all said is in the error.
func TestMirrors(t *testing.T) {
	w := newWorld(t)
	second := imagetest.Serve(t)
	second.Push("hub/team/tool", w.l)
	hosts := "registries:\n  " + w.reg.Host + ": {private: true, insecure: true}\n  " + second.Host + ": {private: true, insecure: true}\n"
	upstream := hosts + "  up.example: {mirrors: [" + w.reg.Host + "/none, " + second.Host + "/hub], mirrors_only: true}\n"
	dir := w.cfg.Dir
	w.cfg = w.file(upstream)
	w.cfg.Dir = dir
	l := w.open()
	g := w.get(l, "up.example/team/tool:v1")
	if g.Source != "mirror "+second.Host+"/hub" || g.From != g.Source || g.Image.Digest != w.top.Digest.String() {
		t.Errorf("%+v", g)
	}
	if seen := w.reg.Seen("/none/team/tool/manifests"); len(seen) == 0 {
		t.Error("the first mirror was not asked")
	}
	// By digest a mirror cannot give anything else.
	second.Wrap(func(real http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			r.URL.Path = strings.Replace(r.URL.Path, strings.Repeat("e", 64), w.top.Digest.Hex, 1)
			r.URL.Path = strings.Replace(r.URL.Path, "sha256:"+w.top.Digest.Hex, "v1", 1)
			real.ServeHTTP(rw, r)
		})
	})
	_, err := l.Get(t.Context(), Request{Ref: "up.example/team/tool@sha256:" + strings.Repeat("e", 64)})
	if err == nil || !strings.Contains(err.Error(), "digest") || !strings.Contains(err.Error(), "before that") {
		t.Errorf("%v", err)
	}
	second.Wrap(nil)
	// A mirror that the zone names must be a host that the runner allows.
	w.cfg.Registry.Allow = []string{"up.example"}
	l = w.open2()
	zone, _ := ParseNames("zone eu", nil, map[string][]string{"up.example": {"elsewhere.example"}}, false)
	if _, err := l.Find("up.example/other", zone); err == nil || !strings.Contains(err.Error(), "elsewhere.example") {
		t.Errorf("%v", err)
	}
}

// open2 opens a library of its own with the same settings.
func (w *world) open2() *Library {
	w.cfg.Dir = w.t.TempDir()
	return w.open()
}

// TestPolicies: always looks the tag up and finds what moved, never pulls only by hand.
func TestPolicies(t *testing.T) {
	w := newWorld(t)
	w.cfg.Pull = PullAlways
	l := w.open()
	w.get(l, w.ref(":v1"))
	moved := imagetest.New(t)
	d := moved.Add(imagetest.Image{Name: "v1", Layers: [][]byte{imagetest.Tar(t, imagetest.File("n", "new"))}})
	w.reg.Push("team/tool", moved)
	if g := w.get(l, w.ref(":v1")); g.Image.Digest != d.Digest.String() {
		t.Errorf("%s, the tag is at %s", g.Image.Digest, d.Digest)
	}
	if g := w.get(l, w.ref("@"+w.top.Digest.String())); !g.Cached() {
		t.Errorf("what the tag was: %+v", g)
	}
	w.cfg.Pull = PullNever
	l = w.open2()
	if _, err := l.Get(t.Context(), Request{Ref: w.ref(":v1")}); !fault.HasReason(err, fault.ReasonImageNotFound) || !strings.Contains(err.Error(), "never") {
		t.Errorf("%v", err)
	}
	if g, err := l.Get(t.Context(), Request{Ref: w.ref(":v1"), Refresh: true}); err != nil || g.Cached() {
		t.Errorf("by hand: %+v %v", g, err)
	}
	w.get(l, w.ref(":v1"))
}
