package local

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// tool is a program for images that have nothing else: it prints who and where it is, and its environment.
const tool = `package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "idle" {
		time.Sleep(time.Hour)
	}
	groups, _ := os.Getgroups()
	dir, _ := os.Getwd()
	fmt.Println(os.Getuid(), os.Getgid(), groups, dir, os.Getenv("HOME"), os.Getenv("FROM"), os.Args[1:])
	for _, name := range os.Args[1:] {
		fmt.Println(name, os.WriteFile(name, []byte("written"), 0o644))
	}
}
`

// buildTool returns a layer with the tool at /bin/tool, some accounts and files.
func buildTool(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(tool), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "tool"), filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "tool"))
	if err != nil {
		t.Fatal(err)
	}
	program := imagetest.File("bin/tool", string(data))
	program.Mode = 0o755
	return imagetest.Tar(t, program, imagetest.Dir("etc"),
		imagetest.File("etc/passwd", "root:x:0:0::/root:/bin/sh\nworker:x:1000:100::/home/worker:/bin/sh\n"),
		imagetest.File("etc/group", "extra:x:44:worker\n"), imagetest.Dir("srv"), imagetest.File("srv/data", "in the image"))
}

// withImage gives the runner one image.
func withImage(ref string, l *imagetest.Layout) func(*Config) {
	return func(c *Config) { c.Images = map[string]string{ref: "oci:" + l.Dir} }
}

func imageWork(ref string, command ...string) *backend.Work {
	w := work(command...)
	w.Spec.ContainerImage = proto.String(ref)
	return w
}

// TestImage: an image from a layout, with its configuration, under both runtimes.
func TestImage(t *testing.T) {
	layer := buildTool(t)
	each(t, func(t *testing.T, rt string) {
		l := imagetest.New(t)
		l.Add(imagetest.Image{Layers: [][]byte{layer}, Compress: true, Config: v1.Config{
			Entrypoint: []string{"/bin/tool"}, Cmd: []string{"idle"}, Env: []string{"FROM=image", "PATH=/bin"}, User: "worker", WorkingDir: "/app/dir",
		}})
		b := open(t, withRuntime(rt), withImage("team/tool:v1", l))
		w := imageWork("team/tool:v1")
		id := b.launch(w)
		b.isRunning(id)
		const want = "1000 100 [44] /app/dir /home/worker image [/srv/x /app/dir/x]\n/srv/x open /srv/x: permission denied\n/app/dir/x <nil>\n"
		// One runtime lists the group of the process among the others, too.
		if r := b.exec(id, "tool", "/srv/x", "/app/dir/x"); strings.Replace(r.out, "[44 100]", "[44]", 1) != want {
			t.Errorf("%q %q, want %q", r.out, r.err, want)
		}
		// Files over the protocol, by the same user.
		if err := b.WriteFile(t.Context(), id, "/app/dir/mine", 0o600, strings.NewReader("x")); err != nil {
			t.Error(err)
		}
		if err := b.WriteFile(t.Context(), id, "/srv/other", 0o600, strings.NewReader("x")); !fault.HasReason(err, fault.ReasonFilePermissionDenied) {
			t.Errorf("a place of root's: %v", err)
		}
		// A second sandbox of the image sees nothing of the first, and its own environment wins.
		w2 := imageWork("docker.io/team/tool:v1", "/bin/tool", "idle")
		w2.Launch.EnvironmentVariables = map[string]string{"FROM": "launch"}
		w2.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/etc/new/file", Content: []byte("mounted")}}
		id2 := b.launch(w2)
		if r := b.exec(id2, "tool"); !strings.Contains(r.out, " launch []") {
			t.Errorf("%+v", r)
		}
		if _, _, err := b.ReadFile(t.Context(), id2, "/app/dir/mine", 100); !fault.HasReason(err, fault.ReasonFileNotFound) {
			t.Errorf("a neighbour's file: %v", err)
		}
		if f, _, err := b.ReadFile(t.Context(), id2, "/etc/new/file", 100); err != nil {
			t.Error(err)
		} else {
			f.Close()
		}
		if img := eventOf(t, b, id2, "image"); img.Attrs["cached"] != "true" {
			t.Errorf("the second start: %+v", img)
		}
	})
}

