package shim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/shim/oci"
)

// These tests run real sandboxes: they need root, crun and runc. Each makes its own state directory, bundle and control
// group, and ends with a check that nothing of it is left.

// patience is how long a test waits for something that real processes have to do, before it fails.
const patience = 30 * time.Second

// hostBase is where the sandboxes' user namespaces begin on the host, hostIDs how many ids each has; openFiles is how many descriptors
// each of their processes may have.
const (
	hostBase, hostIDs = 100000, 65536
	openFiles         = 1000
)

var (
	binary   string // berm-shim
	attacker string // testdata/attacker
	skeleton string // the root file system that all sandboxes share, read-only
	counter  atomic.Int64
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(serverConfig) != "" {
		return serve()
	}
	dir, err := os.MkdirTemp("", "berm-shim-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func prepare(dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("these tests run sandboxes: they need root")
	}
	if err := os.Chmod(dir, 0o711); err != nil { // Sandboxes' users must get to the root file system.
		return err
	}
	binary = filepath.Join(dir, "berm-shim")
	attacker = filepath.Join(dir, "attacker")
	for output, source := range map[string]string{binary: "../../cmd/berm-shim", attacker: "./testdata/attacker"} {
		flags := slices.Concat([]string{"build", "-trimpath", "-ldflags", "-s -w"}, buildFlags, []string{"-o", output, source})
		build := exec.Command("go", flags...)
		build.Env = append(os.Environ(), buildEnv...)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w: %s", err, out)
		}
	}
	if err := os.Chmod(binary, shim.BinaryMode); err != nil {
		return err
	}
	skeleton = filepath.Join(dir, "root")
	return makeSkeleton(skeleton)
}

