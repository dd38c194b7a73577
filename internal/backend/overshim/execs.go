// Package overshim is what backends have in common whose sandboxes are served by a shim or an init (package shim): the commands that
// are kept.
package overshim

import (
	"context"
	"maps"
	"slices"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
)

// Execs implements backend.Execs over the clients of sandboxes.
type Execs struct {
	// Client returns the client of a sandbox, once it runs.
	Client func(ctx context.Context, sandbox string) (*shim.Client, error)
	// Explain says of a sandbox that has ended meanwhile how it did.
	Explain func(sandbox string, err error) error
}

var _ backend.Execs = (*Execs)(nil)

// CreateExec implements backend.Execs.
func (x *Execs) CreateExec(ctx context.Context, sandbox string, e backend.KeptExec) (backend.ExecState, error) {
	var env []string
	for _, name := range slices.Sorted(maps.Keys(e.Env)) {
		env = append(env, name+"="+e.Env[name])
	}
	return x.state(ctx, sandbox, func(c *shim.Client) (shim.ExecState, error) {
		return c.CreateExec(ctx, shim.KeptExec{
			ID: e.ID, Limit: e.OutputLimit, Drop: e.DropOldest, Timeout: e.Timeout,
			ExecRequest: shim.ExecRequest{Argv: e.Argv, Env: env, Dir: e.Dir, TTY: e.TTY, Width: e.Width, Height: e.Height, Stdin: e.Stdin},
		})
	})
}

// ListExecs implements backend.Execs.
func (x *Execs) ListExecs(ctx context.Context, sandbox, id string) ([]backend.ExecState, error) {
	client, err := x.Client(ctx, sandbox)
	if err != nil {
		return nil, err
	}
	all, err := client.Execs(ctx, id)
	if err != nil {
		return nil, x.Explain(sandbox, err)
	}
	out := make([]backend.ExecState, len(all))
	for i := range all {
		out[i] = backend.ExecState(all[i])
	}
	return out, nil
}

// SignalExec implements backend.Execs.
func (x *Execs) SignalExec(ctx context.Context, sandbox, id string, signal int) (backend.ExecState, error) {
	return x.state(ctx, sandbox, func(c *shim.Client) (shim.ExecState, error) { return c.SignalExec(ctx, id, signal) })
}

// ResizeExec implements backend.Execs.
func (x *Execs) ResizeExec(ctx context.Context, sandbox, id string, width, height uint16) (backend.ExecState, error) {
	return x.state(ctx, sandbox, func(c *shim.Client) (shim.ExecState, error) { return c.ResizeExec(ctx, id, width, height) })
}

// DeleteExec implements backend.Execs.
func (x *Execs) DeleteExec(ctx context.Context, sandbox, id string) error {
	client, err := x.Client(ctx, sandbox)
	if err == nil {
		err = client.DeleteExec(ctx, id)
	}
	if err != nil {
		return x.Explain(sandbox, err)
	}
	return nil
}

func (x *Execs) state(ctx context.Context, sandbox string, call func(*shim.Client) (shim.ExecState, error)) (backend.ExecState, error) {
	client, err := x.Client(ctx, sandbox)
	if err != nil {
		return backend.ExecState{}, err
	}
	s, err := call(client)
	if err != nil {
		return backend.ExecState{}, x.Explain(sandbox, err)
	}
	return backend.ExecState(s), nil
}

// AttachExec implements backend.Execs.
func (x *Execs) AttachExec(ctx context.Context, sandbox, id string, a backend.Attach) (backend.Attachment, error) {
	client, err := x.Client(ctx, sandbox)
	if err != nil {
		return nil, err
	}
	to, err := client.AttachExec(ctx, id, shim.AttachRequest(a))
	if err != nil {
		return nil, x.Explain(sandbox, err)
	}
	return &attachment{Attachment: to, explain: func(err error) error { return x.Explain(sandbox, err) }}, nil
}

// attachment is a shim's in the port's words.
type attachment struct {
	*shim.Attachment
	explain func(error) error
}

// State returns how the command stood.
func (a *attachment) State() backend.ExecState { return backend.ExecState(a.Attachment.State) }

// Recv returns the next frame.
func (a *attachment) Recv() (backend.AttachFrame, error) {
	f, err := a.Attachment.Recv()
	switch {
	case err != nil:
		return backend.AttachFrame{}, a.explain(err)
	case f.End != nil:
		end := backend.ExecState(*f.End)
		return backend.AttachFrame{Kind: backend.AttachExit, End: &end, Offset: end.End, At: end.EndedAt}, nil
	case f.Output.Data == nil:
		return backend.AttachFrame{Kind: backend.AttachTaken, Taken: f.Taken, InputClosed: f.InputClosed}, nil
	}
	kind := backend.AttachStdout
	if f.Output.Stream == wire.Stderr {
		kind = backend.AttachStderr
	}
	return backend.AttachFrame{Kind: kind, Data: f.Output.Data, Offset: f.Output.Offset, At: f.Output.Time}, nil
}
