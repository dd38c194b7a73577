package backendtest

import (
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// longGrace is a grace that no test waits out.
const longGrace = time.Hour

func (s *suite) testStop() {
	s.sub("asks politely, and says why it ended", func(t *testing.T) {
		id := s.idle(t)
		for range 2 {
			if err := s.b.Stop(s.ctx, id, longGrace, core.EndStopped); err != nil {
				t.Fatalf("stop: %v", err)
			}
		}
		o := s.ended(t, id)
		if o.Failed || o.Reason != core.EndStopped {
			t.Errorf("failed %v, reason %s", o.Failed, o.Reason)
		}
		if o.ExitCode != nil && *o.ExitCode != 128+15 && *o.ExitCode != 0 {
			t.Errorf("exit code %d is not what a sleep that was asked to end returns", *o.ExitCode)
		}
		if err := s.b.Stop(s.ctx, id, longGrace, core.EndDeleted); err != nil {
			t.Errorf("stop of an ended sandbox: %v", err)
		}
		if again := s.last(id); again.Reason != core.EndStopped {
			t.Errorf("a later stop changed the reason to %s", again.Reason)
		}
	})
	s.sub("without grace it kills", func(t *testing.T) {
		id := s.idle(t)
		if err := s.b.Stop(s.ctx, id, 0, core.EndLifetimeExceeded); err != nil {
			t.Fatal(err)
		}
		o := s.ended(t, id)
		if o.Failed || o.Reason != core.EndLifetimeExceeded {
			t.Errorf("failed %v, reason %s", o.Failed, o.Reason)
		}
		if o.ExitCode != nil && *o.ExitCode != 128+9 {
			t.Errorf("exit code %d, want 137 or none", *o.ExitCode)
		}
	})
	s.sub("a shorter grace later shortens the wait", func(t *testing.T) {
		id := s.create(t, s.work("sh", "-c", `trap "" TERM; while :; do sleep infinity; done`))
		s.await(t, id, "it runs", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })
		if err := s.b.Stop(s.ctx, id, longGrace, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		if err := s.b.Stop(s.ctx, id, 0, core.EndDeleted); err != nil {
			t.Fatal(err)
		}
		s.ended(t, id)
	})
	s.sub("ends commands too", func(t *testing.T) {
		id := s.idle(t)
		p, err := s.b.Exec(s.ctx, id, backend.Exec{Argv: []string{"sleep", "infinity"}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		if err := s.b.Stop(s.ctx, id, 0, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		s.ended(t, id)
		// Either the signal was observed or it was not: an error. It must not hang or claim success.
		for {
			f, err := p.Recv()
			if err != nil {
				break
			}
			if f.Kind == backend.FrameExit && f.ExitCode == 0 {
				t.Error("a killed command reported success")
			}
		}
	})
	s.sub("unknown", func(t *testing.T) {
		wantFault(t, s.b.Stop(s.ctx, "sbx-unknown", 0, core.EndStopped), fault.NotFound, fault.ReasonSandboxNotFound)
	})
}

func (s *suite) last(id string) *backend.Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen[id]
	return seen[len(seen)-1]
}

func (s *suite) testDelete() {
	s.sub("a live sandbox is not deleted", func(t *testing.T) {
		id := s.idle(t)
		wantFault(t, s.b.Delete(s.ctx, id), fault.Precondition, "")
		if r := s.exec(t, id, backend.Exec{Argv: []string{"echo", "alive"}}); r.out != "alive\n" {
			t.Errorf("the refused delete harmed it: %+v", r)
		}
	})
	s.sub("an ended one is forgotten, and that is idempotent", func(t *testing.T) {
		id := s.create(t, s.work("true"))
		s.ended(t, id)
		for range 2 {
			if err := s.b.Delete(s.ctx, id); err != nil {
				t.Fatalf("delete: %v", err)
			}
		}
		_, err := s.b.Exec(s.ctx, id, backend.Exec{Argv: []string{"true"}})
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
		for o := range s.b.Observe(s.ctx) {
			if o == nil {
				break
			}
			if o.SandboxID == id {
				t.Error("a deleted sandbox is still observed")
			}
		}
	})
	s.sub("unknown ids succeed", func(t *testing.T) {
		if err := s.b.Delete(s.ctx, "sbx-unknown"); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
}