func makeSkeleton(root string) error {
	for _, d := range []string{"usr", "etc", "proc", "dev", "tmp", "small", "root", "home", "workspace", ".berm"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		target, err := os.Readlink("/" + name)
		if err != nil {
			continue
		}
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"init", "attacker"} {
		if err := os.WriteFile(filepath.Join(root, ".berm", name), nil, 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644)
}

// sandbox is a sandbox under test.
type sandbox struct {
	t      testing.TB
	cfg    shim.Config
	spec   map[string]any
	client *shim.Client
}

type object = map[string]any

// newSandbox prepares a sandbox that is not started. The runtime is "crun" or "runc".
func newSandbox(t testing.TB, runtime string, main ...string) *sandbox {
	t.Helper()
	path, err := exec.LookPath(runtime)
	if err != nil {
		t.Fatal(err)
	}
	mode, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: the sandbox's user must get to it, and its removal must come after the checks.
	dir, err := os.MkdirTemp(filepath.Dir(binary), "sb-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("t%d-%d", os.Getpid(), counter.Add(1))
	base := fmt.Sprintf("/berm-test-%d", os.Getpid())
	s := &sandbox{t: t, cfg: shim.Config{
		Dir: filepath.Join(dir, "state"), ID: id, Runtime: path, RuntimeRoot: filepath.Join(dir, "runtime"),
		Bundle: filepath.Join(dir, "bundle"), Main: main,
		Cgroup:      cgroup.Group{Mode: mode, Path: base + "/" + id, Base: "/"},
		HideUnified: mode == cgroup.Hybrid && runtime == "crun", IDs: &oci.IDs{First: hostBase, Count: hostIDs},
	}}
	for _, d := range []string{s.cfg.Dir, s.cfg.RuntimeRoot, s.cfg.Bundle} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.spec = s.defaultSpec()
	before := mounts(t)
	t.Cleanup(func() {
		s.destroy()
		s.checkNothingLeft(before)
		os.RemoveAll(dir)
	})
	return s
}

func (s *sandbox) defaultSpec() object {
	bind := func(from, to string) object {
		return object{"destination": to, "source": from, "type": "bind", "options": []string{"rbind", "ro", "nosuid", "nodev"}}
	}
	tmpfs := func(to, size string) object {
		return object{"destination": to, "source": "tmpfs", "type": "tmpfs", "options": []string{"nosuid", "nodev", "mode=0777", "size=" + size}}
	}
	ids := []object{{"containerID": 0, "hostID": hostBase, "size": hostIDs}}
	return object{
		"ociVersion": "1.0.2",
		"process": object{
			"args": shim.InitArgs("/.berm/init", openFiles), "cwd": "/", "env": initEnv, "noNewPrivileges": true,
			"user": object{"uid": 0, "gid": 0}, "capabilities": object{},
		},
		"root": object{"path": skeleton, "readonly": true},
		"mounts": []object{
			{"destination": "/proc", "source": "proc", "type": "proc"},
			{"destination": "/dev", "source": "tmpfs", "type": "tmpfs", "options": []string{"nosuid", "mode=755", "size=65536k"}},
			{"destination": "/dev/pts", "source": "devpts", "type": "devpts", "options": []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{"destination": "/dev/shm", "source": "shm", "type": "tmpfs", "options": []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			bind("/usr", "/usr"), bind(binary, "/.berm/init"), bind(attacker, "/.berm/attacker"),
			tmpfs("/tmp", "256m"), tmpfs("/small", "1m"), tmpfs("/root", "16m"), tmpfs("/workspace", "64m"),
		},
		"linux": object{
			"cgroupsPath": s.cfg.Cgroup.Path, "uidMappings": ids, "gidMappings": ids,
			"namespaces":  []object{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "user", "path": shim.UserNamespace(s.cfg.Bundle)}, {"type": "network"}},
			"resources":   object{"memory": object{"limit": 512 << 20}, "pids": object{"limit": 512}},
			"maskedPaths": []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"},
		},
	}
}

// limitMemory sets the memory limit, swap included.
func (s *sandbox) limitMemory(bytes int64) {
	s.spec["linux"].(object)["resources"].(object)["memory"] = object{"limit": bytes, "swap": bytes}
}

func (s *sandbox) writeBundle() {
	s.t.Helper()
	data, err := json.Marshal(s.spec)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.cfg.Bundle, "config.json"), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// tryStart starts the sandbox and returns the error.
func (s *sandbox) tryStart() error {
	s.t.Helper()
	s.writeBundle()
	c, err := shim.Start(s.ctx(), binary, s.cfg)
	s.client = c
	return err
}

// start returns a running sandbox.
func start(t testing.TB, runtime string, main ...string) *sandbox {
	t.Helper()
	s := newSandbox(t, runtime, main...)
	s.mustStart()
	return s
}

func (s *sandbox) mustStart() {
	s.t.Helper()
	if err := s.tryStart(); err != nil {
		s.t.Fatalf("start: %v\n%s", err, s.logs())
	}
}

// ctx ends with the test, or when patience does.
func (s *sandbox) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *sandbox) logs() string {
	var b strings.Builder
	for _, name := range []string{"shim.log", "exit.json", "state.json", filepath.Join("..", filepath.Base(s.cfg.Bundle), "berm-runtime.log")} {
		data, err := os.ReadFile(filepath.Join(s.cfg.Dir, name))
		if err == nil {
			fmt.Fprintf(&b, "%s: %s\n", name, bytes.TrimSpace(data))
		}
	}
	return b.String()
}

// wait returns how the sandbox ended.
func (s *sandbox) wait() shim.Exit {
	s.t.Helper()
	e, err := s.client.Wait(s.ctx())
	if err != nil {
		s.t.Fatalf("wait: %v\n%s", err, s.logs())
	}
	return e
}

// stop ends the sandbox now.
func (s *sandbox) stop() shim.Exit {
	s.t.Helper()
	if err := s.client.Stop(s.ctx(), 0); err != nil {
		s.t.Fatalf("stop: %v", err)
	}
	return s.wait()
}

// shimPID returns the shim's process id.
func (s *sandbox) shimPID() int {
	s.t.Helper()
	r, err := shim.ReadRecord(s.cfg.Dir)
	if err != nil || r == nil {
		s.t.Fatalf("no record: %v", err)
	}
	return r.ShimPID
}

// destroy ends whatever the test left, the way a server would.
func (s *sandbox) destroy() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := shim.Inspect(s.cfg.Dir)
	if err != nil {
		s.t.Errorf("inspect: %v", err)
		return
	}
	if st.Status == shim.StatusNone {
		return
	}
	if c, err := shim.Connect(ctx, s.cfg.Dir); err == nil {
		_ = c.Stop(ctx, 0)
		if _, err := c.Wait(ctx); err != nil && !errors.Is(err, shim.ErrLost) {
			s.t.Errorf("wait: %v", err)
		}
		_ = c.Forget(ctx)
	}
	if _, err := shim.Cleanup(ctx, s.cfg.Dir); err != nil {
		s.t.Errorf("cleanup: %v\n%s", err, s.logs())
	}
	log, err := os.ReadFile(filepath.Join(s.cfg.Dir, "shim.log"))
	if err == nil && (bytes.Contains(log, []byte("DATA RACE")) || bytes.Contains(log, []byte("panic:"))) {
		s.t.Errorf("the shim's log: %s", log)
	}
}

// checkNothingLeft fails the test when anything of the sandbox is left on the machine.
func (s *sandbox) checkNothingLeft(mountsBefore []string) {
	s.t.Helper()
	eventually(s.t, "no process of the sandbox is left", func() error {
		if pids := s.processes(); len(pids) > 0 {
			return fmt.Errorf("processes %v", pids)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(s.cfg.RuntimeRoot, s.cfg.ID)); err == nil {
		s.t.Errorf("the runtime still knows %s", s.cfg.ID)
	}
	groups, _ := filepath.Glob(filepath.Join(cgroup.Root, "*", s.cfg.Cgroup.Path))
	if more, _ := filepath.Glob(filepath.Join(cgroup.Root, s.cfg.Cgroup.Path)); len(groups)+len(more) > 0 {
		s.t.Errorf("control groups are left: %v %v", groups, more)
	}
	for _, m := range mounts(s.t) {
		if !slices.Contains(mountsBefore, m) && strings.Contains(m, filepath.Dir(s.cfg.Dir)) {
			s.t.Errorf("mount is left: %s", m)
		}
	}
}

// processes lists those on the machine that name the sandbox: its shim, its runtime; and those in its control group.
func (s *sandbox) processes() []int {
	pids, _ := s.cfg.Cgroup.Procs()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		line, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || !bytes.Contains(line, []byte(filepath.Dir(s.cfg.Dir))) && !bytes.Contains(line, []byte(s.cfg.ID)) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(d))
		if pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func mounts(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(data), "\n")
}

// eventually polls until check has nothing to say.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: %v", what, err)
			return
		}
		time.Sleep(2 * time.Millisecond) // A real process has to do something.
	}
}

