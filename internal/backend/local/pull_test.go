package local

import (
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/backend/local/library"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/specfile"
)

// near lets a registry on loopback be pulled from.
func near(t testing.TB, r *imagetest.Registry) func(*Config) {
	t.Helper()
	file, err := nearFile(r.Host)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.ImageFile = file }
}

// nearFile is the file of an operator who allows one registry on loopback.
func nearFile(host string) (*library.File, error) {
	n, err := specfile.Parse([]byte("allow: [" + host + "]\nregistries:\n  " + host + ": {private: true, insecure: true}\n"))
	if err != nil {
		return nil, err
	}
	return library.Decode(n, "/")
}

// TestPullAndRun: a launch pulls its image, the next one of the same has it, and one by the digest that was recorded too, without the
// registry.
func TestPullAndRun(t *testing.T) {
	reg := imagetest.Serve(t)
	l := imagetest.New(t)
	l.Add(imagetest.Image{Name: "v1", Layers: [][]byte{buildTool(t)}, Compress: true, Config: v1.Config{Cmd: []string{"/bin/tool", "idle"}}})
	reg.Push("team/tool", l)
	b := open(t, withRuntime("crun"), near(t, reg))
	ref := reg.Host + "/team/tool:v1"
	if err := b.Check(imageWork(ref)); err != nil {
		t.Fatal(err)
	}
	if seen := reg.Seen("GET"); len(seen) > 0 {
		t.Errorf("a check asked the registry: %q", seen)
	}
	id := b.launch(imageWork(ref))
	b.isRunning(id)
	e := eventOf(t, b, id, "image")
	if e.Attrs["cached"] != "false" || e.Attrs["downloaded"] == "0" || !strings.Contains(e.Message, "registry "+reg.Host) {
		t.Errorf("%+v", e)
	}
	eventOf(t, b, id, "pulling")
	reg.Wrap(func(http.Handler) http.Handler { return http.NotFoundHandler() })
	reg.Seen("")
	for _, again := range []string{ref, reg.Host + "/team/tool@" + e.Attrs["digest"]} {
		id := b.launch(imageWork(again))
		b.isRunning(id)
		if got := eventOf(t, b, id, "image"); got.Attrs["cached"] != "true" || got.Attrs["digest"] != e.Attrs["digest"] {
			t.Errorf("%s: %+v", again, got)
		}
	}
	b.reopen()
	id = b.launch(imageWork(ref))
	b.isRunning(id)
	if seen := reg.Seen("GET"); len(seen) > 0 {
		t.Errorf("what is here was asked for: %q", seen)
	}
}

// TestPullFails: an image that cannot be had is the sandbox's end, with the reason and without an exit code.
func TestPullFails(t *testing.T) {
	reg := imagetest.Serve(t)
	hostile, foreign := imagetest.New(t), imagetest.New(t)
	hostile.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.Symlink("a", "/etc"), imagetest.File("a/passwd", "x"))}, Config: v1.Config{Cmd: []string{"/x"}}})
	foreign.Add(imagetest.Image{Arch: "mips", Layers: [][]byte{imagetest.Tar(t, imagetest.File("f", "x"))}})
	reg.Push("hostile", hostile)
	reg.Push("foreign", foreign)
	b := open(t, withRuntime("crun"), near(t, reg))
	for ref, words := range map[string]string{
		reg.Host + "/missing:v1": "has no missing", reg.Host + "/hostile": "symbolic link", reg.Host + "/foreign": "linux/mips",
	} {
		o := b.ended(b.launch(imageWork(ref)))
		if !o.Failed || o.Reason != core.EndImageFailed || o.ExitCode != nil || !strings.Contains(o.Message, words) {
			t.Errorf("%s: %+v", ref, o)
		}
	}
	reg.Wrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		})
	})
	o := b.ended(b.launch(imageWork(reg.Host + "/limited")))
	if o.Reason != core.EndImageFailed || !strings.Contains(o.Message, "429") {
		t.Errorf("%+v", o)
	}
	if err := b.Check(imageWork("registry.example/x")); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("a registry that is not allowed: %v", err)
	}
}

// TestStopWhilePulling: a sandbox that waits for its image is stopped at once.
func TestStopWhilePulling(t *testing.T) {
	reg := imagetest.Serve(t)
	asked, release := make(chan struct{}, 64), make(chan struct{})
	reg.Wrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
	})
	defer close(release)
	b := open(t, withRuntime("crun"), near(t, reg))
	id := b.launch(imageWork(reg.Host + "/slow"))
	<-asked
	// Others are not held up.
	b.isRunning(b.launch(work("sleep", "600")))
	if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	if o := b.ended(id); o.Failed || o.Reason != core.EndStopped || o.ExitCode != nil || o.Phase != backend.PhaseEnded {
		t.Errorf("%+v", o)
	}
}
