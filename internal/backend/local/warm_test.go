package local

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim"
)

// warmWork is a work of the profile that pools are made for.
func warmWork(id string, command ...string) *backend.Work {
	w := work(command...)
	w.ProfileName = "warm"
	if id != "" {
		w.SandboxID = id
	}
	return w
}

func poolFor(w *backend.Work, size int) backend.Pool {
	return backend.Pool{OrgID: w.OrgID, RunnerID: w.RunnerID, ProfileName: w.ProfileName, Spec: w.Spec, Digest: w.Digest, Size: size}
}

// preparing runs a test under each runtime that can prepare sandboxes.
func preparing(t *testing.T, f func(t *testing.T, runtime string)) {
	t.Helper()
	for _, name := range []string{"crun", "runc", "runsc"} {
		t.Run(name, func(t *testing.T) { f(t, name) })
	}
}

// warmUp keeps size sandboxes for w prepared, and returns when they are.
func (b *testBackend) warmUp(w *backend.Work, size int) {
	b.t.Helper()
	if err := b.SetPools(context.Background(), []backend.Pool{poolFor(w, size)}); err != nil {
		b.t.Fatal(err)
	}
	b.isFull()
}

func (b *testBackend) isFull() {
	b.t.Helper()
	b.until("the pools are full", func() bool {
		return !slices.ContainsFunc(b.Pools(), func(p backend.PoolStatus) bool { return p.Ready < p.Size })
	})
}

func (b *testBackend) until(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("waited in vain until %s: %+v", what, b.Pools())
		}
	}
}

// noPools removes all pools, and returns when nothing of them is left.
func (b *testBackend) noPools() {
	b.t.Helper()
	if err := b.SetPools(context.Background(), nil); err != nil {
		b.t.Fatal(err)
	}
	b.until("no slot is left", func() bool { return b.slots() == 0 })
}

func (b *Backend) slots() int {
	b.pools.mu.Lock()
	defer b.pools.mu.Unlock()
	return b.pools.slots
}

// ready returns the slots that wait.
func (b *Backend) ready() []*slot {
	b.pools.mu.Lock()
	defer b.pools.mu.Unlock()
	var out []*slot
	for _, p := range b.pools.byKey {
		out = append(out, p.ready...)
	}
	return out
}

