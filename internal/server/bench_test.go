package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/backend"
)

// The benchmarks measure whole calls over loopback, client and server in one process, against the fake backend and SQLite with
// synchronous=FULL on the disk that the temporary directory is on.

// percentiles reports the median and the 99th percentile of latencies.
func percentiles(b *testing.B, all []time.Duration) {
	b.Helper()
	slices.Sort(all)
	at := func(p float64) float64 { return float64(all[int(p*float64(len(all)-1))].Nanoseconds()) / 1e6 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
}

// starters are ways to launch a sandbox.
func (w *world) starters() map[string]func(context.Context) error {
	req := &v1beta2pb.StartSandboxRequest{Command: "sleep", Args: []string{"infinity"}, ContainerImage: "host", Resources: &v1beta2pb.ResourceRequest{Cpu: "100m", Memory: "64Mi"}}
	over := func(addr string) func(context.Context) error {
		c := v1beta2rpc.NewGatewayServiceClient(w.dial(addr, w.user))
		return func(ctx context.Context) error {
			_, err := c.Start(ctx, req)
			return err
		}
	}
	const body = `{"command": "sleep", "args": ["infinity"], "containerImage": "host", "resources": {"cpu": "100m", "memory": "64Mi"}}`
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	w.Cleanup(client.CloseIdleConnections)
	return map[string]func(context.Context) error{
		"grpc":   over(w.addr),
		"native": over(w.native),
		"rest": func(ctx context.Context) error {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/v1beta2/sandboxes", strings.NewReader(body))
			if err != nil {
				return err
			}
			r.Header.Set("Authorization", "Bearer "+w.user)
			resp, err := client.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		},
	}
}

// BenchmarkStart launches one after another.
func BenchmarkStart(b *testing.B) {
	w := newWorld(b)
	for name, start := range w.starters() {
		b.Run(name, func(b *testing.B) {
			var all []time.Duration
			for b.Loop() {
				began := time.Now()
				w.must(start(b.Context()))
				all = append(all, time.Since(began))
			}
			percentiles(b, all)
		})
	}
}

// BenchmarkStartAt200 launches 200 per second, whatever the answers take.
func BenchmarkStartAt200(b *testing.B) {
	w := newWorld(b)
	for name, start := range w.starters() {
		b.Run(name, func(b *testing.B) {
			all := make([]time.Duration, b.N)
			var group sync.WaitGroup
			tick := time.NewTicker(time.Second / 200)
			defer tick.Stop()
			for i := range b.N {
				due := <-tick.C
				group.Go(func() {
					if err := start(b.Context()); err != nil {
						b.Error(err)
					}
					all[i] = time.Since(due)
				})
			}
			group.Wait()
			percentiles(b, all)
		})
	}
}

// BenchmarkStartSustained launches from 64 callers at once.
func BenchmarkStartSustained(b *testing.B) {
	w := newWorld(b)
	for name, start := range w.starters() {
		b.Run(name, func(b *testing.B) {
			const callers = 64
			var next atomic.Int64
			var mu sync.Mutex
			var all []time.Duration
			var group sync.WaitGroup
			began := time.Now()
			for range callers {
				group.Go(func() {
					var mine []time.Duration
					for next.Add(1) <= int64(b.N) {
						at := time.Now()
						if err := start(b.Context()); err != nil {
							b.Error(err)
							return
						}
						mine = append(mine, time.Since(at))
					}
					mu.Lock()
					all = append(all, mine...)
					mu.Unlock()
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "starts/s")
			percentiles(b, all)
		})
	}
}

// BenchmarkExec is the round trip of a command that does nothing.
func BenchmarkExec(b *testing.B) {
	w := newWorld(b)
	id := w.idle()
	for name, addr := range map[string]string{"grpc": w.addr, "native": w.native} {
		conn := w.dial(addr, w.user)
		c := v1beta2rpc.NewGatewayServiceClient(conn)
		b.Run("unary/"+name, func(b *testing.B) {
			var all []time.Duration
			for b.Loop() {
				began := time.Now()
				_, err := c.Exec(b.Context(), &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"true"}})
				w.must(err)
				all = append(all, time.Since(began))
			}
			percentiles(b, all)
		})
		b.Run("stream/"+name, func(b *testing.B) {
			var all []time.Duration
			for b.Loop() {
				began := time.Now()
				_, _, last, err := w.rest(w.readied(b.Context(), conn, &v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"true"}}))
				if last.GetExit() == nil || !errors.Is(err, io.EOF) {
					b.Fatal(last, err)
				}
				all = append(all, time.Since(began))
			}
			percentiles(b, all)
		})
	}
	b.Run("unary/rest", func(b *testing.B) {
		var all []time.Duration
		for b.Loop() {
			began := time.Now()
			w.call(w.user, http.MethodPost, "/v1beta2/sandboxes/"+id+"/exec", `{"command": ["true"]}`).want(http.StatusOK)
			all = append(all, time.Since(began))
		}
		percentiles(b, all)
	})
}

// BenchmarkStreamOut is what a command can write to its caller, BenchmarkFile what a file call carries.
func BenchmarkStreamOut(b *testing.B) {
	w := newWorld(b)
	id := w.idle()
	const size = 64 << 20
	for name, addr := range map[string]string{"grpc": w.addr, "native": w.native} {
		conn := w.dial(addr, w.user)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				s := w.readied(b.Context(), conn, &v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"head", "-c", strconv.Itoa(size), "/dev/zero"}})
				got := 0
				for {
					m, err := s.Recv()
					if errors.Is(err, io.EOF) {
						break
					}
					w.must(err)
					got += len(m.GetOutput().GetData())
				}
				if got != size {
					b.Fatalf("%d bytes", got)
				}
			}
		})
	}
}

func BenchmarkFile(b *testing.B) {
	w := newWorld(b)
	id := w.idle()
	c := w.gateway()
	content := bytes.Repeat([]byte("x"), backend.MaxUnaryFile)
	b.Run("write", func(b *testing.B) {
		b.SetBytes(backend.MaxUnaryFile)
		for b.Loop() {
			_, err := c.AddFile(b.Context(), &v1beta2pb.AddFileSandboxRequest{SandboxId: id, Filepath: "/tmp/x", FileContents: content})
			w.must(err)
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(backend.MaxUnaryFile)
		for b.Loop() {
			_, err := c.RetrieveFile(b.Context(), &v1beta2pb.RetrieveFileSandboxRequest{SandboxId: id, Filepath: "/tmp/x"})
			w.must(err)
		}
	})
}
