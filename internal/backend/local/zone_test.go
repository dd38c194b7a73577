package local

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

// zoned is a work whose zone says where images come from.
func zoned(t *testing.T, sources, ref string, command ...string) *backend.Work {
	t.Helper()
	w := imageWork(ref, command...)
	w.ZoneName = "eu"
	own := w.Spec.GetResourceDefaults()
	if err := protojson.Unmarshal([]byte(`{"imageSources": `+sources+`}`), w.Spec); err != nil {
		t.Fatal(err)
	}
	w.Spec.ContainerImage, w.Spec.ResourceDefaults = &ref, own
	return w
}

// TestZoneSources: aliases and mirrors of a zone are taken, and told; the runner's own come first; a zone cannot name a directory of the
// machine, nor a mirror that the runner does not allow.
func TestZoneSources(t *testing.T) {
	reg := imagetest.Serve(t)
	l := imagetest.New(t)
	l.Add(imagetest.Image{Name: "3.11", Layers: [][]byte{buildTool(t)}, Config: v1.Config{Cmd: []string{"/bin/tool", "idle"}}})
	reg.Push("hub/library/python", l)
	b := open(t, withRuntime("crun"), func(c *Config) {
		c.ImageFile = images(t, "allow: ["+reg.Host+", docker.io]\nregistries:\n  "+reg.Host+": {private: true, insecure: true}\naliases: {\"mine:1\": host}\n")
	})
	alias := `{"aliases": {"python:3.11": "` + reg.Host + `/hub/library/python:3.11", "mine:1": "nowhere.example/x"}}`
	id := b.launch(zoned(t, alias, "python:3.11"))
	b.isRunning(id)
	if e := eventOf(t, b, id, "image"); e.Attrs["alias_of"] != "zone eu" || !strings.Contains(e.Message, reg.Host) {
		t.Errorf("%+v", e)
	}
	b.isRunning(b.launch(zoned(t, alias, "mine:1", "sleep", "600")))
	mirror := `{"mirrors": {"docker.io": {"hosts": ["` + reg.Host + `/hub"]}}}`
	id = b.launch(zoned(t, mirror, "python:3.11"))
	b.isRunning(id)
	if e := eventOf(t, b, id, "image"); !strings.Contains(e.Message, "mirror "+reg.Host+"/hub") {
		t.Errorf("%+v", e)
	}
	other := zoned(t, `{"mirrors": {"docker.io": {"hosts": ["elsewhere.example"]}}}`, "python:3.12")
	if err := b.Check(other); !fault.HasReason(err, fault.ReasonImagePullFailed) || !strings.Contains(err.Error(), "elsewhere.example") {
		t.Errorf("%v", err)
	}
	dir := zoned(t, `{"aliases": {"python:3.11": "oci:`+l.Dir+`"}}`, "python:3.11")
	if err := b.Check(dir); err == nil || !strings.Contains(err.Error(), "image_sources") {
		t.Errorf("a directory of the machine: %v", err)
	}
	if err := b.Create(t.Context(), dir); err == nil {
		t.Error("it was accepted")
	}
}
