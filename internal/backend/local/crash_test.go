package local

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
)

// Environment of the process that TestCrash kills: its state directory, a layout, a registry, and the shim.
const (
	crashDir      = "BERM_LOCAL_CRASH_DIR"
	crashLayout   = "BERM_LOCAL_CRASH_LAYOUT"
	crashRegistry = "BERM_LOCAL_CRASH_REGISTRY"
	crashNames    = "BERM_LOCAL_CRASH_NAMES"
	crashShim     = "BERM_LOCAL_CRASH_SHIM"
)

// crashIDs are the sandboxes of the scenario, with the exit code that they alone can have.
const (
	crashIdle, crashShort, crashImage = "crash-idle", "crash-short", "crash-image"
	crashPulled                       = "crash-pulled"
	crashProgram, crashMissing        = "crash-program", "crash-missing"
	crashWarm, crashWarmShort         = "crash-warm", "crash-warm-short"
	crashWarmProgram                  = "crash-warm-program"
	crashCode                         = 33
)

// crashScenario is a life of a server with everything in it: sandboxes that run, end, are stopped and deleted, and a restart.
func crashScenario() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if os.Getenv(crashSaves) != "" {
		return savesScenario(ctx)
	}
	cfg := Config{
		Dir: os.Getenv(crashDir), RunnerName: "crash", Runtimes: []string{"crun"}, Shim: os.Getenv(crashShim),
		Images: map[string]string{"tool": "oci:" + os.Getenv(crashLayout)}, Logger: slog.New(slog.DiscardHandler),
	}
	host := os.Getenv(crashRegistry)
	names, err := netip.ParseAddrPort(os.Getenv(crashNames))
	if err != nil {
		return err
	}
	cfg.NameServers = []netip.AddrPort{names}
	if cfg.ImageFile, err = nearFile(host); err != nil {
		return err
	}
	b, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	// Some of the sandboxes are prepared: those of profile "warm".
	if err := b.SetPools(ctx, []backend.Pool{poolFor(warmWork(""), 4)}); err != nil {
		return err
	}
	for b.Pools()[0].Ready < 4 {
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	for _, w := range crashWorks(host) {
		if err := b.Create(ctx, w); err != nil {
			return err
		}
	}
	for _, id := range []string{crashIdle, crashImage, crashPulled, crashWarm} {
		if _, err := b.await(ctx, id); err != nil {
			return err
		}
	}
	for _, id := range []string{crashShort, crashProgram, crashMissing, crashWarmShort, crashWarmProgram} {
		if err := crashEnd(ctx, b, id); err != nil {
			return err
		}
	}
	for _, call := range []func(context.Context, string) error{b.Pause, b.Resume} {
		if err := call(ctx, crashIdle); err != nil {
			return err
		}
	}
	for _, id := range []string{crashImage, crashPulled} {
		if err := b.Stop(ctx, id, time.Second, core.EndStopped); err != nil {
			return err
		}
		if err := crashEnd(ctx, b, id); err != nil {
			return err
		}
	}
	for _, id := range []string{crashShort, crashImage, crashPulled} {
		if err := b.Delete(ctx, id); err != nil {
			return err
		}
	}
	if _, err := b.RemoveImage(ctx, crashRef(host), true); err != nil {
		return err
	}
	if err := b.Close(); err != nil {
		return err
	}
	// A restart, which finds one running.
	if b, err = New(ctx, cfg); err != nil {
		return err
	}
	return b.Close()
}

// crashRef is the image that the scenario pulls, and removes at its end.
func crashRef(host string) string { return host + "/team/pulled:v1" }

func crashWorks(host string) []*backend.Work {
	pulled := imageWork(crashRef(host))
	pulled.SandboxID = crashPulled
	idle, short, img := work("sleep", "infinity"), work("sh", "-c", fmt.Sprintf("getent hosts named.example; exit %d", crashCode)), imageWork("tool")
	program, missing := work("no-such-program"), imageWork("no-such-image")
	idle.SandboxID, short.SandboxID, img.SandboxID, program.SandboxID, missing.SandboxID = crashIdle, crashShort, crashImage, crashProgram, crashMissing
	idle.Spec.Network, short.Spec.Network = networked("internet"), networked("allowlist", "1.1.1.0/24")
	short.Spec.Network.Egress.Modes["net"].DnsNames = []string{"named.example"}
	short.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/data/f", Content: []byte("x")}}
	warm := warmWork(crashWarm, "sleep", "infinity")
	warm.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/tmp/f", Content: []byte("x")}}
	return []*backend.Work{
		idle, short, img, pulled, program, missing, warm,
		warmWork(crashWarmShort, "sh", "-c", fmt.Sprintf("exit %d", crashCode)), warmWork(crashWarmProgram, "no-such-program"),
	}
}

func crashEnd(ctx context.Context, b *Backend, id string) error {
	for o := range b.Observe(ctx) {
		if o != nil && o.SandboxID == id && o.Phase == backend.PhaseEnded {
			return nil
		}
	}
	return fmt.Errorf("%s did not end", id)
}

