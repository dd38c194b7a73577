package local

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/oci"
)

// BenchmarkFirstOutput measures, in turn and in one run, the time from Create to the first output: of a command in the new
// sandbox, made for it (exec) or from a full warm pool (warm), and of its main process, which its logs have (main). The bare runtime runs
// the command as its process, with the same configuration.
func BenchmarkFirstOutput(b *testing.B) {
	for _, runtime := range []string{"crun", "runc"} {
		b.Run(runtime, func(b *testing.B) {
			be := open(b, withRuntime(runtime))
			bare := newBare(b, be, runtime)
			var ours, printed, theirs, warm []time.Duration
			for b.Loop() {
				theirs = append(theirs, bare.run(b))
				ours = append(ours, firstOutput(b, be, work()))
				printed = append(printed, firstOutput(b, be, work("/bin/echo", "hi")))
				b.StopTimer()
				be.warmUp(warmWork(""), 1)
				b.StartTimer()
				w := warmWork("")
				warm = append(warm, firstOutput(b, be, w))
				b.StopTimer()
				be.noPools()
				b.StartTimer()
			}
			report(b, "exec", ours)
			report(b, "main", printed)
			report(b, "bare", theirs)
			report(b, "warm", warm)
			b.ReportMetric(float64(percentile(ours, 50)-percentile(theirs, 50))/1e6, "exec-diff-p50-ms")
			b.ReportMetric(float64(percentile(printed, 50)-percentile(theirs, 50))/1e6, "main-diff-p50-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkFirstOutputOfGVisor is BenchmarkFirstOutput with runsc, which does not run bare as it does for us: from the request to the
// first output of a command, of a new sandbox and of a prepared one.
func BenchmarkFirstOutputOfGVisor(b *testing.B) {
	be := open(b, withRuntime("runsc"))
	var cold, warm []time.Duration
	for b.Loop() {
		cold = append(cold, firstOutput(b, be, work()))
		b.StopTimer()
		be.warmUp(warmWork(""), 1)
		b.StartTimer()
		warm = append(warm, firstOutput(b, be, warmWork("")))
		b.StopTimer()
		be.noPools()
		b.StartTimer()
	}
	report(b, "exec", cold)
	report(b, "warm", warm)
}

// BenchmarkExec measures one command in a running sandbox, from the call to the exit frame.
func BenchmarkExec(b *testing.B) {
	be := open(b)
	id := be.launch(work())
	be.isRunning(id)
	var took []time.Duration
	for b.Loop() {
		at := time.Now()
		if r := be.exec(id, "true"); r.code != 0 {
			b.Fatal(r)
		}
		took = append(took, time.Since(at))
	}
	report(b, "exec", took)
}

func firstOutput(b *testing.B, be *testBackend, w *backend.Work) time.Duration {
	at := time.Now()
	if err := begin(b, be, w); err != nil {
		b.Fatal(err)
	}
	took := time.Since(at)
	b.StopTimer()
	if err := be.Stop(b.Context(), w.SandboxID, 0, core.EndDeleted); err != nil {
		b.Fatal(err)
	}
	be.ended(w.SandboxID)
	if err := be.Delete(b.Context(), w.SandboxID); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
	return took
}

// begin makes a sandbox and returns when its first output has arrived: its main process's, or, without one, that of a command.
func begin(b *testing.B, be *testBackend, w *backend.Work) error {
	if err := be.Create(b.Context(), w); err != nil {
		return err
	}
	var data []byte
	if w.Launch.GetCommand() != "" {
		l, err := be.Logs(b.Context(), w.SandboxID, backend.LogQuery{Follow: true})
		if err != nil {
			return err
		}
		f, err := l.Recv()
		if err != nil {
			return err
		}
		data = f.Data
		defer l.Close()
	} else {
		p, err := be.Exec(b.Context(), w.SandboxID, backend.Exec{Argv: []string{"echo", "hi"}})
		if err != nil {
			return err
		}
		f, err := p.Recv()
		if err != nil {
			return err
		}
		data = f.Data
		defer p.Close()
	}
	if string(data) != "hi\n" {
		return fmt.Errorf("%q was printed", data)
	}
	return nil
}

// bare runs a runtime by itself. before is what is made for it first, within what is measured, after what is taken away afterwards.
type bare struct {
	container     oci.Container
	before, after func() error
}

func newBare(b *testing.B, be *testBackend, runtime string, change ...func(*specs.Spec)) *bare {
	skeleton, err := be.host.Current()
	if err != nil {
		b.Fatal(err)
	}
	o, _ := read(work(), be.machine)
	o.diskBytes = 0 // The file system on disk is part of what is measured of ours.
	x := &boxed{bundle: bundle.Input{
		ID: "bare", Init: be.shim, Args: shim.InitArgs(bundle.InitPath, 0)[1:], Env: []string{"PATH=" + defaultPath},
		IDBase: base(MaxSandboxes - 1), CgroupsPath: be.place.cgroup("bare"), Limits: o.limits,
	}}
	s := newSandbox(work(), 0)
	if err := be.hostBox(x, s, o, b.TempDir()); err != nil {
		b.Fatal(err)
	}
	x.bundle.Root = skeleton.Path
	spec := bundle.Spec(&x.bundle)
	spec.Process.Args = []string{"/bin/echo", "hi"}
	for _, f := range change {
		f(spec)
	}
	dir := filepath.Join(be.place.run, "bare")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	writeSpec(b, dir, spec)
	b.Cleanup(func() { os.RemoveAll(dir) })
	nothing := func() error { return nil }
	return &bare{before: nothing, after: nothing, container: oci.Container{Runtime: be.runtimes[runtime].path, HideUnified: be.shimConfig("bare", be.runtimes[runtime], &x.bundle).HideUnified, Root: filepath.Join(dir, "state"), Bundle: dir, ID: "bare"}}
}

func writeSpec(b *testing.B, dir string, spec *specs.Spec) {
	data, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// run returns the time from the start of the runtime, or of what is made for it, to the first output. The mount namespace that crun needs on a machine
// with both cgroup versions is made by a shell that waits, outside of what is measured.
func (r *bare) run(b *testing.B) time.Duration {
	cmd := exec.Command(r.container.Runtime, "--root", r.container.Root, "run", "--bundle", r.container.Bundle, r.container.ID)
	if r.container.HideUnified {
		script := "umount -l /sys/fs/cgroup/unified; read x; exec " + r.container.Runtime + " --root " + r.container.Root + " run --bundle " + r.container.Bundle + " " + r.container.ID
		cmd = exec.Command("unshare", "-m", "--propagation", "slave", "sh", "-c", "echo ready; "+script)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	at := time.Now()
	if !r.container.HideUnified {
		err = r.before()
	}
	if err := errors.Join(err, cmd.Start()); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 64)
	if r.container.HideUnified {
		_, _ = out.Read(buf)
		time.Sleep(3 * time.Millisecond) // the unmount
		at = time.Now()
		if err := r.before(); err != nil {
			b.Fatal(err)
		}
		_, _ = in.Write([]byte("\n"))
	}
	n, err := out.Read(buf)
	took := time.Since(at)
	if err != nil || string(buf[:n]) != "hi\n" {
		b.Fatalf("%q %v %s", buf[:n], err, stderr.String())
	}
	b.StopTimer()
	if err := cmd.Wait(); err != nil {
		b.Fatalf("%v %s", err, stderr.String())
	}
	if err := r.after(); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
	return took
}

func report(b *testing.B, name string, took []time.Duration) {
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(percentile(took, p))/1e6, name+"-p"+map[int]string{50: "50", 99: "99"}[p]+"-ms")
	}
}

func percentile(took []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}
