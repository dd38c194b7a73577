package backendtest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// testPause is for backends that say that they can pause.
func (s *suite) testPause() {
	if !slices.Contains(s.b.Info().Features, "pause") {
		id := s.idle(s.T)
		wantFault(s.T, s.b.Pause(s.ctx, id), fault.Precondition, fault.ReasonBackendUnsupported)
		return
	}
	s.sub("a paused sandbox refuses, and goes on where it was", func(t *testing.T) {
		id := s.idle(t)
		p, err := s.b.Exec(s.ctx, id, backend.Exec{Argv: []string{"cat"}, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		for range 2 {
			if err := s.b.Pause(s.ctx, id); err != nil {
				t.Fatalf("pause: %v", err)
			}
		}
		s.await(t, id, "it is paused", inPhase(backend.PhasePaused))
		_, err = s.b.Exec(s.ctx, id, backend.Exec{Argv: []string{"true"}})
		wantPaused(t, err)
		_, _, err = s.b.ReadFile(s.ctx, id, "/etc/hostname", 100)
		wantPaused(t, err)
		wantPaused(t, s.b.WriteFile(s.ctx, id, "/tmp/paused", 0o644, bytes.NewReader([]byte("x"))))
		if _, err := s.b.Usage(s.ctx, id); err != nil {
			t.Errorf("usage of a paused sandbox: %v", err)
		}
		for range 2 {
			if err := s.b.Resume(s.ctx, id); err != nil {
				t.Fatalf("resume: %v", err)
			}
		}
		if err := p.Send([]byte("still here")); err != nil {
			t.Fatal(err)
		}
		if err := p.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if r := collect(t, p); r.out != "still here" || r.exit.ExitCode != 0 {
			t.Errorf("the command that was running: %+v", r)
		}
		o := s.await(t, id, "it is resumed", func(o *backend.Observation) bool {
			return slices.ContainsFunc(o.Events, func(e core.Event) bool { return e.Name == "resumed" })
		})
		if o.Phase != backend.PhaseRunning || o.StartedAt.IsZero() {
			t.Errorf("after the pause: %+v", o)
		}
		if r := s.exec(t, id, backend.Exec{Argv: []string{"echo", "on"}}); r.out != "on\n" {
			t.Errorf("%+v", r)
		}
	})
	s.sub("pauses and resumptions are told in their order", func(t *testing.T) {
		id := s.idle(t)
		for range 3 {
			if err := s.b.Pause(s.ctx, id); err != nil {
				t.Fatal(err)
			}
			if err := s.b.Resume(s.ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.b.Stop(s.ctx, id, 0, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		s.ended(t, id)
		if got := strings.Join(s.events(id), " "); !strings.Contains(got, "started paused resumed paused resumed paused resumed stopping ended") {
			t.Errorf("events: %s", got)
		}
	})
	s.sub("a stop ends a paused sandbox, politely and at once", func(t *testing.T) {
		for _, grace := range []time.Duration{longGrace, 0} {
			id := s.idle(t)
			if err := s.b.Pause(s.ctx, id); err != nil {
				t.Fatal(err)
			}
			if err := s.b.Stop(s.ctx, id, grace, core.EndStopped); err != nil {
				t.Fatal(err)
			}
			if o := s.ended(t, id); o.Failed || o.Reason != core.EndStopped {
				t.Errorf("grace %v: %+v", grace, o)
			}
		}
	})
	s.sub("unknown and ended", func(t *testing.T) {
		for name, call := range map[string]func(string) error{
			"pause":  func(id string) error { return s.b.Pause(s.ctx, id) },
			"resume": func(id string) error { return s.b.Resume(s.ctx, id) },
		} {
			t.Run(name, func(t *testing.T) {
				wantFault(t, call("sbx-unknown"), fault.NotFound, fault.ReasonSandboxNotFound)
				ended := s.create(t, s.work("true"))
				s.ended(t, ended)
				wantFault(t, call(ended), fault.Precondition, fault.ReasonSandboxNotRunning)
			})
		}
	})
}

func wantPaused(t *testing.T, err error) {
	t.Helper()
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
	if status := fault.From(err).Meta["status"]; status != string(backend.PhasePaused) {
		t.Errorf("status %q in the metadata of %v", status, err)
	}
}

func inPhase(p backend.Phase) func(*backend.Observation) bool {
	return func(o *backend.Observation) bool { return o.Phase == p }
}

// events returns the names of what was told of a sandbox, in order.
func (s *suite) events(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, o := range s.seen[id] {
		for _, e := range o.Events {
			names = append(names, e.Name)
		}
	}
	return names
}
