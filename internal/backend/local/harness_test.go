package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/backend/local/library"
	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/specfile"
)

// patience is how long a test waits for something that must happen.
const patience = 60 * time.Second

// each runs a test under each runtime. The machine that tests run on has them all.
func each(t *testing.T, f func(t *testing.T, runtime string)) {
	t.Helper()
	for _, name := range []string{"crun", "runc", "runsc"} {
		t.Run(name, func(t *testing.T) { f(t, name) })
	}
}

// testBackend is a backend on a state directory of its own. At the end of the test nothing may be left on the machine.
type testBackend struct {
	*Backend
	t   testing.TB
	cfg Config
}

func open(t testing.TB, change ...func(*Config)) *testBackend {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), RunnerName: "test", Shim: shimPath, ImageFile: images(t, "allow: []"), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, f := range change {
		f(&cfg)
	}
	b := &testBackend{t: t, cfg: cfg}
	b.Backend = b.start()
	t.Cleanup(b.finish)
	return b
}

// images reads settings for images. What no test asks for is pulled from nowhere.
func images(t testing.TB, text string) *library.File {
	t.Helper()
	n, err := specfile.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f, err := library.Decode(n, "/")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func withRuntime(name string) func(*Config) {
	return func(c *Config) { c.Runtimes = []string{name} }
}

func (b *testBackend) start() *Backend {
	b.t.Helper()
	be, err := New(context.WithoutCancel(b.t.Context()), b.cfg)
	if err != nil {
		b.t.Fatalf("New: %v", err)
	}
	if why := be.Info().Refusal; why != "" {
		b.t.Fatalf("this machine runs no sandboxes: %s", why)
	}
	return be
}

// reopen is a restart of the server.
func (b *testBackend) reopen() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Fatalf("close: %v", err)
	}
	b.Backend = b.start()
}

// finish ends and deletes every sandbox and looks for leaks.
func (b *testBackend) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b.mu.Lock()
	var ids []string
	for id := range b.sandboxes {
		ids = append(ids, id)
	}
	b.mu.Unlock()
	for _, id := range ids {
		if err := b.Stop(ctx, id, 0, core.EndDeleted); err != nil {
			b.t.Errorf("stop %s: %v", id, err)
		}
		b.ended(id)
		if err := b.Delete(ctx, id); err != nil {
			b.t.Errorf("delete %s: %v", id, err)
		}
	}
	b.noPools()
	b.checkLeaks()
	if err := b.Close(); err != nil {
		b.t.Errorf("close: %v", err)
	}
	if exists(b.place.run) {
		b.t.Errorf("%s is left", b.place.run)
	}
	b.checkNetwork()
	if groups, _ := filepath.Glob(filepath.Join(cgroup.Root, "*", b.place.cgroupBase())); len(groups) > 0 {
		b.t.Errorf("control groups are left: %q", groups)
	}
}

// checkNetwork looks for links and tables of any server in the namespace of the tests.
func (b *testBackend) checkNetwork() {
	b.t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; name != "lo" && name != networktest.Uplink {
			b.t.Errorf("a link is left: %s", name)
		}
	}
	rules, err := nftables.New()
	if err != nil {
		b.t.Fatal(err)
	}
	if tables, err := rules.ListTables(); err != nil || len(tables) > 0 {
		b.t.Errorf("%d tables are left (%v)", len(tables), err)
	}
}

// checkLeaks looks for what sandboxes could leave on the machine.
func (b *testBackend) checkLeaks() {
	b.t.Helper()
	points, err := mountPoints(b.place.run)
	if err != nil {
		b.t.Fatal(err)
	}
	points = slices.DeleteFunc(points, func(p string) bool { return strings.HasPrefix(p, b.place.network()+"/") }) // Made ahead.
	dirs := []string{b.place.boxes(), b.place.bundles(), b.place.sandboxes(), b.place.trash()}
	mounted := 1
	if !exists(b.place.run) { // It was closed, and that took everything away.
		dirs, mounted = dirs[2:], 0
	}
	if len(points) != mounted {
		b.t.Errorf("mounts are left: %q", points)
	}
	for _, dir := range dirs {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			b.t.Errorf("%s: %v %v", dir, entries, err)
		}
	}
	groups, _ := filepath.Glob(filepath.Join(cgroup.Root, "*", b.place.cgroupBase(), "*"))
	for _, g := range groups {
		if info, err := os.Stat(g); err == nil && info.IsDir() {
			b.t.Errorf("a control group is left: %s", g)
		}
	}
	b.checkDevices()
	b.checkLoops()
	if left := processesOf(b.t, b.place.dir); len(left) > 0 {
		b.t.Errorf("processes are left: %q", left)
	}
	states, _ := filepath.Glob(filepath.Join(b.place.run, "runtime", "*", "[^.]*"))
	if len(states) > 0 {
		b.t.Errorf("runtime state is left: %q", states)
	}
	if entries, _ := filepath.Glob(filepath.Join(b.place.images(), "sha256", tempGlob)); len(entries) > 0 {
		b.t.Errorf("half-unpacked layers are left: %q", entries)
	}
}

