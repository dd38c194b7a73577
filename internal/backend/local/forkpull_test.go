package local

import (
	"net/http"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core"
)

// TestForkOfPulled: under gVisor, the fork of a sandbox whose image was pulled has that image, whatever its name stands for by now, and needs no registry
// for it: not under the next server, and not when the sandbox that it began as has ended. An image that was removed meanwhile by force is
// pulled again by its digest.
func TestForkOfPulled(t *testing.T) {
	reg := imagetest.Serve(t)
	tool := buildTool(t)
	push := func(version string) {
		l := imagetest.New(t)
		l.Add(imagetest.Image{Name: "v1", Layers: [][]byte{tool, imagetest.Tar(t, imagetest.File("srv/version", version))}, Compress: true, Config: v1.Config{
			Cmd: []string{"/bin/tool", "idle"}, WorkingDir: "/app/dir",
		}})
		reg.Push("team/tool", l)
	}
	push("one")
	b := open(t, withRuntime("runsc"), near(t, reg))
	w := imageWork(reg.Host + "/team/tool:v1")
	first := b.launch(w)
	b.isRunning(first)
	digest := eventOf(t, b, first, "image").Attrs["digest"]
	b.write(first, "/app/dir/first", "shared")
	b.write(first, "/srv/version", "one, changed") // Over the image.
	fork := func(from string) string {
		t.Helper()
		id := b.launch(forkOf(w, from))
		b.isRunning(id)
		if e := eventOf(t, b, id, "image"); e.Attrs["digest"] != digest {
			t.Errorf("%s has another image: %+v", id, e)
		}
		for path, want := range map[string]string{"/app/dir/first": "shared", "/srv/version": "one, changed", "/srv/data": "in the image"} {
			if got := b.read(id, path); got != want {
				t.Errorf("%s has %q in %s", id, got, path)
			}
		}
		return id
	}
	end := func(id string) {
		t.Helper()
		if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
			t.Error(err)
		}
		b.ended(id)
	}
	push("two")
	reg.Seen("")
	second := fork(first)
	reg.Wrap(func(http.Handler) http.Handler { return http.NotFoundHandler() })
	b.reopen()
	third := fork(second)
	end(first)
	end(second)
	if _, err := b.library.Collect(); err != nil {
		t.Error(err)
	}
	fourth := fork(third)
	if seen := reg.Seen("GET"); len(seen) > 0 {
		t.Errorf("the registry was asked for what is here: %q", seen)
	}
	reg.Wrap(nil)
	if _, err := b.RemoveImage(t.Context(), digest, true); err != nil {
		t.Fatal(err)
	}
	fifth := fork(fourth)
	if seen := reg.Seen("GET /v2/team/tool/manifests/" + digest); len(seen) == 0 {
		t.Error("what was removed was not asked for by its digest")
	}
	for _, id := range []string{third, fourth, fifth} {
		b.write(id, "/app/dir/first", "of "+id)
	}
	for _, id := range []string{third, fourth, fifth} {
		if got := b.read(id, "/app/dir/first"); got != "of "+id {
			t.Errorf("%s has %q", id, got)
		}
		end(id)
	}
	// A sandbox that is new has what the name stands for.
	fresh := b.launch(imageWork(reg.Host + "/team/tool:v1"))
	b.isRunning(fresh)
	if got := b.read(fresh, "/srv/version"); got != "two" {
		t.Errorf("a new sandbox has %q", got)
	}
}
