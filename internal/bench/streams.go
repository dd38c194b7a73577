package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// chunk is what is handed to a connection or a stream at once, in bytes.
	chunk = 1 << 20
	// streamRuns is how often a stream is measured: the median counts.
	streamRuns = 3
	// benchFile is the file that is written and read.
	benchFile = "/tmp/berm-bench"
)

const loopbackFigure = "TCP on this machine"

// streams measures output, of one command and of many that share the server. Beside one stands what a TCP connection of this machine carries.
func (r *run) streams(ctx context.Context) error {
	if err := r.loopback(ctx); err != nil {
		return err
	}
	id, err := r.started(ctx)
	if err != nil {
		return err
	}
	size := strconv.FormatInt(r.Size, 10)
	one := func() error { return r.exec(ctx, id, r.Size, "head", "-c", size, "/dev/zero") }
	f, err := r.each(ctx, "output of one command", streamRuns, one)
	if err != nil {
		return err
	}
	r.report(rate(f, r.Size), loopbackFigure)
	began := time.Now()
	f, err = r.together(ctx, fmt.Sprintf("output of %d at once", r.Streams), r.Streams, one)
	if err != nil {
		return err
	}
	f.Rate, f.Unit = megabytes(r.Size*int64(f.Count-f.Lost), time.Since(began)), "MB/s"
	r.report(f, loopbackFigure)
	return r.remove(ctx, id)
}

// loopback measures a TCP connection whose ends are both here, once.
func (r *run) loopback(ctx context.Context) error {
	if r.has(loopbackFigure) {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot listen on loopback: %w", err)
	}
	defer l.Close()
	f, err := r.each(ctx, loopbackFigure, streamRuns, func() error { return carry(ctx, l, r.Size) })
	if err != nil {
		return err
	}
	r.report(rate(f, r.Size), "")
	return nil
}

// carry sends size bytes to ourselves.
func carry(ctx context.Context, l net.Listener, size int64) error {
	var group sync.WaitGroup
	var sent error
	group.Go(func() {
		var c net.Conn
		if c, sent = (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String()); sent != nil {
			return
		}
		defer c.Close()
		block := make([]byte, chunk)
		for left := size; left > 0 && sent == nil; left -= chunk {
			_, sent = c.Write(block[:min(left, chunk)])
		}
	})
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, chunk))
	group.Wait()
	if err = errors.Join(err, sent); err == nil && got != size {
		err = fmt.Errorf("%d bytes arrived, not %d", got, size)
	}
	return err
}

// files measures a file that goes in, and comes back.
func (r *run) files(ctx context.Context) error {
	if err := r.loopback(ctx); err != nil {
		return err
	}
	id, err := r.started(ctx)
	if err != nil {
		return err
	}
	f, err := r.each(ctx, "file written", streamRuns, func() error { return r.writeFile(ctx, id) })
	if err != nil {
		return err
	}
	r.report(rate(f, r.Size), loopbackFigure)
	f, err = r.each(ctx, "file read", streamRuns, func() error { return r.readFile(ctx, id) })
	if err != nil {
		return err
	}
	r.report(rate(f, r.Size), loopbackFigure)
	return r.remove(ctx, id)
}

func (r *run) writeFile(ctx context.Context, id string) error {
	stream, err := r.Client.Files().WriteFile(ctx)
	if err != nil {
		return client.FromRPC(err)
	}
	init := &bermv1.WriteFileInit{SandboxId: id, Path: benchFile}
	err = stream.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: init}})
	block := bytes.Repeat([]byte("berm"), chunk/len("berm"))
	for left := r.Size; left > 0 && err == nil; left -= chunk {
		err = stream.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Data{Data: block[:min(left, chunk)]}})
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the answer says why
		return client.FromRPC(err)
	}
	_, err = stream.CloseAndRecv()
	return client.FromRPC(err)
}

func (r *run) readFile(ctx context.Context, id string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.Client.Files().ReadFile(ctx, &bermv1.ReadFileRequest{SandboxId: id, Path: benchFile})
	if err != nil {
		return client.FromRPC(err)
	}
	var got int64
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return client.FromRPC(err)
		}
		got += int64(len(m.GetData()))
	}
	if got != r.Size {
		return fault.Preconditionf("BENCH_OUTPUT", "%d bytes of the file came back, not %d", got, r.Size)
	}
	return nil
}

// rate gives a figure of streams, made one after another, the rate of the median.
func rate(f Figure, size int64) Figure {
	if f.P50 > 0 {
		f.Rate, f.Unit = megabytes(size, time.Duration(f.P50*float64(time.Millisecond))), "MB/s"
	}
	return f
}

// megabytes per second, of a million bytes.
func megabytes(size int64, took time.Duration) float64 { return float64(size) / 1e6 / took.Seconds() }
