package local

import (
	"context"
	"io"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// Exec starts a command in a sandbox.
func (b *Backend) Exec(ctx context.Context, id string, e backend.Exec) (backend.Process, error) {
	client, err := b.await(ctx, id)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	env := r.environment(e.Env)
	if len(r.refused) > 0 {
		bad := fault.Invalidf(fault.ReasonInvalidRequest, "the command's environment cannot be used")
		bad.Fields = r.refused
		return nil, bad
	}
	p, err := client.Exec(ctx, shim.ExecRequest{
		Argv: e.Argv, Env: env, Dir: e.Dir, TTY: e.TTY, Width: e.Width, Height: e.Height, Stdin: e.Stdin,
	})
	if err != nil {
		return nil, b.explain(id, err)
	}
	return &process{Process: p}, nil
}

// explain says of a sandbox that has ended meanwhile how it did, and of one that is paused that it is.
func (b *Backend) explain(id string, err error) error {
	if !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		return err
	}
	s, unknownErr := b.get(id)
	if unknownErr != nil {
		return unknownErr
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.last.Phase {
	case backend.PhaseEnded:
		return notRunning(s.last)
	case backend.PhasePaused:
		return backend.ErrPaused(id)
	case backend.PhaseCreating, backend.PhaseRunning, backend.PhaseStopping:
	}
	return err
}

// process is a shim's process in the port's words.
type process struct{ *shim.Process }

// Recv returns the next frame.
func (p *process) Recv() (backend.Frame, error) {
	f, err := p.Process.Recv()
	if err != nil {
		return backend.Frame{}, err
	}
	out := backend.Frame{Kind: backend.FrameStdout, Data: f.Data, ExitCode: f.ExitCode, Signal: f.Signal, At: f.At}
	switch f.Kind {
	case shim.FrameStderr:
		out.Kind = backend.FrameStderr
	case shim.FrameExit:
		out.Kind = backend.FrameExit
	case shim.FrameStdout:
	}
	return out, nil
}

// ReadFile opens a file of a sandbox.
func (b *Backend) ReadFile(ctx context.Context, id, path string, limit int64) (io.ReadCloser, int64, error) {
	client, err := b.await(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	r, info, err := client.ReadFile(ctx, path, limit)
	if err != nil {
		return nil, 0, b.explain(id, err)
	}
	return r, info.Size, nil
}

// WriteFile writes a file of a sandbox.
func (b *Backend) WriteFile(ctx context.Context, id, path string, mode uint32, r io.Reader) error {
	client, err := b.await(ctx, id)
	if err != nil {
		return err
	}
	return b.explain(id, client.WriteFile(ctx, path, shim.WriteOptions{Mode: mode}, r))
}

// ReadArchive packs what is at a path of a sandbox.
func (b *Backend) ReadArchive(ctx context.Context, id, path string, part backend.ArchivePart) (io.ReadCloser, error) {
	client, err := b.await(ctx, id)
	if err != nil {
		return nil, err
	}
	r, err := client.ReadArchive(ctx, path, shim.ArchivePart(part))
	if err != nil {
		return nil, b.explain(id, err)
	}
	return r, nil
}

// WriteArchive unpacks an archive in a sandbox.
func (b *Backend) WriteArchive(ctx context.Context, id, path, name string, r io.Reader) error {
	client, err := b.await(ctx, id)
	if err != nil {
		return err
	}
	return b.explain(id, client.WriteArchive(ctx, path, name, r))
}

// Usage samples what a sandbox uses. CPU is the average since the previous sample, or since the start.
func (b *Backend) Usage(ctx context.Context, id string) (core.Usage, error) {
	client, err := b.await(ctx, id)
	if err != nil {
		return core.Usage{}, err
	}
	now, err := client.Stats(ctx)
	if err != nil {
		return core.Usage{}, b.explain(id, err)
	}
	s, err := b.get(id)
	if err != nil {
		return core.Usage{}, err
	}
	used := b.diskUsed(s.slot)
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.usage
	if before.At.IsZero() {
		before.At = s.last.StartedAt
	}
	u := core.Usage{
		MemoryBytes: now.MemoryBytes, CPUMillis: cpuMillis(now.CPU-before.CPU, now.At.Sub(before.At)), PIDs: now.PIDs, OutputBytes: now.OutputBytes,
		DiskBytes: used, NetworkBytes: b.net.Traffic(s.slot),
	}
	if now.At.Sub(before.At) >= usageWindow {
		s.usage = now
	}
	return u, nil
}

// cpuMillis is CPU time over time, in thousandths of a CPU.
func cpuMillis(used, over time.Duration) int64 {
	if over <= 0 || used < 0 {
		return 0
	}
	return int64(float64(used) / float64(over) * 1000) // The product of integers would be too large after 106 days of CPU time.
}
