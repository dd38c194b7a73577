package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
)

// imageServer starts `berm serve` with images from a registry on loopback alone, and returns the environment of its user.
func imageServer(t *testing.T, images string, more ...string) map[string]string {
	t.Helper()
	home := t.TempDir()
	env := map[string]string{"HOME": home, "XDG_STATE_HOME": filepath.Join(home, "state")}
	file := filepath.Join(home, "images.yaml")
	if err := os.WriteFile(file, []byte(images), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var log bytes.Buffer
	done := make(chan int, 1)
	go func() {
		args := append([]string{"serve", "--data", filepath.Join(home, "data"), "--listen", "127.0.0.1:0", "--images", file}, more...)
		done <- Main(ctx, args, Stdio{In: strings.NewReader(""), Out: io.Discard, Err: &log, Getenv: func(k string) string { return env[k] }})
	}()
	t.Cleanup(func() {
		stop()
		if code := <-done; code != 0 {
			t.Errorf("the server ended with %d:\n%s", code, log.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if run(t, env, "", "whoami").code == 0 {
			return env
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not start")
		}
	}
}

// sayLayer is a layer with a static program.
func sayLayer(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("../../bin/berm-shim")
	if err != nil {
		t.Fatalf("make build makes it: %v", err)
	}
	e := imagetest.File("bin/say", string(data))
	e.Mode = 0o755
	return imagetest.Tar(t, imagetest.Dir("bin"), e, imagetest.Dir("etc"), imagetest.File("etc/motto", "from the image"))
}

// TestImages: pull, ls, rm and import against a server, and what is pulled runs.
func TestImages(t *testing.T) {
	reg := imagetest.Serve(t)
	l := imagetest.New(t)
	d := l.Add(imagetest.Image{Name: "v1", Layers: [][]byte{sayLayer(t)}, Compress: true})
	reg.Push("team/say", l)
	env := imageServer(t, fmt.Sprintf("allow: [%s]\nregistries:\n  %s: {private: true, insecure: true}\naliases: {say: %q}\n", reg.Host, reg.Host, reg.Host+"/team/say:v1"))
	ref := reg.Host + "/team/say:v1"

	got := run(t, env, "", "image", "pull", ref)
	if got.code != 0 || strings.TrimSpace(got.out) != d.Digest.String() || !strings.Contains(got.err, "1 of 1 layers unpacked") || !strings.Contains(got.err, "downloaded from registry "+reg.Host) {
		t.Fatalf("%+v", got)
	}
	if got := run(t, env, "", "image", "pull", ref, "-o", "json"); got.code != 0 || !strings.Contains(got.err, "up to date") || !json.Valid([]byte(got.out)) {
		t.Errorf("%+v", got)
	}
	got = run(t, env, "", "image", "ls")
	if got.code != 0 || !strings.Contains(got.out, ref) || !strings.Contains(got.out, d.Digest.String()[:19]) || !strings.Contains(got.out, "pinned") {
		t.Errorf("%+v", got)
	}

	// A launch by the alias; the timeline and explain say what was taken, and the digest launches again.
	got = run(t, env, "", "run", "--detach", "--image", "say", "--", "/bin/say", "x")
	if got.code != 0 {
		t.Fatalf("%+v", got)
	}
	id := strings.Fields(got.out)[0]
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if got = run(t, env, "", "explain", id); strings.Contains(got.out, "   image") || time.Now().After(deadline) {
			break
		}
	}
	for _, want := range []string{d.Digest.String(), "alias", ref} {
		if !strings.Contains(got.out, want) {
			t.Errorf("explain lacks %q:\n%s%s", want, got.out, got.err)
		}
	}
	run(t, env, "", "rm", id)
	reg.Wrap(func(http.Handler) http.Handler { return http.NotFoundHandler() })
	if got := run(t, env, "", "run", "--detach", "--image", reg.Host+"/team/say@"+d.Digest.String(), "--", "/bin/say"); got.code != 0 {
		t.Errorf("by digest: %+v", got)
	}
	if got := run(t, env, "", "image", "pull", reg.Host+"/team/none"); got.code != 5 || !strings.Contains(got.err, "has no team/none") {
		t.Errorf("%+v", got)
	}

	// Import, from a directory and from standard input.
	if got := run(t, env, "", "image", "import", l.Dir); got.code != 2 || !strings.Contains(got.err, "berm image import FILE NAME") {
		t.Errorf("%+v", got)
	}
	if got := run(t, env, "", "image", "import", l.Dir, "mine:1", "--pin"); got.code != 0 || !strings.Contains(got.out, "docker.io/library/mine:1") {
		t.Errorf("%+v", got)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(l.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := run(t, env, b.String(), "image", "import", "-", "mine:2"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if got := run(t, env, "", "image", "import", "/nowhere"); got.code != 2 || !strings.Contains(got.err, "/nowhere") {
		t.Errorf("%+v", got)
	}
	if got := run(t, env, "", "image", "rm", "mine:2"); got.code != 0 || !strings.Contains(got.err, "stays") {
		t.Errorf("%+v", got)
	}
	if got := run(t, env, "", "image", "rm", "--force", "mine:1", "nothing:1"); got.code != 5 || !strings.Contains(got.err, "berm image ls") {
		t.Errorf("%+v", got)
	}
	if got := run(t, env, "", "image", "ls", "--runner", "nobody"); got.code != 5 || !strings.Contains(got.err, "nobody") {
		t.Errorf("%+v", got)
	}
	for _, line := range strings.Split(run(t, env, "", "ls").out, "\n")[1:] {
		if f := strings.Fields(line); len(f) > 0 {
			run(t, env, "", "rm", f[0])
		}
	}
}
