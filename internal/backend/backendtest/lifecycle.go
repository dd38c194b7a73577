package backendtest

import (
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *suite) testInfo() {
	info := s.b.Info()
	if info.Refusal != "" {
		s.Fatalf("the backend under test refuses to run anything: %s", info.Refusal)
	}
	if info.Kind == "" || info.Architecture == "" || info.Isolation == "" {
		s.Errorf("kind, architecture and isolation must be said: %+v", info)
	}
	found := false
	for _, c := range info.RuntimeClasses {
		found = found || c == info.DefaultRuntimeClass
	}
	if !found {
		s.Errorf("default runtime class %q is not among %q", info.DefaultRuntimeClass, info.RuntimeClasses)
	}
	if info.Capacity.Sandboxes <= 0 || info.Capacity.CPUMillis <= 0 || info.Capacity.MemoryBytes <= 0 {
		s.Errorf("capacity must be positive: %+v", info.Capacity)
	}
	if err := s.b.Check(s.work("true")); err != nil {
		s.Errorf("check of a plain work: %v", err)
	}
	for path, change := range s.opts.Refused {
		w := s.work("true")
		change(w)
		err := s.b.Check(w)
		wantFault(s.T, err, fault.Precondition, fault.ReasonBackendUnsupported)
		named := false
		for _, f := range fault.From(err).Fields {
			named = named || f.Path == path || strings.HasPrefix(f.Path, path+".")
		}
		if !named {
			s.Errorf("the refusal does not name %s: %v", path, err)
		}
	}
}

func (s *suite) testLifecycle() {
	s.sub("exit codes are the process's own", func(t *testing.T) {
		for code, command := range map[int32][]string{0: {"true"}, 1: {"false"}, 7: {"sh", "-c", "exit 7"}, 255: {"sh", "-c", "exit 255"}} {
			before := time.Now()
			id := s.create(t, s.work(command...))
			o := s.ended(t, id)
			if o.Failed || o.Reason != core.EndExited {
				t.Errorf("%q: failed %v, reason %s %s", command, o.Failed, o.Reason, o.Message)
			}
			if o.ExitCode == nil || *o.ExitCode != code {
				t.Errorf("%q: exit code %v, want %d", command, o.ExitCode, code)
			}
			if o.StartedAt.IsZero() || o.At.Before(o.StartedAt) || o.StartedAt.Before(before.Add(-time.Minute)) {
				t.Errorf("%q: started %v, ended %v", command, o.StartedAt, o.At)
			}
		}
	})
	s.sub("a command that does not exist could not start", func(t *testing.T) {
		o := s.ended(t, s.create(t, s.work("/nonexistent/program")))
		if !o.Failed || o.Reason != core.EndStartFailed || o.ExitCode != nil {
			t.Errorf("failed %v, reason %s, exit code %v", o.Failed, o.Reason, o.ExitCode)
		}
		if !strings.Contains(o.Message, "/nonexistent/program") {
			t.Errorf("the message does not name the command: %q", o.Message)
		}
	})
	if s.opts.MissingImage != "" {
		s.sub("an image that is not there", func(t *testing.T) {
			w := s.work("true")
			w.Spec.ContainerImage = proto.String(s.opts.MissingImage)
			o := s.ended(t, s.create(t, w))
			if !o.Failed || o.Reason != core.EndImageFailed || o.ExitCode != nil {
				t.Errorf("failed %v, reason %s, exit code %v", o.Failed, o.Reason, o.ExitCode)
			}
		})
	}
	s.sub("no command idles until stopped", func(t *testing.T) {
		id := s.create(t, s.work())
		s.await(t, id, "it runs", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })
	})
	s.sub("asked to idle it idles until stopped", func(t *testing.T) {
		w := s.work()
		w.Launch.Idle = true
		id := s.create(t, w)
		s.await(t, id, "it runs", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })
	})
	s.sub("create is idempotent, also concurrently", s.createOnce)
	s.sub("environment and mounted files", func(t *testing.T) {
		w := s.work("sh", "-c", `printenv GREETING && cat /etc-greeting/text`)
		w.Launch.EnvironmentVariables = map[string]string{"GREETING": "hello"}
		w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/etc-greeting/text", Content: []byte("from a file")}}
		o := s.ended(t, s.create(t, w))
		if o.ExitCode == nil || *o.ExitCode != 0 {
			t.Errorf("the main process did not find them: exit %v, %s %s", o.ExitCode, o.Reason, o.Message)
		}
	})
	s.sub("secrets are in the environment of all that runs", func(t *testing.T) {
		w := withSecret(s.work("printenv", "TOKEN"), "TOKEN", "of a store")
		if o := s.ended(t, s.create(t, w)); o.ExitCode == nil || *o.ExitCode != 0 {
			t.Errorf("the main process did not find it: exit %v, %s %s", o.ExitCode, o.Reason, o.Message)
		}
		id := s.create(t, withSecret(s.work(), "TOKEN", "of a store"))
		if r := s.exec(t, id, backend.Exec{Argv: []string{"printenv", "TOKEN"}}); r.out != "of a store\n" {
			t.Errorf("a command found %+v", r)
		}
	})
	s.sub("usage", func(t *testing.T) {
		id := s.idle(t)
		if _, err := s.b.Usage(s.ctx, id); err != nil {
			t.Errorf("usage of a running sandbox: %v", err)
		}
		_, err := s.b.Usage(s.ctx, "sbx-unknown")
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
	})
}

// withSecret adds a secret to a work.
func withSecret(w *backend.Work, name, value string) *backend.Work {
	w.Launch.SecretStores = []*specpb.SecretStoreUse{{StoreName: "team", Secrets: []*specpb.SecretUse{{Path: "p", EnvVar: name}}}}
	w.Secrets = []core.Secret{{EnvVar: name, Value: core.SecretValue(value)}}
	return w
}

// createOnce creates one id many times at once: it runs once, and later creates change nothing.
func (s *suite) createOnce(t *testing.T) {
	w := s.work("sleep", "infinity")
	s.ids = append(s.ids, w.SandboxID)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := s.b.Create(s.ctx, w); err != nil {
				t.Errorf("create: %v", err)
			}
		})
	}
	group.Wait()
	s.await(t, w.SandboxID, "it runs", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })
	if err := s.b.WriteFile(s.ctx, w.SandboxID, "/tmp/mark", 0o644, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.b.Create(s.ctx, w); err != nil {
		t.Errorf("create of a running sandbox: %v", err)
	}
	if r := s.exec(t, w.SandboxID, backend.Exec{Argv: []string{"cat", "/tmp/mark"}}); r.out != "x" {
		t.Errorf("a second create made a second sandbox: %+v", r)
	}
	if err := s.b.Stop(s.ctx, w.SandboxID, 0, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	s.ended(t, w.SandboxID)
	if err := s.b.Create(s.ctx, w); err != nil {
		t.Errorf("create of an ended sandbox: %v", err)
	}
	_, err := s.b.Exec(s.ctx, w.SandboxID, backend.Exec{Argv: []string{"true"}})
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
}