// checkLoops looks for loop devices of this backend. They go a moment after their mounts.
func (b *testBackend) checkLoops() {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var found []string
		files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
		for _, f := range files {
			if data, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(data), b.place.dir) {
				found = append(found, string(data))
			}
		}
		if len(found) == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.t.Errorf("loop devices are left: %q", found)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// checkDevices looks whether the machine's devices are still its own: crun gives a container's standard streams to the
// container's user, whatever they are. Only the ids of this backend count; the machine may have other servers, of any age.
func (b *testBackend) checkDevices() {
	b.t.Helper()
	const used = 8 // Ranges are taken from the first on, and no test has more sandboxes at a time that it looks at.
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		var st unix.Stat_t
		if err := unix.Stat("/dev/"+name, &st); err != nil {
			b.t.Error(err)
			continue
		}
		if st.Uid < firstID || st.Uid >= lastID {
			continue
		}
		if n := int(st.Uid-firstID) / bundle.IDsPerSandbox; (n-b.ids.start+MaxSandboxes)%MaxSandboxes < used {
			b.t.Errorf("/dev/%s belongs to a sandbox: %d", name, st.Uid)
		}
	}
}

const tempGlob = "tmp-*"

// processesOf returns the command lines of processes that mention a state directory: shims, which end on their own once
// they are told to, so they get a moment.
func processesOf(t testing.TB, dir string) []string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var found []string
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if data, err := os.ReadFile(l); err == nil && bytes.Contains(data, []byte(dir)) {
				found = append(found, strings.ReplaceAll(string(data), "\x00", " "))
			}
		}
		if len(found) == 0 || time.Now().After(deadline) {
			return found
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var sequence atomic.Int64

// work is a small work on the image "host".
func work(command ...string) *backend.Work {
	w := &backend.Work{
		SandboxID: fmt.Sprintf("sbx-%d-%d", os.Getpid(), sequence.Add(1)), OrgID: "org", UserID: "user", RunnerID: "test",
		Spec: &specpb.ProfileSpec{
			ContainerImage:   proto.String("host"),
			ResourceDefaults: &specpb.ResourceDefaults{MemoryLimit: proto.String("128Mi"), CpuLimit: proto.String("1")},
			Network: &specpb.Network{Egress: &specpb.Egress{
				Default: proto.String("none"), Selected: proto.String("none"), Modes: map[string]*specpb.EgressMode{"none": {Type: "none"}},
			}},
		},
		Digest: "sha256:test", Launch: &specpb.Launch{},
	}
	if len(command) > 0 {
		w.Launch.Command, w.Launch.Args = command[0], command[1:]
	}
	return w
}

// launch creates a sandbox and returns its id.
func (b *testBackend) launch(w *backend.Work) string {
	b.t.Helper()
	if err := b.Check(w); err != nil {
		b.t.Fatalf("check: %v", err)
	}
	if err := b.Create(b.t.Context(), w); err != nil {
		b.t.Fatalf("create: %v", err)
	}
	return w.SandboxID
}

// await returns the first observation of a sandbox that satisfies ok.
func (b *testBackend) await(id, what string, ok func(*backend.Observation) bool) *backend.Observation {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last *backend.Observation
	for o := range b.Observe(ctx) {
		if o == nil || o.SandboxID != id {
			continue
		}
		if last = o; ok(o) {
			return o
		}
		if o.Phase == backend.PhaseEnded {
			break
		}
	}
	b.t.Fatalf("%s: waited in vain until %s; last seen: %+v", id, what, last)
	return nil
}

func (b *testBackend) ended(id string) *backend.Observation {
	b.t.Helper()
	return b.await(id, "it ended", func(o *backend.Observation) bool { return o.Phase == backend.PhaseEnded })
}

func (b *testBackend) isRunning(id string) *backend.Observation {
	b.t.Helper()
	return b.await(id, "it ran", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })
}

// ran is what a command did.
type ran struct {
	out, err string
	code     int32
}

// exec runs a command to its end.
func (b *testBackend) exec(id string, argv ...string) ran {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	r, err := b.tryExec(ctx, id, backend.Exec{Argv: argv})
	if err != nil {
		b.t.Fatalf("exec %q: %v", argv, err)
	}
	return r
}

// shell runs a script.
func (b *testBackend) shell(id, script string) ran {
	b.t.Helper()
	return b.exec(id, "sh", "-c", script)
}

func (b *testBackend) tryExec(ctx context.Context, id string, e backend.Exec) (ran, error) {
	p, err := b.Exec(ctx, id, e)
	if err != nil {
		return ran{}, err
	}
	defer p.Close()
	var r ran
	for {
		f, err := p.Recv()
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		switch f.Kind {
		case backend.FrameStdout:
			r.out += string(f.Data)
		case backend.FrameStderr:
			r.err += string(f.Data)
		case backend.FrameExit:
			r.code = f.ExitCode
		}
	}
}

// cgroupFile reads a file of a sandbox's control group, on whichever hierarchy has it.
func (b *testBackend) cgroupFile(id, controller, v1, v2 string) string {
	b.t.Helper()
	path := filepath.Join(cgroup.Root, controller, b.place.cgroup(id), v1)
	if b.machine.cgroup == cgroup.V2 {
		path = filepath.Join(cgroup.Root, b.place.cgroup(id), v2)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}
