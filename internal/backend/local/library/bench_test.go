package library

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
)

// The image of the benchmarks: as many layers and files as one of a programming language.
const (
	benchLayers   = 5
	benchFiles    = 1200
	benchFileSize = 24 << 10
	benchWaiters  = 50
)

// benchWorld is a world whose image has the ref :big, and the bytes of its files.
func benchWorld(b *testing.B) (w *world, size int64) {
	b.Helper()
	w = newWorld(b)
	random := rand.New(rand.NewPCG(1, 2))
	l := imagetest.New(b)
	var layers [][]byte
	for i := range benchLayers {
		entries := make([]imagetest.Entry, 0, benchFiles)
		for j := range benchFiles {
			data := make([]byte, benchFileSize) // A third of it is hard to compress, as in programs.
			for k := range benchFileSize / 3 {
				data[k] = byte(random.Uint32())
			}
			entries = append(entries, imagetest.File(fmt.Sprintf("layer%d/dir%d/file%d", i, j/50, j), string(data)))
			size += benchFileSize
		}
		layers = append(layers, imagetest.Tar(b, entries...))
	}
	l.Add(imagetest.Image{Name: "big", Compress: true, Config: v1.Config{Cmd: []string{"/a"}}, Layers: layers})
	w.reg.Push("team/tool", l)
	return w, size
}

// fresh opens a library that has nothing.
func (w *world) fresh(b *testing.B) *Library {
	b.Helper()
	w.cfg.Dir = filepath.Join(b.TempDir(), "images")
	l, err := Open(context.WithoutCancel(b.Context()), w.cfg)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// BenchmarkPull measures, in turn, the pull of an image of which nothing is here, and what go-containerregistry and tar take to write
// the same layers into directories.
func BenchmarkPull(b *testing.B) {
	w, size := benchWorld(b)
	var ours, bare time.Duration
	for b.Loop() {
		ours += w.pullOnce(b)
		bare += w.pullBare(b)
	}
	n := float64(b.N)
	b.ReportMetric(benchLayers*n/ours.Seconds(), "layers/s")
	b.ReportMetric(float64(size)*n/1e6/ours.Seconds(), "unpacked-MB/s")
	b.ReportMetric(float64(size)*n/1e6/bare.Seconds(), "bare-unpacked-MB/s")
	b.ReportMetric(0, "ns/op")
}

func (w *world) pullOnce(b *testing.B) time.Duration {
	b.Helper()
	l := w.fresh(b)
	at := time.Now()
	g := w.get(l, w.ref(":big"))
	took := time.Since(at)
	if g.Cached() || g.Unpacked.Entries < benchLayers*benchFiles {
		b.Fatalf("%+v", g.Unpacked)
	}
	g.Hold.Release()
	l.Close()
	discard(b, w.cfg.Dir)
	return took
}

func (w *world) pullBare(b *testing.B) time.Duration {
	b.Helper()
	dir := b.TempDir()
	at := time.Now()
	ref, err := name.ParseReference(w.ref(":big"), name.Insecure)
	if err != nil {
		b.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithContext(b.Context()))
	if err != nil {
		b.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		b.Fatal(err)
	}
	var group sync.WaitGroup
	errs := make(chan error, len(layers))
	for i, layer := range layers {
		group.Go(func() { errs <- untar(b, layer, filepath.Join(dir, fmt.Sprint(i))) })
	}
	group.Wait()
	took := time.Since(at)
	for range layers {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	discard(b, dir)
	return took
}

func untar(b *testing.B, layer v1.Layer, dir string) error {
	content, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer content.Close()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	tar := exec.CommandContext(b.Context(), "tar", "-x", "-C", dir)
	tar.Stdin, tar.Stderr = content, os.Stderr
	if err := tar.Run(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, content)
	return err
}

// discard removes what an iteration wrote, so that the disk is not what the next one measures.
func discard(b *testing.B, dir string) {
	b.Helper()
	b.StopTimer()
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

// BenchmarkPullShared measures fifty launches of one image at once of which nothing is here: one pull, whatever waits for it.
func BenchmarkPullShared(b *testing.B) {
	w, _ := benchWorld(b)
	var one, all time.Duration
	for b.Loop() {
		one += w.pullOnce(b)
		w.reg.Seen("")
		all += w.pullTogether(b)
		if seen := w.reg.Seen("/blobs/"); len(seen) != benchLayers+1 {
			b.Fatalf("%d layers and a configuration were asked for as %q", benchLayers, seen)
		}
	}
	b.ReportMetric(one.Seconds()*1000/float64(b.N), "one-ms")
	b.ReportMetric(all.Seconds()*1000/float64(b.N), "all-ms")
	b.ReportMetric(0, "ns/op")
}

func (w *world) pullTogether(b *testing.B) time.Duration {
	b.Helper()
	l := w.fresh(b)
	var group sync.WaitGroup
	errs := make(chan error, benchWaiters)
	at := time.Now()
	for range benchWaiters {
		group.Go(func() {
			g, err := l.Get(b.Context(), Request{Ref: w.ref(":big")})
			if err == nil {
				g.Hold.Release()
			}
			errs <- err
		})
	}
	group.Wait()
	took := time.Since(at)
	for range benchWaiters {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	l.Close()
	discard(b, w.cfg.Dir)
	return took
}
