package bench

import (
	"context"
	"os/exec"
	"time"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// Names of the figures that others are held against.
const (
	callFigure    = "call that does nothing"
	processFigure = "process on this machine"
	execFigure    = "exec of true"
	startFigure   = "create to first output"
)

// hello is what the first output is, with its line feed.
const hello = "hi"

// references measures what a call and a process take without a sandbox. They are made once.
func (r *run) references(ctx context.Context) error {
	if r.has(callFigure) {
		return nil
	}
	f, err := r.each(ctx, callFigure, r.Count, func() error {
		_, err := r.Client.Tokens().WhoAmI(ctx, &bermv1.WhoAmIRequest{})
		return client.FromRPC(err)
	})
	if err != nil {
		return err
	}
	r.report(f, "")
	f, err = r.each(ctx, processFigure, r.Count, func() error { return exec.CommandContext(ctx, "true").Run() })
	if err != nil {
		return err
	}
	r.report(f, "")
	return nil
}

// execs measures commands that do nothing.
func (r *run) execs(ctx context.Context) error {
	if err := r.references(ctx); err != nil {
		return err
	}
	id, err := r.started(ctx)
	if err != nil {
		return err
	}
	f, err := r.each(ctx, execFigure, r.Count, func() error { return r.exec(ctx, id, 0, "true") })
	if err != nil {
		return err
	}
	r.report(f, callFigure)
	f, err = r.each(ctx, "unary exec of true", r.Count, func() error {
		resp, err := r.Client.Gateway().Exec(ctx, &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"true"}})
		if err != nil {
			return client.FromRPC(err)
		}
		return exited(resp.GetResult())
	})
	if err != nil {
		return err
	}
	r.report(f, callFigure)
	f, err = r.together(ctx, "exec of true, at once", r.AtOnce, func() error { return r.exec(ctx, id, 0, "true") })
	if err != nil {
		return err
	}
	r.report(f, execFigure)
	return r.remove(ctx, id)
}

// first launches a sandbox and runs a command in it to its end.
func (r *run) first(ctx context.Context, id *string) error {
	made, err := r.launch(ctx)
	if err != nil {
		return err
	}
	*id = made
	return r.exec(ctx, made, int64(len(hello)+1), "echo", hello)
}

// starts measures launches, one after another. Removing the sandbox is not in the time.
func (r *run) starts(ctx context.Context) error {
	if err := r.references(ctx); err != nil {
		return err
	}
	var t times
	for range r.Count {
		var id string
		t.timed(func() error { return r.first(ctx, &id) })
		if err := ctx.Err(); err != nil {
			return err
		}
		if id == "" {
			continue // It was not launched, which is counted.
		}
		if err := r.remove(ctx, id); err != nil {
			return err
		}
	}
	r.report(t.figure(startFigure), processFigure)
	return nil
}

// burst measures launches at once. The last of them says how long all took.
func (r *run) burst(ctx context.Context) error {
	began := time.Now()
	f, err := r.together(ctx, "create to first output, at once", r.AtOnce, func() error {
		var id string
		return r.first(ctx, &id)
	})
	if err != nil {
		return err
	}
	f.Rate, f.Unit = float64(f.Count-f.Lost)/time.Since(began).Seconds(), "per second"
	r.report(f, "")
	return r.clean(ctx)
}

// lists measures pages of the list.
func (r *run) lists(ctx context.Context) error {
	if err := r.references(ctx); err != nil {
		return err
	}
	f, err := r.each(ctx, "list of 100", r.Count, func() error {
		_, err := r.Client.Gateway().List(ctx, &v1beta2pb.ListSandboxesRequest{PageSize: 100, IncludeStopped: true})
		return client.FromRPC(err)
	})
	if err != nil {
		return err
	}
	r.report(f, callFigure)
	return nil
}

// exited expects success of a command that was run in one call.
func exited(result *v1beta2pb.ExecResponse) error {
	if result.GetExitCode() != 0 {
		return fault.Preconditionf("BENCH_COMMAND", "the command ended with %d", result.GetExitCode())
	}
	return nil
}
