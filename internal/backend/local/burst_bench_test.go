package local

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
)

// burst is how many sandboxes, or commands, are begun at once.
const (
	burstSandboxes = 100
	burstCommands  = 50
)

// BenchmarkBurst measures the time from the first Create to the last first output of 100 sandboxes that are asked for at once: of a
// command in each (exec), or of the main process of each (main), as in BenchmarkFirstOutput; and in turn with it what the bare runtime
// takes for the same 100.
func BenchmarkBurst(b *testing.B) {
	for _, runtime := range []string{"crun", "runc"} {
		b.Run(runtime, func(b *testing.B) {
			be := open(b, withRuntime(runtime))
			bares := newBares(b, be, runtime)
			var ours, printed, theirs []time.Duration
			for b.Loop() {
				theirs = append(theirs, bares.run(b))
				ours = append(ours, burst(b, be))
				printed = append(printed, burst(b, be, "/bin/echo", "hi"))
			}
			report(b, "exec", ours)
			report(b, "main", printed)
			report(b, "bare", theirs)
			b.ReportMetric(float64(percentile(ours, 50))/float64(percentile(theirs, 50)), "exec-ratio-p50")
			b.ReportMetric(float64(percentile(printed, 50))/float64(percentile(theirs, 50)), "main-ratio-p50")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkExecBurst measures 50 commands at once in one sandbox, each from the call to its exit.
func BenchmarkExecBurst(b *testing.B) {
	be := open(b)
	id := be.launch(work())
	be.isRunning(id)
	var took []time.Duration
	for b.Loop() {
		each := make([]time.Duration, burstCommands)
		var all sync.WaitGroup
		for i := range each {
			all.Go(func() {
				at := time.Now()
				if r := be.exec(id, "true"); r.code != 0 {
					b.Errorf("%+v", r)
				}
				each[i] = time.Since(at)
			})
		}
		all.Wait()
		took = append(took, each...)
	}
	report(b, "exec", took)
	b.ReportMetric(float64(percentile(took, 100))/float64(percentile(took, 50)), "max/p50")
	b.ReportMetric(0, "ns/op")
}

func burst(b *testing.B, be *testBackend, command ...string) time.Duration {
	ids := make([]string, burstSandboxes)
	var all sync.WaitGroup
	at := time.Now()
	for i := range ids {
		w := work(command...)
		ids[i] = w.SandboxID
		all.Go(func() {
			if err := begin(b, be, w); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	took := time.Since(at)
	b.StopTimer()
	defer b.StartTimer()
	for _, id := range ids {
		if err := be.Stop(b.Context(), id, 0, core.EndDeleted); err != nil {
			b.Fatal(err)
		}
	}
	for _, id := range ids {
		be.ended(id)
		if err := be.Delete(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
	return took
}

// bares are 100 bundles of a bare runtime.
type bares struct {
	one *bare
	ids []string
}

func newBares(b *testing.B, be *testBackend, runtime string) *bares {
	all := &bares{one: newBare(b, be, runtime)}
	spec, err := os.ReadFile(filepath.Join(all.one.container.Bundle, "config.json"))
	if err != nil {
		b.Fatal(err)
	}
	for i := range burstSandboxes {
		id := fmt.Sprintf("bare%d", i)
		dir := filepath.Join(all.one.container.Bundle, id)
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		own := bytes.Replace(spec, []byte(be.place.cgroup("bare")), []byte(be.place.cgroup(id)), 1)
		if err := os.WriteFile(filepath.Join(dir, "config.json"), own, 0o600); err != nil {
			b.Fatal(err)
		}
		all.ids = append(all.ids, id)
	}
	return all
}

// run starts all at once and returns when the last one has said something. What crun needs on a machine with both cgroup versions is
// made before, as for one.
func (r *bares) run(b *testing.B) time.Duration {
	b.StopTimer()
	c := r.one.container
	type started struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out io.ReadCloser
	}
	all := make([]started, len(r.ids))
	buf := make([]byte, 64)
	for i, id := range r.ids {
		argv := []string{c.Runtime, "--root", c.Root, "run", "--bundle", filepath.Join(c.Bundle, id), id}
		script := `echo ready; read x; exec "$@"`
		if c.HideUnified {
			script = "umount -l /sys/fs/cgroup/unified; " + script
		}
		cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", script, "sh"}, argv...)...)
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		cmd.Stderr = new(bytes.Buffer) // Left out it would be /dev/null, whose owner crun would change to the container's root.
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		if _, err := out.Read(buf); err != nil {
			b.Fatal(err)
		}
		all[i] = started{cmd, in, out}
	}
	b.StartTimer()
	at := time.Now()
	var wait sync.WaitGroup
	for _, s := range all {
		wait.Go(func() {
			text := make([]byte, 64)
			_, _ = s.in.Write([]byte("\n"))
			if n, err := s.out.Read(text); err != nil || string(text[:n]) != "hi\n" {
				b.Errorf("%q %v", text[:n], err)
			}
		})
	}
	wait.Wait()
	took := time.Since(at)
	b.StopTimer()
	for _, s := range all {
		if err := s.cmd.Wait(); err != nil {
			b.Error(err)
		}
	}
	b.StartTimer()
	return took
}
