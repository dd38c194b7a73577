package local

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim/host"
)

const (
	crashSaves            = "BERM_TEST_CRASH_SAVES"
	crashSaved, crashFork = "crash-saved", "crash-fork"
)

// savesScenario suspends a sandbox, resumes it and forks it.
func savesScenario(ctx context.Context) error {
	b, err := New(ctx, Config{
		Dir: os.Getenv(crashDir), RunnerName: "crash", Runtimes: []string{"runsc"}, Shim: os.Getenv(crashShim), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	saved, fork := work("sleep", "infinity"), work("sleep", "infinity")
	saved.SandboxID, fork.SandboxID, fork.Launch.ForkOf = crashSaved, crashFork, crashSaved
	for _, w := range []*backend.Work{saved, fork} {
		w.Spec.RuntimeClass = proto.String("runsc")
		w.Spec.ResourceDefaults = &specpb.ResourceDefaults{EphemeralStorageLimit: proto.String("64Mi")}
	}
	if err := b.Create(ctx, saved); err != nil {
		return err
	}
	if _, err := b.await(ctx, crashSaved); err != nil {
		return err
	}
	// Where a shim dies, what follows fails: it is told, and what is left then is looked at.
	steps := []func() error{
		func() error { return b.Suspend(ctx, crashSaved) },
		func() error { return b.Resume(ctx, crashSaved) },
		func() error { return b.Create(ctx, fork) },
		func() error { _, err := b.await(ctx, crashFork); return err },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			fmt.Fprintf(os.Stderr, "step %d: %v\n", i, err)
			return nil
		}
	}
	return b.Close()
}

// TestCrashWhileSaving kills the server, and the shim, at each failpoint of suspending, resuming and forking. A server's death
// loses nothing: what was saved can be resumed, the sandbox and its fork run. A shim's loses its sandbox, and says so.
func TestCrashWhileSaving(t *testing.T) {
	for _, point := range slices.Concat(CheckpointFailpoints(), host.CheckpointFailpoints(), []string{"shim.before-restore=2", "shim.after-restore=2"}) {
		t.Run(point, func(t *testing.T) {
			b := &testBackend{t: t, cfg: Config{
				Dir: t.TempDir(), RunnerName: "crash", Runtimes: []string{"runsc"}, Shim: shimPath, Logger: slog.New(slog.DiscardHandler),
			}}
			t.Cleanup(func() {
				if b.Backend == nil {
					b.Backend = b.start()
				}
				b.finish()
			})
			log := t.TempDir() + "/log"
			cmd := exec.Command("/proc/self/exe", "-test.run", "^$")
			cmd.Env = append(os.Environ(), crashDir+"="+b.cfg.Dir, crashSaves+"=1", crashShim+"="+shimPath, failpoint.EnvSpec+"="+point, failpoint.EnvLog+"="+log)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
			out, err := cmd.CombinedOutput()
			if text, readErr := os.ReadFile(log); readErr != nil || len(text) == 0 {
				t.Fatalf("the scenario never came to %s: %v %s", point, err, out)
			}
			b.Backend = b.start()
			lost := 0
			for id := range b.snapshot() {
				o := b.await(id, "it settled", func(o *backend.Observation) bool {
					return o.Phase == backend.PhaseEnded || o.Phase == backend.PhaseRunning || o.Phase == backend.PhasePaused
				})
				if o.Phase == backend.PhasePaused {
					if err := b.Resume(t.Context(), id); err != nil {
						t.Errorf("%s was saved and cannot be resumed: %v", id, err)
					}
				}
				if o.Phase != backend.PhaseEnded {
					if r, err := b.tryExec(t.Context(), id, backend.Exec{Argv: []string{"echo", "alive"}}); err != nil || r.out != "alive\n" {
						t.Errorf("%s says that it lives: %+v %v", id, r, err)
					}
					continue
				}
				lost++
				if o.ExitCode != nil || !o.Failed || o.Reason != core.EndLost && o.Reason != core.EndStartFailed {
					t.Errorf("%s: %+v", id, o)
				}
			}
			if inShim := strings.HasPrefix(point, "shim."); inShim != (lost > 0) {
				t.Errorf("%d sandboxes were lost", lost)
			}
		})
	}
}
