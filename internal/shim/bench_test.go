package shim_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/oci"
)

// percentiles reports median and tail of what a benchmark measured for itself.
func percentiles(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

func bench(b *testing.B, run func(b *testing.B, runtime string)) {
	for _, r := range []string{"crun", "runc"} {
		b.Run(r, func(b *testing.B) { run(b, r) })
	}
}

// BenchmarkExec is the round trip of a command that does nothing, through shim and init.
func BenchmarkExec(b *testing.B) {
	bench(b, func(b *testing.B, runtime string) {
		s := start(b, runtime)
		var took []time.Duration
		for b.Loop() {
			begin := time.Now()
			if r, err := s.exec("/bin/true"); err != nil || r.code != 0 {
				b.Fatal(r, err)
			}
			took = append(took, time.Since(begin))
		}
		percentiles(b, took)
	})
}

// BenchmarkBareExec is the same command without a sandbox: what fork, exec and wait cost here.
func BenchmarkBareExec(b *testing.B) {
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	percentiles(b, took)
}

// BenchmarkStart is the time from Start to the first output of a command.
func BenchmarkStart(b *testing.B) {
	bench(b, func(b *testing.B, runtime string) {
		var took, running []time.Duration
		for b.Loop() {
			b.StopTimer()
			s := newSandbox(b, runtime)
			s.writeBundle()
			b.StartTimer()
			begin := time.Now()
			c, err := shim.Start(s.ctx(), binary, s.cfg)
			if err != nil {
				b.Fatal(err)
			}
			running = append(running, time.Since(begin))
			p, err := c.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"echo", "hi"}})
			if err != nil {
				b.Fatal(err)
			}
			if f, err := p.Recv(); err != nil || string(f.Data) != "hi\n" {
				b.Fatal(f, err)
			}
			took = append(took, time.Since(begin))
			b.StopTimer()
			p.Close()
			s.destroy()
			b.StartTimer()
		}
		percentiles(b, took)
		slices.Sort(running)
		b.ReportMetric(float64(running[len(running)/2].Microseconds())/1000, "running-p50-ms")
	})
}

// BenchmarkBareStart is the time to the first output of the runtime alone, with the same bundle.
func BenchmarkBareStart(b *testing.B) {
	bench(b, func(b *testing.B, runtime string) {
		var took []time.Duration
		for b.Loop() {
			b.StopTimer()
			s := newSandbox(b, runtime)
			s.spec["process"].(object)["args"] = []string{"echo", "hi"}
			s.writeBundle()
			r, w, err := os.Pipe()
			if err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			begin := time.Now()
			done := make(chan error, 1)
			go func() {
				done <- s.cfg.Container(&oci.Direct{}).Run(s.cfg.PIDFile(), oci.Stdio{Console: w, Socket: w, Stdout: w, Stderr: w, Hold: w}, patience)
			}()
			text := make([]byte, 3)
			if _, err := io.ReadFull(r, text); err != nil || string(text) != "hi\n" {
				b.Fatal(string(text), err)
			}
			took = append(took, time.Since(begin))
			b.StopTimer()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			r.Close()
			w.Close()
			if err := shim.Remove(s.ctx(), &s.cfg, &oci.Direct{}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		percentiles(b, took)
	})
}

// BenchmarkReadFile and BenchmarkWriteFile move 64 MiB.
func BenchmarkReadFile(b *testing.B) {
	s := start(b, "crun")
	const size = 64 << 20
	if err := s.write("/tmp/big", shim.WriteOptions{}, make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		r, _, err := s.client.ReadFile(s.ctx(), "/tmp/big", 0)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); n != size || err != nil {
			b.Fatal(n, err)
		}
		r.Close()
	}
}

func BenchmarkWriteFile(b *testing.B) {
	s := start(b, "crun")
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := s.write("/tmp/big", shim.WriteOptions{}, data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExecOutput takes 64 MiB of a command's output.
func BenchmarkExecOutput(b *testing.B) {
	s := start(b, "crun")
	const size = 64 << 20
	b.SetBytes(size)
	for b.Loop() {
		p, err := s.client.Exec(s.ctx(), shim.ExecRequest{Argv: []string{"head", "-c", "67108864", "/dev/zero"}})
		if err != nil {
			b.Fatal(err)
		}
		total := 0
		for {
			f, err := p.Recv()
			if err != nil {
				b.Fatal(err)
			}
			if f.Kind == shim.FrameExit {
				break
			}
			total += len(f.Data)
		}
		if total != size {
			b.Fatal(total)
		}
		p.Close()
	}
}

// BenchmarkMemory reports the resident memory of an idle shim and its init.
func BenchmarkMemory(b *testing.B) {
	s := start(b, "crun")
	for b.Loop() {
		if r, err := s.exec("/bin/true"); err != nil || r.code != 0 {
			b.Fatal(r, err)
		}
	}
	r, err := s.client.Info(s.ctx())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(resident(b, r.ShimPID), "shim-rss-kB")
	b.ReportMetric(resident(b, r.PID), "init-rss-kB")
}

func resident(b *testing.B, pid int) float64 {
	b.Helper()
	out, err := exec.Command("awk", "/^RssAnon/ {print $2}", filepath.Join("/proc", strconv.Itoa(pid), "status")).Output()
	if err != nil {
		b.Fatal(err)
	}
	kb := 0.0
	for _, c := range strings.TrimSpace(string(out)) {
		kb = kb*10 + float64(c-'0')
	}
	return kb
}
