package local

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestImageMain: what the main process is, by what launch and image name. An image whose command ends at once, as an interpreter
// does without a terminal, or that names none, still serves who only wants to run commands in it.
func TestImageMain(t *testing.T) {
	layer := buildTool(t)
	image := func(config v1.Config) func(*Config) {
		l := imagetest.New(t)
		l.Add(imagetest.Image{Layers: [][]byte{layer}, Config: config})
		return withImage("tool", l)
	}
	t.Run("idle", func(t *testing.T) {
		for name, config := range map[string]v1.Config{"no command": {}, "one that ends at once": {Cmd: []string{"/bin/tool"}}} {
			b := open(t, withRuntime("crun"), image(config))
			w := imageWork("tool")
			if err := b.Check(w); (err != nil) != (name == "no command") {
				t.Errorf("%s: %v", name, err)
			}
			w.Launch.Idle = true
			if err := b.Check(w); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			id := b.launch(w)
			b.isRunning(id)
			if r := b.exec(id, "/bin/tool"); !strings.HasPrefix(r.out, "0 0 ") {
				t.Errorf("%s: %+v", name, r)
			}
		}
	})
	t.Run("arguments for the entrypoint", func(t *testing.T) {
		b := open(t, withRuntime("crun"), image(v1.Config{Entrypoint: []string{"/bin/tool"}, Cmd: []string{"ends"}}))
		w := imageWork("tool")
		w.Launch.Args = []string{"idle"}
		b.isRunning(b.launch(w))
	})
	t.Run("arguments for the machine's own image", func(t *testing.T) {
		w := work()
		w.Launch.Args = []string{"x"}
		if err := open(t, withRuntime("crun")).Check(w); !fault.HasReason(err, fault.ReasonBackendUnsupported) {
			t.Errorf("%v", err)
		}
	})
}
