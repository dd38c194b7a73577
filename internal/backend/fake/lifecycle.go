package fake

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/kept"
)

// Exit codes of signals, as shells and runtimes report them.
const (
	exitKilled     = 128 + 9
	exitTerminated = 128 + 15
)

// sandbox is one sandbox. Its fields are guarded by Backend.mu, except where they have a lock of their own.
type sandbox struct {
	work  *backend.Work
	last  backend.Observation
	files *files
	// submitted stands for the object that another backend gives to a runtime, from the start on.
	submitted json.RawMessage
	// settled is closed when it left CREATING.
	settled   chan struct{}
	isSettled bool
	held      bool
	timer     *time.Timer
	main      *process
	output    *mainLog
	procs     map[*process]struct{}
	kept      *kept.Keeper
	// listens are addresses on this machine by port; conns are the connections to them.
	listens map[uint16]string
	conns   map[*conn]struct{}
	// traffic is what Usage says went over the network.
	traffic int64
	// stopWhy is set once a stop began.
	stopWhy string
	kill    *time.Timer
	killAt  time.Time
}

func newSandbox(w *backend.Work, now time.Time, logLimit int64) *sandbox {
	return &sandbox{
		work: w, files: newFiles(w.Launch.GetMountedFiles(), now), settled: make(chan struct{}), procs: map[*process]struct{}{},
		listens: map[uint16]string{}, conns: map[*conn]struct{}{},
		output: newMainLog(w.SandboxID, logLimit),
	}
}

// start runs the main program of a sandbox that is being created.
func (b *Backend) start(s *sandbox) {
	if s.last.Phase != backend.PhaseCreating {
		return
	}
	s.submitted = submission(s.work)
	failed := backend.Observation{Phase: backend.PhaseEnded, Failed: true}
	image := s.work.Spec.GetContainerImage()
	if e, ok := b.inject.takeStart(); ok {
		failed.Reason, failed.Message = e.reason, e.message
		b.end(s, failed)
		return
	}
	if slices.Contains(b.cfg.UnknownImages, image) {
		failed.Reason, failed.Message = core.EndImageFailed, "image "+image+" is not known"
		b.end(s, failed)
		return
	}
	argv := mainArgv(s.work)
	program := lookup(argv)
	if program == nil && len(argv) > 0 {
		failed.Reason, failed.Message = core.EndStartFailed, "command "+argv[0]+" does not exist"
		b.end(s, failed)
		return
	}
	now := b.cfg.Now()
	b.publish(s, backend.Observation{Phase: backend.PhaseRunning, StartedAt: now, Events: []core.Event{{Name: "started", At: now}}})
	s.settle()
	if len(argv) == 0 || idles(argv) {
		return
	}
	s.main = newProcess(b.cfg.Now)
	e := backend.Exec{Argv: argv, Env: s.env(), Dir: "/"}
	s.main.log = s.output
	s.main.listen = func(port uint16, address string) { b.Listen(s.work.SandboxID, port, address) }
	s.main.run(program, e, s.files, func(code int32) {
		b.locked(func() { b.exited(s, code) })
	})
}

// env is the environment of the main process.
func (s *sandbox) env() map[string]string {
	out := maps.Clone(s.work.Launch.GetEnvironmentVariables())
	if out == nil {
		out = map[string]string{}
	}
	for _, secret := range s.work.Secrets {
		out[secret.EnvVar] = string(secret.Value)
	}
	return out
}

// submission is what the fake has in place of a runtime's configuration.
func submission(w *backend.Work) json.RawMessage {
	text, _ := json.Marshal(map[string]any{"kind": Kind, "sandboxId": w.SandboxID, "digest": w.Digest, "args": mainArgv(w)}) //nolint:errchkjson // strings alone
	return text
}

func mainArgv(w *backend.Work) []string {
	if w.Launch.GetCommand() == "" {
		return nil
	}
	return append([]string{w.Launch.GetCommand()}, w.Launch.GetArgs()...)
}

// exited records the end of the main program, unless something else ended the sandbox first.
func (b *Backend) exited(s *sandbox, code int32) {
	if s.last.Phase == backend.PhaseEnded {
		return
	}
	reason := core.EndExited
	if s.stopWhy != "" {
		reason = s.stopWhy
	}
	b.end(s, backend.Observation{Phase: backend.PhaseEnded, ExitCode: &code, Reason: reason})
}

// Stop begins a stop. A second stop with a shorter grace shortens it.
func (b *Backend) Stop(_ context.Context, id string, grace time.Duration, why string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.reachable(); err != nil {
		return err
	}
	s, ok := b.sandboxes[id]
	if !ok {
		return fault.NotFoundf(fault.ReasonSandboxNotFound, "sandbox %s is not known here", id)
	}
	switch s.last.Phase {
	case backend.PhaseEnded:
		return nil
	case backend.PhaseCreating:
		// It never ran: there is no exit to observe.
		b.end(s, backend.Observation{Phase: backend.PhaseEnded, Reason: why, Message: "stopped before it ran"})
		return nil
	case backend.PhaseRunning, backend.PhasePaused:
		s.stopWhy = why
		b.publish(s, backend.Observation{Phase: backend.PhaseStopping, Events: []core.Event{{Name: "stopping", At: b.cfg.Now(), Message: why}}})
		code, ends := onTerm(mainArgv(s.work))
		if ends && !b.inject.ignoreTerm && grace > 0 {
			b.terminate(s, code)
			return nil
		}
	case backend.PhaseStopping:
	}
	b.killAfter(s, grace)
	return nil
}

func (b *Backend) killAfter(s *sandbox, grace time.Duration) {
	at := b.cfg.Now().Add(grace)
	if s.kill != nil {
		if !at.Before(s.killAt) {
			return
		}
		s.kill.Stop()
	}
	if grace <= 0 {
		b.terminate(s, exitKilled)
		return
	}
	s.killAt = at
	s.kill = time.AfterFunc(grace, func() {
		b.locked(func() {
			if s.last.Phase != backend.PhaseEnded {
				b.terminate(s, exitKilled)
			}
		})
	})
}

func (b *Backend) terminate(s *sandbox, code int32) {
	b.end(s, backend.Observation{Phase: backend.PhaseEnded, ExitCode: &code, Reason: s.stopWhy})
}

// end publishes the last observation and kills what still runs.
func (b *Backend) end(s *sandbox, o backend.Observation) {
	b.halt(s)
	o.Events = append(o.Events, core.Event{Name: "ended", At: b.cfg.Now(), Message: o.Reason})
	b.publish(s, o)
	s.output.close(o.Reason != core.EndLost)
	s.settle()
}

func (b *Backend) halt(s *sandbox) {
	for _, t := range []*time.Timer{s.timer, s.kill} {
		if t != nil {
			t.Stop()
		}
	}
	if s.main != nil {
		s.main.kill()
	}
	for p := range s.procs {
		p.kill()
	}
	clear(s.procs)
	for c := range s.conns {
		c.cut(fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %s has ended", s.work.SandboxID))
	}
	clear(s.conns)
}

func (s *sandbox) settle() {
	if !s.isSettled {
		s.isSettled = true
		close(s.settled)
	}
}
