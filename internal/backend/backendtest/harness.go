package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// sequence makes sandbox ids unique within the test process.
var sequence atomic.Int64 //nolint:gochecknoglobals // ids must differ between suites that share a machine

// suite is one group of tests on one backend, with an observer that records everything.
type suite struct {
	*testing.T
	b      backend.Backend
	opts   Options
	ctx    context.Context //nolint:containedctx // a suite is a test, and lives as long as its context
	cancel context.CancelFunc

	mu      sync.Mutex
	seen    map[string][]*backend.Observation
	changed chan struct{}
	done    chan struct{}
	ids     []string
}

// sub runs a part of the group under a name of its own; it shares backend and observer.
func (s *suite) sub(name string, fn func(t *testing.T)) { s.Run(name, fn) }

// watch starts the observer and returns when the first pass is over.
func (s *suite) watch() {
	s.mu.Lock()
	if s.seen == nil {
		s.seen = map[string][]*backend.Observation{}
	}
	s.changed = make(chan struct{})
	s.mu.Unlock()
	done, first := make(chan struct{}), make(chan struct{})
	s.done = done
	b, ctx := s.b, s.ctx
	go func() {
		defer close(done)
		for o := range b.Observe(ctx) {
			if o == nil {
				close(first)
				continue
			}
			s.record(o)
		}
	}()
	select {
	case <-first:
	case <-time.After(patience):
		s.Fatal("Observe never marked the end of its first pass")
	}
}

func (s *suite) record(o *backend.Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[o.SandboxID] = append(s.seen[o.SandboxID], o)
	close(s.changed)
	s.changed = make(chan struct{})
}

// finish stops and deletes what the group made, and ends the observer.
func (s *suite) finish() {
	ctx := context.WithoutCancel(s.ctx)
	for _, id := range s.ids {
		if err := s.b.Stop(ctx, id, 0, core.EndDeleted); err == nil {
			s.ended(s.T, id)
		}
		if err := s.b.Delete(ctx, id); err != nil {
			s.Errorf("delete %s at the end: %v", id, err)
		}
	}
	s.cancel()
	select {
	case <-s.done:
	case <-time.After(patience):
		s.Error("Observe did not end with its context")
	}
	if err := s.b.Close(); err != nil {
		s.Errorf("close: %v", err)
	}
}

// work returns a small work with this main command; none idles.
func (s *suite) work(command ...string) *backend.Work {
	n := sequence.Add(1)
	w := &backend.Work{
		SandboxID: fmt.Sprintf("sbx-contract-%d-%d", time.Now().UnixNano()%1_000_000_000, n),
		OrgID:     "org-contract", UserID: "user-contract", RunnerID: "local", ProfileName: "default", ZoneName: "local",
		Spec: &specpb.ProfileSpec{
			ContainerImage: proto.String("host"),
			ResourceDefaults: &specpb.ResourceDefaults{
				CpuRequest: proto.String("100m"), CpuLimit: proto.String("1"),
				MemoryRequest: proto.String("16Mi"), MemoryLimit: proto.String("128Mi"),
			},
			Network: &specpb.Network{Egress: &specpb.Egress{
				Default: proto.String("none"), Selected: proto.String("none"),
				Modes: map[string]*specpb.EgressMode{"none": {Type: "none"}},
			}},
		},
		Digest: "sha256:contract",
		Launch: &specpb.Launch{},
	}
	if len(command) > 0 {
		w.Launch.Command, w.Launch.Args = command[0], command[1:]
	}
	if s.opts.Prepare != nil {
		s.opts.Prepare(w)
	}
	return w
}

// create makes a sandbox that is deleted at the end of the group.
func (s *suite) create(t *testing.T, w *backend.Work) string {
	t.Helper()
	s.ids = append(s.ids, w.SandboxID)
	if err := s.b.Create(s.ctx, w); err != nil {
		t.Fatalf("create: %v", err)
	}
	return w.SandboxID
}

// idle makes a sandbox that runs until it is stopped.
func (s *suite) idle(t *testing.T) string {
	t.Helper()
	id := s.create(t, s.work("sleep", "infinity"))
	s.await(t, id, "it runs", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })
	return id
}

// await returns the first recorded observation of id that satisfies ok.
func (s *suite) await(t *testing.T, id, what string, ok func(*backend.Observation) bool) *backend.Observation {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		seen, changed := s.seen[id], s.changed
		s.mu.Unlock()
		for _, o := range seen {
			if ok(o) {
				return o
			}
			if o.Phase == backend.PhaseEnded {
				t.Fatalf("%s ended before %s: %s %s", id, what, o.Reason, o.Message)
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: waited in vain until %s; seen: %d observations", id, what, len(seen))
		}
	}
}

func (s *suite) ended(t *testing.T, id string) *backend.Observation {
	t.Helper()
	return s.await(t, id, "it ends", func(o *backend.Observation) bool { return o.Phase == backend.PhaseEnded })
}

// result is what a command did.
type result struct {
	out, err string
	exit     backend.Frame
	frames   []backend.Frame
}

// exec runs a command to its end and checks the order of its frames.
func (s *suite) exec(t *testing.T, id string, e backend.Exec) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	p, err := s.b.Exec(ctx, id, e)
	if err != nil {
		t.Fatalf("exec %q: %v", e.Argv, err)
	}
	defer func() { _ = p.Close() }()
	return collect(t, p)
}

// collect reads a process to io.EOF: outputs, one exit, nothing after it.
func collect(t *testing.T, p backend.Process) result {
	t.Helper()
	var r result
	var out, errs bytes.Buffer
	for {
		f, err := p.Recv()
		if errors.Is(err, io.EOF) {
			if r.exit.Kind != backend.FrameExit {
				t.Fatal("the stream ended without an exit frame and without an error")
			}
			r.out, r.err = out.String(), errs.String()
			return r
		}
		if err != nil {
			t.Fatalf("recv: %v", err)
		}
		if r.exit.Kind == backend.FrameExit {
			t.Fatalf("a frame of kind %d came after the exit", f.Kind)
		}
		if len(f.Data) > backend.MaxExecChunk {
			t.Errorf("a frame has %d bytes, more than %d", len(f.Data), backend.MaxExecChunk)
		}
		r.frames = append(r.frames, f)
		switch f.Kind {
		case backend.FrameStdout:
			out.Write(f.Data)
		case backend.FrameStderr:
			errs.Write(f.Data)
		case backend.FrameExit:
			r.exit = f
		default:
			t.Fatalf("unknown frame kind %d", f.Kind)
		}
	}
}

// wantFault checks code and reason of an error; an empty reason is not checked.
func wantFault(t *testing.T, err error, code fault.Code, reason string) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatalf("got no error, want %s %s", code, reason)
	case !fault.Is(err, code):
		t.Errorf("got %s %q, want %s", fault.CodeOf(err), err, code)
	case reason != "" && !fault.HasReason(err, reason):
		t.Errorf("got reason %s, want %s: %v", fault.From(err).Reason, reason, err)
	}
}
