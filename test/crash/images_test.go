//go:build crash

package crash

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
)

// pulledImages is how many images the registry has: one layer is of all of them, one of each.
const pulledImages = 4

// hub is a registry and a name server on loopback that outlive servers, and an archive of one of the registry's images.
type hub struct {
	host    string
	archive string
	names   string
}

// newHub serves images made from the layers of a layout.
func newHub(t *testing.T, program []byte) *hub {
	t.Helper()
	reg := imagetest.Serve(t)
	h := &hub{host: reg.Host, names: serveNames(t)}
	for i := range pulledImages {
		l := imagetest.New(t)
		own := imagetest.Tar(t, imagetest.Dir("srv"), imagetest.File("srv/number", strconv.Itoa(i)))
		l.Add(imagetest.Image{Name: "v1", Layers: [][]byte{program, own}, Compress: true, Config: v1.Config{Cmd: []string{"/bin/wait"}}})
		reg.Push("crash/"+strconv.Itoa(i), l)
		h.archive = l.Dir
	}
	return h
}

func (h *hub) ref(i int) string { return fmt.Sprintf("%s/crash/%d:v1", h.host, i%pulledImages) }

// flags are those of a server that may pull from the registry and asks the name server, and nobody else.
func (h *hub) flags(t *testing.T) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "images.yaml")
	text := fmt.Sprintf("allow: [%q]\nregistries:\n  %q: {private: true, insecure: true}\n", h.host, h.host)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--images", file, "--name-server", h.names}
}

// pulled is a sandbox whose image comes from the registry.
func (h *hub) pulled(i int) *kind {
	return &kind{name: "pulled", stopped: []int{sigterm, sigkill}, request: map[string]any{"containerImage": h.ref(i)}}
}

// images pulls by launches and by hand, imports, and removes, so that there is always something to do again.
func (w *work) images(i int) {
	l := w.launch(w.hub.pulled(i), "local")
	w.berm("image", "pull", "--runner", "local", w.hub.ref(i+1))
	w.berm("image", "import", "--runner", "local", w.hub.archive, "imported:"+strconv.Itoa(i%2))
	if l.id != "" {
		w.stop(l)
		w.m.until(func() bool { v := w.m.get(l.id); w.tell(l, v); return v == nil || v.ended() || w.m.hit() })
	}
	for _, ref := range []string{w.hub.ref(i), w.hub.ref(i + 1), "imported:" + strconv.Itoa(i%2)} {
		w.m.call("DELETE", "/berm/v1/runners/local/images?force=true&image="+url.QueryEscape(ref), nil)
		w.note(func() {})
	}
}

// berm runs the command line against the server: what it does is not to be had over REST.
func (w *work) berm(args ...string) {
	if w.m.dead.Load() {
		return
	}
	cmd := exec.Command(binary(), args...)
	cmd.Env = append(os.Environ(), "BERM_URL="+w.m.url, "BERM_TOKEN="+w.m.token)
	if out, err := cmd.CombinedOutput(); err != nil && !bytes.Contains(out, []byte("cannot reach")) {
		fmt.Fprintf(w.m.log, "--- berm %q: %v %s\n", args, err, out)
	}
	w.note(func() {})
}

// unpacking lists what a library must not have once it has been opened anew: half-unpacked layers and imports.
func (p places) unpacking() []string {
	var out []string
	for _, pattern := range []string{"images/sha256/tmp-*", "images/import-*", "images/*/.tmp-*"} {
		found, _ := filepath.Glob(filepath.Join(p.dir, pattern))
		out = append(out, found...)
	}
	return out
}