// result is what a command said and how it ended.
type result struct {
	stdout, stderr string
	code           int32
	signal         int
}

// collect reads a process to its end.
func collect(p *shim.Process) (result, error) {
	var r result
	var out, errs bytes.Buffer
	for {
		f, err := p.Recv()
		if err != nil {
			return r, err
		}
		switch f.Kind {
		case shim.FrameStdout:
			out.Write(f.Data)
		case shim.FrameStderr:
			errs.Write(f.Data)
		case shim.FrameExit:
			r.stdout, r.stderr, r.code, r.signal = out.String(), errs.String(), f.ExitCode, f.Signal
			if _, err := p.Recv(); !errors.Is(err, io.EOF) {
				return r, fmt.Errorf("after the exit: %w", err)
			}
			return r, nil
		}
	}
}

// exec runs a command to its end.
func (s *sandbox) exec(argv ...string) (result, error) {
	p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: argv})
	if err != nil {
		return result{}, err
	}
	defer p.Close()
	return collect(p)
}

// sh runs a shell script that must succeed, and returns its output without the last line break.
func (s *sandbox) sh(script string) string {
	s.t.Helper()
	r, err := s.exec("/bin/sh", "-c", script)
	if err != nil || r.code != 0 {
		s.t.Fatalf("%s: code %d, %v: %s%s", script, r.code, err, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// runtimes runs a test with both runtimes.
func runtimes(t *testing.T, test func(t *testing.T, runtime string)) {
	for _, r := range []string{"crun", "runc"} {
		t.Run(r, func(t *testing.T) { test(t, r) })
	}
}

// dialShim connects to a shim's socket from its directory, the path being too long for an address.
func dialShim(dir string) (*net.UnixConn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/shim.sock", d.Fd()), Net: "unix"})
}
