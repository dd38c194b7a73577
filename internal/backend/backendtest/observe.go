package backendtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *suite) testObserve() {
	running := s.idle(s.T)
	ended := s.create(s.T, s.work("sh", "-c", "exit 5"))
	s.ended(s.T, ended)

	s.sub("the first pass has the last observation of each, then nil", func(t *testing.T) {
		first := s.firstPass(t)
		if o := first[running]; o == nil || o.Phase != backend.PhaseRunning || o.StartedAt.IsZero() {
			t.Errorf("running: %+v", o)
		}
		if o := first[ended]; o == nil || o.Phase != backend.PhaseEnded || o.ExitCode == nil || *o.ExitCode != 5 {
			t.Errorf("ended: %+v", o)
		}
	})
	s.sub("phases do not go back", func(t *testing.T) {
		id := s.create(t, s.work("true"))
		s.ended(t, id)
		rank := map[backend.Phase]int{backend.PhaseCreating: 1, backend.PhaseRunning: 2, backend.PhaseStopping: 3, backend.PhaseEnded: 4}
		s.mu.Lock()
		defer s.mu.Unlock()
		at := 0
		for _, o := range s.seen[id] {
			if rank[o.Phase] < at || rank[o.Phase] == 0 {
				t.Errorf("%s after rank %d", o.Phase, at)
			}
			at = rank[o.Phase]
			if o.Phase != backend.PhaseEnded && (o.ExitCode != nil || o.Failed) {
				t.Errorf("%s says how it ended: %+v", o.Phase, o)
			}
		}
	})
	s.sub("events are told once and in order", func(t *testing.T) {
		id := s.create(t, s.work("true"))
		s.ended(t, id)
		s.mu.Lock()
		defer s.mu.Unlock()
		seen := map[string]int{}
		var last time.Time
		for _, o := range s.seen[id] {
			for _, e := range o.Events {
				seen[e.Name]++
				if e.At.Before(last) {
					t.Errorf("%s is older than the event before it", e.Name)
				}
				last = e.At
			}
		}
		for _, name := range []string{"created", "started", "ended"} {
			if seen[name] != 1 {
				t.Errorf("%s was told %d times", name, seen[name])
			}
		}
	})
	s.sub("what was submitted is told, without secrets", func(t *testing.T) {
		const secret = "5ecret-of-the-request"
		w := s.work()
		w.Launch.EnvironmentVariables = map[string]string{"TOKEN": secret}
		w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/tmp/key", Content: []byte(secret)}}
		id := s.create(t, withSecret(w, "STORED", secret))
		running := s.await(t, id, "it runs", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })
		var object map[string]any
		if err := json.Unmarshal(running.Submitted, &object); err != nil || len(object) == 0 {
			t.Fatalf("%s is no object: %v", running.Submitted, err)
		}
		if strings.Contains(string(running.Submitted), secret) || strings.Contains(string(running.Submitted), base64.StdEncoding.EncodeToString([]byte(secret))) {
			t.Errorf("a secret is in %s", running.Submitted)
		}
		s.noDrift(t, id, running.Submitted, secret)
		if err := s.b.Stop(s.ctx, id, 0, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		if end := s.ended(t, id); string(end.Submitted) != string(running.Submitted) {
			t.Errorf("at the end it is %s", end.Submitted)
		}
	})
	s.sub("a second observer sees the same end", func(t *testing.T) {
		id := s.idle(t)
		got := make(chan *backend.Observation, 1)
		ready := make(chan struct{})
		go func() {
			for o := range s.b.Observe(s.ctx) {
				if o == nil {
					close(ready)
				} else if o.SandboxID == id && o.Phase == backend.PhaseEnded {
					got <- o
					return
				}
			}
		}()
		<-ready
		if err := s.b.Stop(s.ctx, id, 0, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		select {
		case o := <-got:
			if o.Reason != core.EndStopped {
				t.Errorf("reason %s", o.Reason)
			}
		case <-time.After(patience):
			t.Error("the second observer was not told")
		}
	})
}

// firstPass returns the first pass of a new observer, by sandbox.
func (s *suite) firstPass(t *testing.T) map[string]*backend.Observation {
	t.Helper()
	first := map[string]*backend.Observation{}
	for o := range s.b.Observe(s.ctx) {
		if o == nil {
			return first
		}
		if first[o.SandboxID] != nil {
			t.Errorf("%s twice in the first pass", o.SandboxID)
		}
		first[o.SandboxID] = o
	}
	t.Fatal("Observe ended before its first pass did")
	return nil
}

// testRestart checks what a restart of the server must leave alone.
func (s *suite) testRestart() {
	survivor := s.idle(s.T)
	before := s.await(s.T, survivor, "it runs", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })
	if err := s.b.WriteFile(s.ctx, survivor, "/tmp/mark", 0o644, strings.NewReader("mark")); err != nil {
		s.Fatal(err)
	}
	short := s.create(s.T, s.work("sh", "-c", "exit 9"))
	s.ended(s.T, short)
	still := ""
	if slices.Contains(s.b.Info().Features, "pause") {
		still = s.idle(s.T)
		if err := s.b.Pause(s.ctx, still); err != nil {
			s.Fatal(err)
		}
	}

	going := s.keep(s.T, survivor, backend.KeptExec{Exec: backend.Exec{Argv: []string{"sh", "-c", "echo before; cat"}, Stdin: true}})
	s.join(s.T, survivor, going.ID, 0, int64(len("before\n")))

	s.b = s.opts.Reopen(s.T, s.b)
	<-s.done
	s.watch()

	s.sub("a command that was kept goes on", func(t *testing.T) {
		a, err := s.b.AttachExec(s.ctx, survivor, going.ID, backend.Attach{Output: true, Follow: true, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		if err := errors.Join(a.Send([]byte("after\n")), a.CloseSend()); err != nil {
			t.Fatal(err)
		}
		if all := read(t, a, 0, -1); all.out.String() != "before\nafter\n" || *all.end.ExitCode != 0 {
			t.Errorf("%q %+v", all.out.String(), all.end)
		}
	})
	s.sub("a running sandbox survived, unharmed", func(t *testing.T) {
		o := s.firstPass(t)[survivor]
		if o == nil || o.Phase != backend.PhaseRunning || !o.StartedAt.Equal(before.StartedAt) || string(o.Submitted) != string(before.Submitted) {
			t.Fatalf("after the restart: %+v", o)
		}
		if r := s.exec(t, survivor, backend.Exec{Argv: []string{"cat", "/tmp/mark"}}); r.out != "mark" {
			t.Errorf("%+v", r)
		}
	})
	s.sub("a paused sandbox is still paused", func(t *testing.T) {
		if still == "" {
			return
		}
		if o := s.firstPass(t)[still]; o == nil || o.Phase != backend.PhasePaused {
			t.Fatalf("after the restart: %+v", o)
		}
		if err := s.b.Resume(s.ctx, still); err != nil {
			t.Fatal(err)
		}
		if r := s.exec(t, still, backend.Exec{Argv: []string{"echo", "on"}}); r.out != "on\n" {
			t.Errorf("%+v", r)
		}
	})
	s.sub("an end before the restart is still told, with its code", func(t *testing.T) {
		o := s.firstPass(t)[short]
		if o == nil || o.Phase != backend.PhaseEnded || o.ExitCode == nil || *o.ExitCode != 9 {
			t.Errorf("after the restart: %+v", o)
		}
	})
	s.sub("create of a known id still does nothing", func(t *testing.T) {
		w := s.work("true")
		w.SandboxID = survivor
		if err := s.b.Create(s.ctx, w); err != nil {
			t.Fatal(err)
		}
		if r := s.exec(t, survivor, backend.Exec{Argv: []string{"cat", "/tmp/mark"}}); r.out != "mark" {
			t.Errorf("%+v", r)
		}
	})
}

// noDrift wants what is held of a sandbox that nobody touched to be what was submitted.
func (s *suite) noDrift(t *testing.T, id string, submitted json.RawMessage, secret string) {
	t.Helper()
	if _, err := s.b.Drift(s.ctx, "unknown", submitted); !fault.Is(err, fault.NotFound) {
		t.Errorf("the drift of an unknown sandbox: %v", err)
	}
	d, err := s.b.Drift(s.ctx, id, submitted)
	if fault.Is(err, fault.Unimplemented) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range d.Fields {
		if !f.Filled {
			t.Errorf("%s was %s by %q: %s, now %s", f.Path, f.Kind, f.By, f.Submitted, f.Held)
		}
		if strings.Contains(string(f.Held), secret) {
			t.Errorf("a secret is in %s", f.Path)
		}
	}
}