// eventOf returns an event that a sandbox has told so far.
func eventOf(t *testing.T, b *testBackend, id, name string) core.Event {
	t.Helper()
	s, err := b.get(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.told {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("%s has told %+v, no %s", id, s.told, name)
	return core.Event{}
}

// TestImageRefusals: what is wrong with an image is said before anything is kept, or as the sandbox's end.
func TestImageRefusals(t *testing.T) {
	good, foreign, hostile, bare := imagetest.New(t), imagetest.New(t), imagetest.New(t), imagetest.New(t)
	layer := imagetest.Tar(t, imagetest.File("f", "x"))
	good.Add(imagetest.Image{Layers: [][]byte{layer}, Config: v1.Config{Cmd: []string{"/nothing"}}})
	foreign.Add(imagetest.Image{Arch: "mips", Layers: [][]byte{layer}})
	hostile.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.Symlink("a", "/etc"), imagetest.File("a/passwd", "x"))}, Config: v1.Config{Cmd: []string{"/x"}}})
	bare.Add(imagetest.Image{Layers: [][]byte{layer}})
	b := open(t, withRuntime("crun"), func(c *Config) {
		c.Images = map[string]string{
			"good": "oci:" + good.Dir, "foreign": "oci:" + foreign.Dir, "hostile": "oci:" + hostile.Dir, "bare": "oci:" + bare.Dir, "gone": "oci:/no/such/dir",
			"laptop:1": "host",
		}
	})
	for ref, c := range map[string]struct {
		reason, words string
	}{
		"foreign":    {fault.ReasonImageInvalid, "linux/mips"},
		"gone":       {fault.ReasonImageNotFound, "no OCI layout"},
		"unknown:1":  {fault.ReasonImageNotFound, "laptop:1"},
		"bare":       {fault.ReasonBackendUnsupported, "command"},
		"NOT A NAME": {fault.ReasonImageInvalid, "NOT A NAME"},
	} {
		err := b.Check(imageWork(ref))
		if !fault.HasReason(err, c.reason) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %s with %q", ref, err, c.reason, c.words)
		}
		w := imageWork(ref)
		if err := b.Create(t.Context(), w); err != nil {
			t.Errorf("%s: create: %v", ref, err)
			continue
		}
		o := b.ended(w.SandboxID)
		if !o.Failed || o.Reason != core.EndImageFailed || o.ExitCode != nil {
			t.Errorf("%s: %+v", ref, o)
		}
		for _, path := range []string{b.place.dir, b.place.run, "/no/such/dir", foreign.Dir, bare.Dir} {
			if strings.Contains(told(err), path) || strings.Contains(o.Message, path) {
				t.Errorf("%s: callers are told where on the machine it is: %v; %s", ref, err, o.Message)
			}
		}
	}
	if o := b.ended(b.launch(imageWork("hostile"))); o.Reason != core.EndImageFailed || !strings.Contains(o.Message, "symbolic link") {
		t.Errorf("hostile: %+v", o)
	}
	if o := b.ended(b.launch(imageWork("good"))); o.Reason != core.EndStartFailed || !strings.Contains(o.Message, "/nothing") {
		t.Errorf("good: %+v", o)
	}
	if o := b.ended(b.launch(imageWork("laptop:1", "python3", "-c", "exit(5)"))); o.ExitCode == nil || *o.ExitCode != 5 {
		t.Errorf("an alias of host: %+v", o)
	}
}

// told is all of an error that callers see.
func told(err error) string {
	f := fault.From(err).Clone().WithCause(nil)
	return fmt.Sprint(f, f.Hint, f.Meta)
}

// TestHostileRoot: an image that puts links where the runtime mounts gets nothing of the machine.
func TestHostileRoot(t *testing.T) {
	outside := t.TempDir()
	layer := buildTool(t)
	each(t, func(t *testing.T, rt string) {
		for name, entries := range map[string][]imagetest.Entry{
			"dev":      {imagetest.Symlink("dev", outside)},
			"proc":     {imagetest.Symlink("proc", outside)},
			"etc":      {imagetest.Symlink("etc", outside)},
			"hosts":    {imagetest.Dir("etc"), imagetest.Symlink("etc/hosts", filepath.Join(outside, "hosts"))},
			"relative": {imagetest.Symlink("dev", strings.Repeat("../", 12)+outside)},
		} {
			top := imagetest.Tar(t, entries...)
			// A lower layer's directory of the name goes, or the link would be hidden by it.
			l := imagetest.New(t)
			l.Add(imagetest.Image{Layers: [][]byte{layer, top}, Config: v1.Config{Cmd: []string{"/bin/tool", "idle"}, WorkingDir: "/"}})
			b := open(t, withRuntime(rt), withImage("hostile", l))
			w := imageWork("hostile")
			if err := b.Create(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			o := b.await(w.SandboxID, "it ran or failed", func(o *backend.Observation) bool { return o.Phase != backend.PhaseCreating })
			t.Logf("%s: %s %s %.200s", name, o.Phase, o.Reason, o.Message)
			if left, _ := os.ReadDir(outside); len(left) > 0 {
				t.Fatalf("%s: made on the machine: %v", name, left)
			}
		}
	})
}

// TestSetuid: a set-user-id program of an image gains nothing.
func TestSetuid(t *testing.T) {
	layer := buildTool(t)
	l := imagetest.New(t)
	su := imagetest.Entry{Header: tar.Header{Name: "bin/su", Typeflag: tar.TypeReg, Mode: 0o6755}, Content: "#!/bin/tool\n"}
	l.Add(imagetest.Image{Layers: [][]byte{layer, imagetest.Tar(t, su)}, Config: v1.Config{User: "1000", Cmd: []string{"/bin/tool", "idle"}}})
	b := open(t, withRuntime("crun"), withImage("su", l))
	id := b.launch(imageWork("su"))
	if r := b.exec(id, "/bin/su"); !strings.HasPrefix(r.out, "1000 ") {
		t.Errorf("%+v", r)
	}
}

// TestDigestReference: a reference by digest finds the layout that has it.
func TestDigestReference(t *testing.T) {
	l := imagetest.New(t)
	d := l.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("f", "x"))}, Config: v1.Config{Cmd: []string{"/f"}}})
	b := open(t, withRuntime("crun"), withImage("team/tool:v1", l))
	if err := b.Check(imageWork("team/tool@" + d.Digest.String())); err != nil {
		t.Error(err)
	}
	if err := b.Check(imageWork("team/tool:v9@" + d.Digest.String())); err != nil {
		t.Error(err)
	}
	other := imagetest.Digest([]byte("other")).String()
	if err := b.Check(imageWork("team/tool@" + other)); !fault.HasReason(err, fault.ReasonImageNotFound) {
		t.Errorf("%v", err)
	}
}