// verdict returns what was said of a sandbox's pool.
func (b *testBackend) verdict(id string) string {
	b.t.Helper()
	s, err := b.get(id)
	if err != nil {
		b.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	said := ""
	for _, e := range s.told {
		if e.Name == core.EventWarm {
			said = strings.TrimSpace(e.Attrs[core.AttrWarmResult] + " " + e.Attrs[core.AttrWarmReason])
		}
	}
	return said
}

// TestWarm: a prepared sandbox is what the launch says, and calls itself by its own name.
func TestWarm(t *testing.T) {
	preparing(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		b.warmUp(warmWork(""), 1)
		w := warmWork("", "sh", "-c", "echo $A > /tmp/main; exec sleep infinity")
		files := "mounted\ntoo\nro\n"
		if runtime == "runsc" { // Its mounts are its own kernel's: a launch with files gets a sandbox of its own.
			files = ""
		} else {
			w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/workspace/deep/f", Content: []byte("mounted\n")}, {Path: "/tmp/g", Content: []byte("too\n")}}
		}
		w.Launch.EnvironmentVariables = map[string]string{"A": "b"}
		id := b.launch(w)
		b.isRunning(id)
		if v := b.verdict(id); v != "hit" {
			t.Errorf("%q", v)
		}
		want := strings.Join([]string{"b", hostname(id), hostname(id), "127.0.1.1 " + hostname(id), "/workspace", "b", files}, "\n")
		look := "echo $A; uname -n; cat /etc/hostname; tail -1 /etc/hosts; pwd; cat /tmp/main"
		if files != "" {
			look += "; cat /workspace/deep/f /tmp/g; (echo x > /tmp/g) 2>/dev/null || echo ro"
		}
		if r := b.shell(id, look); r.out != want {
			t.Errorf("%q, want %q", r.out, want)
		}
		// What gave it its name is no right of anybody inside.
		if r := b.shell(id, "hostname other 2>/dev/null; /dev/berm/init hostname other 2>/dev/null; uname -n"); r.out != hostname(id)+"\n" {
			t.Errorf("it could name itself: %q", r.out)
		}
		// It has the limits of its spec: the group is that of the slot.
		s, err := b.get(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.cgroupFile(s.slot, "memory", "memory.limit_in_bytes", "memory.max"); got != "134217728" {
			t.Errorf("memory limit %s", got)
		}
		if o := b.isRunning(id); len(o.Submitted) == 0 {
			t.Error("nothing was submitted")
		}
	})
}

// TestWarmSaved: a sandbox that was prepared is saved and brought back as the launch made it.
func TestWarmSaved(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	b.warmUp(warmWork(""), 1)
	w := warmWork("", "sleep", "infinity")
	w.Launch.EnvironmentVariables = map[string]string{"A": "b"}
	id := b.launch(w)
	b.isRunning(id)
	if v := b.verdict(id); v != "hit" {
		t.Fatalf("%q", v)
	}
	if err := b.Suspend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := b.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if r := b.shell(id, "echo $A; pwd; uname -n"); r.out != "b\n/workspace\n"+hostname(id)+"\n" {
		t.Errorf("%q", r.out)
	}
}

// TestWarmIsNobodys: what is prepared is seen by no observer and counts for nobody, and nothing that one sandbox left is in the next.
func TestWarmIsNobodys(t *testing.T) {
	b := open(t)
	b.warmUp(warmWork(""), 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for o := range b.Observe(ctx) {
		if o == nil {
			break
		}
		t.Errorf("somebody is told of %+v", o)
	}
	slots := map[string]bool{}
	var ids []int
	for range 3 {
		b.isFull()
		id := b.launch(warmWork(""))
		b.isRunning(id)
		s, err := b.get(id)
		if err != nil || slots[s.slot] || slices.Contains(ids, s.ids) || b.verdict(id) != "hit" {
			t.Fatalf("%v: slot %s was used before, or range %d: %s", err, s.slot, s.ids, b.verdict(id))
		}
		slots[s.slot], ids = true, append(ids, s.ids)
		if r := b.shell(id, "ls -A /tmp /root /home /workspace /dev/shm /var/tmp; ps ax 2>/dev/null | grep secret | grep -v grep"); strings.Contains(r.out, "secret") {
			t.Errorf("of the one before: %q", r.out)
		}
		if r := b.shell(id, "for d in /tmp /root /home /workspace /dev/shm; do echo s > $d/secret; done; (sleep 1000 & echo secret) >/dev/null"); r.code != 0 {
			t.Error(r)
		}
	}
}

func TestWarmMisses(t *testing.T) {
	b := open(t)
	b.warmUp(warmWork(""), 1)
	file, other := warmWork(""), warmWork("")
	file.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/etc/f", Content: []byte("x")}}
	other.Spec.ResourceDefaults.CpuLimit, other.Digest = proto.String("500m"), "sha256:other"
	for want, w := range map[string]*backend.Work{"miss REQUEST_NEEDS_OWN": file, "miss SPEC_DIFFERS": other, "miss NO_POOL": work()} {
		id := b.launch(w)
		b.isRunning(id)
		if v := b.verdict(id); v != want {
			t.Errorf("%q, want %q", v, want)
		}
	}
	// One that cannot be prepared says why, and the next try is put off.
	broken := warmWork("")
	broken.Spec.RuntimeClass, broken.Digest = proto.String("none"), "sha256:broken"
	if err := b.SetPools(t.Context(), []backend.Pool{poolFor(broken, 1)}); err != nil {
		t.Fatal(err)
	}
	b.until("the failure is told", func() bool { return b.Pools()[0].Problem != "" })
	if p := b.Pools()[0]; !strings.Contains(p.Problem, `no runtime "none"`) || p.RetryAt.IsZero() {
		t.Errorf("%+v", p)
	}
}

// TestWarmDeath: a prepared sandbox that died is never handed out. One that dies while it is taken is replaced by a new one.
func TestWarmDeath(t *testing.T) {
	preparing(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		b.warmUp(warmWork(""), 2)
		dead := b.ready()[0]
		kill(t, b, dead.slot)
		b.until("it is replaced", func() bool { return !slices.Contains(b.ready(), dead) && b.Pools()[0].Ready == 2 })
		if exists(b.place.sandbox(dead.slot)) {
			b.until("its records are gone", func() bool { return !exists(b.place.sandbox(dead.slot)) })
		}
		w := warmWork("", "sh", "-c", "echo alive; exec sleep infinity")
		sl, v := b.take(w)
		if sl == nil || !v.Hit {
			t.Fatalf("%+v", v)
		}
		kill(t, b, sl.slot)
		if err := b.acceptPrepared(w, sl, v); err != nil {
			t.Fatal(err)
		}
		b.isRunning(w.SandboxID)
		if v := b.verdict(w.SandboxID); v != "miss DIED" {
			t.Errorf("%q", v)
		}
		if r := b.exec(w.SandboxID, "uname", "-n"); r.out != hostname(w.SandboxID)+"\n" {
			t.Errorf("%q", r)
		}
		b.reopen()
		b.isRunning(w.SandboxID)
	})
}

// kill ends the process 1 of a slot, from outside, and returns when its shim has seen it.
func kill(t *testing.T, b *testBackend, slot string) {
	t.Helper()
	dir := b.place.shimState(slot)
	r, err := shim.ReadRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("its end is seen", func() bool {
		e, err := shim.ReadExit(dir)
		return err == nil && e != nil || !exists(dir)
	})
}

// TestWarmStop: a stop that comes before the main process runs is the end, without a code.
func TestWarmStop(t *testing.T) {
	b := open(t)
	b.warmUp(warmWork(""), 4)
	for range 4 {
		w := warmWork("", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.01; done")
		id := b.launch(w)
		if err := b.Stop(t.Context(), id, time.Second, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		if o := b.ended(id); o.Failed || o.Reason != core.EndStopped || (o.ExitCode != nil && o.StartedAt.IsZero()) {
			t.Errorf("%+v", o)
		}
	}
}

// TestWarmAndRestart: those that nobody took go with the server; those that somebody took stay theirs.
func TestWarmAndRestart(t *testing.T) {
	b := open(t)
	b.warmUp(warmWork(""), 2)
	taken := warmWork("", "sleep", "infinity")
	id := b.launch(taken)
	b.isRunning(id)
	b.isFull()
	b.reopen()
	if left, err := filepath.Glob(filepath.Join(b.place.sandboxes(), "*")); err != nil || len(left) != 1 {
		t.Errorf("%q %v", left, err)
	}
	if r := b.exec(id, "uname", "-n"); r.out != hostname(id)+"\n" {
		t.Errorf("%q", r.out)
	}
	if v := b.verdict(id); v != "hit" {
		t.Errorf("%q", v)
	}
	if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	b.ended(id)
	if err := b.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(b.place.sandboxes()); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

// TestWarmImage: the entrypoint of the image is that of the prepared sandbox; one of an image that has changed is not handed out.
func TestWarmImage(t *testing.T) {
	tool := buildTool(t)
	l := imagetest.New(t)
	config := v1.Config{Entrypoint: []string{"/bin/tool"}, Cmd: []string{"idle"}, Env: []string{"FROM=image", "PATH=/bin"}, WorkingDir: "/"}
	l.Add(imagetest.Image{Layers: [][]byte{tool}, Config: config})
	b := open(t, func(c *Config) { c.Images = map[string]string{"tool": "oci:" + l.Dir} })
	prepared := imageWork("tool")
	prepared.ProfileName = "warm"
	b.warmUp(prepared, 1)
	w := imageWork("tool")
	w.ProfileName, w.Launch.EnvironmentVariables = "warm", map[string]string{"OWN": "launch"}
	w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/given/here/f", Content: []byte("mounted")}}
	id := b.launch(w)
	b.isRunning(id)
	s, err := b.get(id)
	if err != nil || b.verdict(id) != "hit" {
		t.Fatalf("%v %s", err, b.verdict(id))
	}
	if r, _, err := b.ReadFile(t.Context(), id, "/given/here/f", 100); err != nil {
		t.Error(err)
	} else if data, err := io.ReadAll(r); err != nil || string(data) != "mounted" {
		t.Errorf("%q %v", data, err)
	}
	s.mu.Lock()
	told := slices.ContainsFunc(s.told, func(e core.Event) bool { return e.Name == eventImage && e.Attrs["digest"] != "" })
	s.mu.Unlock()
	if !told {
		t.Error("nothing says which image it has")
	}
	b.isFull()
	config.Env = append(config.Env, "NEW=1")
	l.Index.Manifests = nil
	l.Add(imagetest.Image{Layers: [][]byte{tool}, Config: config})
	again := imageWork("tool")
	again.ProfileName = "warm"
	id = b.launch(again)
	b.isRunning(id)
	if v := b.verdict(id); v != "miss IMAGE_CHANGED" {
		t.Errorf("%q", v)
	}
	b.until("new ones are prepared from the new image", func() bool {
		r := b.ready()
		o, _ := read(again, b.machine)
		now, err := b.imageNow(o)
		return err == nil && len(r) == 1 && r[0].content == now
	})
}
