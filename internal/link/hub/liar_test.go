package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link/hub"
	"github.com/bermhq/berm/internal/runner"
)

// liar is a runner that says what it likes.
type liar struct {
	runner.Link
	// about are sandboxes that it claims have ended well.
	about []string
	// flood is how many sandboxes that nobody knows it claims to have.
	flood int
}

func (l *liar) Observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return func(yield func(*backend.Observation) bool) {
		code := int32(0)
		for _, id := range l.about {
			if !yield(&backend.Observation{SandboxID: id, Phase: backend.PhaseEnded, At: time.Now(), ExitCode: &code, Reason: core.EndExited}) {
				return
			}
		}
		for i := range l.flood {
			if !yield(&backend.Observation{SandboxID: fmt.Sprint("sbx-", i), Phase: backend.PhaseRunning, At: time.Now()}) {
				return
			}
		}
		for o := range l.Link.Observe(ctx) {
			if !yield(o) {
				return
			}
		}
	}
}

// frames is a process that says these.
type frames struct {
	backend.Process
	list []backend.Frame
}

func (f *frames) Recv() (backend.Frame, error) {
	if len(f.list) == 0 {
		return backend.Frame{}, io.EOF
	}
	out := f.list[0]
	f.list = f.list[1:]
	return out, nil
}

func (f *frames) Close() error { return nil }

func (l *liar) Exec(_ context.Context, _ string, e backend.Exec) (backend.Process, error) {
	if e.Argv[0] == "large" {
		return &frames{list: []backend.Frame{{Kind: backend.FrameStdout, Data: make([]byte, 2*backend.MaxExecChunk)}}}, nil
	}
	return &frames{list: []backend.Frame{{Kind: backend.FrameStdout, Data: []byte("all went well\n")}}}, nil
}

func (l *liar) ReadFile(_ context.Context, _, path string, limit int64) (io.ReadCloser, int64, error) {
	size := limit
	if path == "/size" {
		size = limit + 1
	}
	return io.NopCloser(bytes.NewReader(make([]byte, 4*limit))), size, nil
}

// TestALyingRunner harms nobody else: what it says of others' sandboxes counts for nothing, and what cannot be is an error.
func TestALyingRunner(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "honest", "lying")
	w.start(w.enrol("honest", "machine:1"), "a", fake.New(fake.Config{}), true)
	id := w.running("honest")
	behind := fake.New(fake.Config{})
	l := &liar{Link: runner.NewAgent(behind, nil), about: []string{id}}
	w.startLink(w.enrol("lying", "machine:2"), "b", l, true)
	own := w.running("lying") // by then what it said before was taken in
	v, err := w.svc.Get(w.ctx(), w.admin, id)
	w.must(err)
	if v.Sandbox.Status != core.StatusRunning || v.Sandbox.ExitCode != nil {
		t.Errorf("the sandbox of the other runner is %s %s", v.Sandbox.Status, v.Sandbox.StatusReason)
	}
	for _, argv := range []string{"short", "large"} {
		p, err := w.svc.Exec(w.ctx(), w.admin, own, backend.Exec{Argv: []string{argv}})
		w.must(err)
		for err == nil {
			var f backend.Frame
			if f, err = p.Recv(); f.Kind == backend.FrameExit {
				t.Errorf("%s: an exit that nobody saw", argv)
			}
		}
		wantFault(t, err, fault.Unavailable, fault.ReasonRunnerUnavailable)
		_ = p.Close()
	}
	_, _, err = w.svc.ReadFile(w.ctx(), w.admin, own, "/size", 1000)
	wantFault(t, err, fault.Unavailable, fault.ReasonRunnerUnavailable)
	r, _, err := w.svc.ReadFile(w.ctx(), w.admin, own, "/content", 1000)
	w.must(err)
	got, err := io.ReadAll(r)
	wantFault(t, err, fault.Unavailable, fault.ReasonRunnerUnavailable)
	if len(got) > 1000 {
		t.Errorf("%d bytes of at most 1000 came", len(got))
	}
	_ = r.Close()
}

// TestACapacityThatCannotBe ends the line of who says it, at first or later.
func TestACapacityThatCannotBe(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "lying")
	behind := fake.New(fake.Config{})
	p := w.start(w.enrol("lying", "machine:2"), "b", behind, true)
	behind.SetInfo(backend.Info{Capacity: core.Amounts{CPUMillis: -1}})
	w.connected("lying", false)
	behind.SetInfo(backend.Info{})
	w.connected("lying", true)
	w.must(p.end())
}

// TestAFloodOfSandboxes ends the line before memory.
func TestAFloodOfSandboxes(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "r1")
	w.startLink(w.enrol("r1", "machine:1"), "a", &liar{Link: runner.NewAgent(fake.New(fake.Config{}), nil), flood: 3_000}, true)
	w.running("r1") // what nobody knows is ended, and the rest goes on
}
