package local

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// forkOf is the work of a fork with the spec of another's.
func forkOf(w *backend.Work, id string) *backend.Work {
	f := work(w.Launch.Args...)
	f.Spec, f.Launch.Command, f.Launch.ForkOf = proto.CloneOf(w.Spec), w.Launch.Command, id
	return f
}

func (b *testBackend) read(id, path string) string {
	b.t.Helper()
	f, _, err := b.ReadFile(b.t.Context(), id, path, 1<<20)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		b.t.Error(err)
	}
	return string(text)
}

func (b *testBackend) write(id, path, text string) {
	b.t.Helper()
	if err := b.WriteFile(b.t.Context(), id, path, 0o640, strings.NewReader(text)); err != nil {
		b.t.Errorf("%s: %s: %v", id, path, err)
	}
}

// TestForkOnDisk: what a sandbox has on disk, over its image or in its private directories, is in its fork as well: a copy, with the
// fork's own ids, as large as it may be. So are forks of forks.
func TestForkOnDisk(t *testing.T) {
	l := imagetest.New(t)
	l.Add(imagetest.Image{Layers: [][]byte{buildTool(t)}, Config: v1.Config{Entrypoint: []string{"/bin/tool"}, Cmd: []string{"idle"}, Env: []string{"PATH=/bin"}, User: "worker", WorkingDir: "/app/dir"}})
	b := open(t, withRuntime("runsc"), withImage("team/tool:v1", l))
	host := work("sleep", "infinity")
	host.Spec.ResourceDefaults = &specpb.ResourceDefaults{EphemeralStorageLimit: proto.String("64Mi")}
	for name, c := range map[string]struct {
		work *backend.Work
		dir  string
	}{"image": {imageWork("team/tool:v1"), "/app/dir/"}, "private directories": {host, "/workspace/"}} {
		t.Run(name, func(t *testing.T) {
			b := &testBackend{t: t, cfg: b.cfg, Backend: b.Backend}
			first := b.launch(c.work)
			b.isRunning(first)
			b.write(first, c.dir+"file", "shared")
			b.write(first, c.dir+"gone", "x")
			all := []string{first}
			for _, from := range []int{0, 1} { // The second is a fork of the fork.
				id := b.launch(forkOf(c.work, all[from]))
				b.isRunning(id)
				all = append(all, id)
			}
			for _, id := range all {
				if got := b.read(id, c.dir+"file"); got != "shared" {
					t.Errorf("%s begins with %q", id, got)
				}
				b.write(id, c.dir+"file", "of "+id) // By the user that it was: it may.
				b.write(id, c.dir+id, "new")
			}
			for _, id := range all {
				if got := b.read(id, c.dir+"file"); got != "of "+id {
					t.Errorf("%s has %q", id, got)
				}
				for _, other := range all {
					if got := b.read(id, c.dir+other); (got == "new") != (id == other) {
						t.Errorf("%s sees of %s: %q", id, other, got)
					}
				}
				s, err := b.get(id)
				if err != nil {
					t.Fatal(err)
				}
				b.ownedBy(s, id)
				if exists(filepath.Join(b.place.sandbox(id), forkName)) {
					t.Error("what it was made from is left")
				}
			}
			for _, id := range all {
				if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
					t.Error(err)
				}
				b.ended(id)
			}
		})
	}
}

// ownedBy looks for a file of a sandbox on its disk: it belongs to the sandbox's ids.
func (b *testBackend) ownedBy(s *sandbox, name string) {
	b.t.Helper()
	found := false
	err := filepath.Walk(filepath.Join(b.place.box(s.slot), "scratch"), func(path string, info os.FileInfo, err error) error {
		if err != nil || info.Name() != name {
			return err
		}
		found = true
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Uid < base(s.ids) || st.Uid >= base(s.ids)+1<<16 {
			b.t.Errorf("%s is %d's, and the sandbox's ids begin at %d", name, st.Uid, base(s.ids))
		}
		return nil
	})
	if err != nil || !found {
		b.t.Errorf("%s on the disk of %s: %v", name, s.id, err)
	}
}

// TestForkOnDiskRefused: what cannot be copied is refused with the reason, or is the end of the fork alone; the sandbox goes on with
// what it has, and nothing of the attempt is left.
func TestForkOnDiskRefused(t *testing.T) {
	dir := smallDisk(t, "192m")
	b := open(t, withRuntime("runsc"), func(c *Config) { c.Dir = filepath.Join(dir, "state") })
	w := storage("100Mi")
	w.Spec.ResourceDefaults.MemoryLimit = nil
	w.Launch.Command, w.Launch.Args = "python3", []string{"-c", "import os, time; x = os.urandom(32 << 20); open('/workspace/ready', 'w').write('x'); time.sleep(3600)"}
	id := b.launch(w)
	b.isRunning(id)
	other := forkOf(w, id)
	other.Spec.ResourceDefaults.EphemeralStorageLimit = proto.String("64Mi")
	if err := b.Check(other); !fault.HasReason(err, fault.ReasonBackendUnsupported) || !strings.Contains(err.Error(), "on disk") {
		t.Errorf("with another limit: %v", err)
	}
	other.Spec.ResourceDefaults.EphemeralStorageLimit = nil
	if err := b.Check(other); !fault.HasReason(err, fault.ReasonBackendUnsupported) || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("without one: %v", err)
	}
	if r := b.shell(id, "head -c 48M /dev/urandom > /workspace/much; echo kept > /workspace/small; while ! test -e /workspace/ready; do sleep 0.05; done"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	// What is on disk would fit, and what is in memory, but not both.
	if s, err := b.get(id); err != nil || b.readyDisk(s) != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, int64(st.Bavail)*st.Bsize-72<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	fork := forkOf(w, id)
	o := b.ended(b.launch(fork))
	if !o.Failed || o.Reason != core.EndStartFailed || o.ExitCode != nil || !strings.Contains(o.Message, "could not be saved: the disk of its runner is full") {
		t.Errorf("on a full disk: %v %s %s", o.Failed, o.Reason, o.Message)
	}
	if r := b.shell(id, "cat /workspace/small"); r.out != "kept\n" {
		t.Errorf("the sandbox does not go on: %+v", r)
	}
	if saved := filepath.Join(b.place.sandbox(fork.SandboxID), forkName); exists(shim.DiskFile(saved)) || exists(b.place.disk(fork.SandboxID)) {
		t.Error("something of the attempt is left")
	}
	// With less room it is not even tried, with more it works.
	if err := os.WriteFile(filler, make([]byte, int64(st.Bavail)*st.Bsize-52<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := b.ended(b.launch(forkOf(w, id))); !o.Failed || !strings.Contains(o.Message, "nearly full") {
		t.Errorf("on a disk that is nearly full: %v %s %s", o.Failed, o.Reason, o.Message)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	again := b.launch(forkOf(w, id))
	if r := b.shell(again, "cat /workspace/small"); r.out != "kept\n" {
		t.Errorf("%+v", r)
	}
}
