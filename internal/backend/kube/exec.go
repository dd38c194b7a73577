package kube

import (
	"context"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// usageWindow is the least time between two samples that a CPU average is taken over.
const usageWindow = time.Second

// Exec starts a command in a sandbox.
func (b *Backend) Exec(ctx context.Context, id string, e backend.Exec) (backend.Process, error) {
	client, err := b.await(ctx, id)
	if err != nil {
		return nil, err
	}
	var env []string
	for _, name := range slices.Sorted(maps.Keys(e.Env)) {
		env = append(env, name+"="+e.Env[name])
	}
	p, err := client.Exec(ctx, shim.ExecRequest{
		Argv: e.Argv, Env: env, Dir: e.Dir, TTY: e.TTY, Width: e.Width, Height: e.Height, Stdin: e.Stdin,
	})
	if err != nil {
		return nil, b.explain(id, err)
	}
	return &process{Process: p}, nil
}

// explain says of a sandbox that has ended meanwhile how it did.
func (b *Backend) explain(id string, err error) error {
	if !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		return err
	}
	s, unknown := b.get(id)
	if unknown != nil {
		return unknown
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended() {
		return notRunning(s.observed())
	}
	return err
}

// process is an init's process in the port's words.
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

// Usage samples what the container of a sandbox uses. CPU is the average since the previous sample, or since the start.
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
	s.mu.Lock()
	defer s.mu.Unlock()
	var before shim.Stats
	if s.usage != nil {
		before = *s.usage
	}
	if before.At.IsZero() {
		before.At = s.observed().StartedAt
	}
	u := core.Usage{MemoryBytes: now.MemoryBytes, PIDs: now.PIDs, OutputBytes: now.OutputBytes}
	if over := now.At.Sub(before.At); over > 0 && now.CPU >= before.CPU {
		u.CPUMillis = int64(now.CPU-before.CPU) * 1000 / int64(over)
	}
	if now.At.Sub(before.At) >= usageWindow {
		s.usage = &now
	}
	return u, nil
}