// TestCrash kills a server at each of its failpoints, and opens what is left: every sandbox that was accepted is there, in a
// state that is true, and can be ended and deleted without a trace.
func TestCrash(t *testing.T) {
	networktest.New(t)
	l := imagetest.New(t)
	tool := buildTool(t)
	l.Add(imagetest.Image{Layers: [][]byte{tool}, Config: v1.Config{Cmd: []string{"/bin/tool", "idle"}}})
	// One layer of the image that is pulled is its own, and goes with it.
	reg, remote := imagetest.Serve(t), imagetest.New(t)
	remote.Add(imagetest.Image{
		Name: "v1", Layers: [][]byte{tool, imagetest.Tar(t, imagetest.File("own", "x"))}, Compress: true, Config: v1.Config{Cmd: []string{"/bin/tool", "idle"}},
	})
	reg.Push("team/pulled", remote)
	outside := newNameServer(t, "named.example. 60 A 9.9.9.9")
	// The shim's client has failpoints in the server too. The first hit of those is a probe's, a later one a sandbox's.
	points := slices.Concat(Failpoints(), shim.Failpoints())
	for _, p := range shim.Failpoints() {
		points = append(points, p+"=3")
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			b := &testBackend{t: t, cfg: Config{
				Dir: t.TempDir(), RunnerName: "crash", Runtimes: []string{"crun"}, Shim: shimPath, Images: map[string]string{"tool": "oci:" + l.Dir},
				Logger: slog.New(slog.DiscardHandler),
			}}
			near(t, reg)(&b.cfg)
			b.cfg.NameServers = []netip.AddrPort{outside.at}
			// Also what a scenario that fails leaves is cleaned up.
			t.Cleanup(func() {
				if b.Backend == nil {
					b.Backend = b.start()
				}
				b.finish()
			})
			out, err := crashAt(t, b.cfg.Dir, l.Dir, reg.Host, outside.at.String(), point)
			if err != nil && !strings.Contains(err.Error(), "killed") {
				t.Fatalf("the scenario failed by itself: %v\n%s", err, out)
			}
			if err == nil {
				t.Fatalf("the scenario never came to %s", point)
			}
			b.Backend = b.start()
			crashCheck(t, b)
			if b.snapshot()[crashIdle] {
				b.connects(crashIdle, map[string]bool{"1.1.1.1:443": true, "10.0.0.1:443": false, "169.254.169.254:80": false})
			}
		})
	}
}

// crashAt runs the scenario in a process of its own.
func crashAt(t *testing.T, dir, layout, host, names, point string) (string, error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashLayout+"="+layout, crashRegistry+"="+host, crashNames+"="+names, crashShim+"="+shimPath, failpoint.EnvSpec+"="+point)
	// A group of its own: shims must survive that the server's is killed, and nothing else may be hit.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// crashCheck waits until every sandbox has settled and checks what is told of it.
func crashCheck(t *testing.T, b *testBackend) {
	t.Helper()
	for id := range b.snapshot() {
		o := b.await(id, "it settled", func(o *backend.Observation) bool {
			return o.Phase == backend.PhaseEnded || (o.Phase == backend.PhaseRunning || o.Phase == backend.PhasePaused) && (id == crashIdle || id == crashWarm || (id == crashImage || id == crashPulled) && !b.stopped(id))
		})
		if o.Phase == backend.PhasePaused {
			// The pause was done and not told any more: it is told now, and can be ended.
			if err := b.Resume(t.Context(), id); err != nil || id != crashIdle {
				t.Errorf("%s is paused: %v", id, err)
			}
			o.Phase = backend.PhaseRunning
		}
		switch {
		case o.Phase == backend.PhaseRunning:
			if _, err := b.tryExec(t.Context(), id, backend.Exec{Argv: []string{"/dev/berm-init"}}); err != nil {
				t.Errorf("%s says that it runs: %v", id, err)
			}
		case o.Reason == core.EndLost:
			// Only a shim that died loses an end; this crash was the server's.
			t.Errorf("%s was lost: %+v", id, o)
		case (id == crashShort || id == crashWarmShort) && (o.ExitCode == nil || *o.ExitCode != crashCode):
			t.Errorf("%s: %+v", id, o)
		case (id == crashProgram || id == crashWarmProgram) && (o.ExitCode != nil || o.Reason != core.EndStartFailed):
			t.Errorf("%s: %+v", id, o)
		case id == crashMissing && (o.ExitCode != nil || o.Reason != core.EndImageFailed):
			t.Errorf("%s: %+v", id, o)
		case id == crashIdle, id == crashWarm:
			t.Errorf("%s ended: %+v", id, o)
		}
	}
}

func (b *testBackend) snapshot() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := map[string]bool{}
	for id := range b.sandboxes {
		ids[id] = true
	}
	return ids
}

func (b *testBackend) stopped(id string) bool {
	s, err := b.get(id)
	return err == nil && s.stopping() != nil
}
