package hub_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link/dial"
	"github.com/bermhq/berm/internal/link/hub"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a gateway with its hub on loopback, and fake backends for runners.
type world struct {
	testing.TB
	svc   *control.Service
	hub   *hub.Hub
	url   string
	admin core.Principal
	cfg   hub.Config
}

func newWorld(t *testing.T, cfg hub.Config, controls control.Config, runners ...string) *world {
	t.Helper()
	w := &world{TB: t, cfg: cfg}
	store, err := sqlstore.Open(w.ctx(), sqlstore.Config{DSN: "sqlite://" + filepath.Join(t.TempDir(), "berm.db")})
	w.must(err)
	t.Cleanup(func() { _ = store.Close() })
	controls.Store = store
	w.svc = control.New(w.ctx(), controls)
	t.Cleanup(w.svc.Close)
	out, err := w.svc.Bootstrap(w.ctx(), control.Bootstrap{Runners: []control.LocalRunner{{Name: "local"}}})
	w.must(err)
	w.admin, err = w.svc.Authenticate(w.ctx(), out.AdminSecret)
	w.must(err)
	profile, err := w.svc.GetProfile(w.ctx(), w.admin, control.DefaultProfile)
	w.must(err)
	for _, name := range runners {
		_, _, err := w.svc.CreateRunner(w.ctx(), w.admin, control.RunnerInput{
			RunnerID: name, Zone: "local", ClusterName: name, Bindings: []core.Binding{{ProfileID: profile.ID, Default: true}},
		})
		w.must(err)
	}
	w.cfg.Control = w.svc
	w.hub = hub.New(w.ctx(), w.cfg)
	server := httptest.NewServer(w.hub)
	t.Cleanup(server.Close)
	t.Cleanup(w.hub.Close)
	w.url = server.URL
	return w
}

func (w *world) ctx() context.Context { return context.WithoutCancel(w.Context()) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%v (%s)", err, fault.From(err).Reason)
	}
}

func (w *world) gateway(identity, instance string) *dial.Gateway {
	w.Helper()
	g := &dial.Gateway{URL: w.url, Identity: identity, Instance: instance}
	w.must(g.Check())
	return g
}

func (w *world) token(name string) string {
	w.Helper()
	e, err := w.svc.JoinRunner(w.ctx(), w.admin, name, 0)
	w.must(err)
	return e.Secret
}

func (w *world) enrol(name, identity string) *dial.Credential {
	w.Helper()
	c, err := w.gateway(identity, "i").Enrol(w.ctx(), w.token(name))
	w.must(err)
	return c
}

// process is a runner's process.
type process struct {
	w    *world
	stop context.CancelFunc
	err  chan error
	dir  string
}

// start starts a process with a credential, and waits until it is connected unless wait is false.
func (w *world) start(c *dial.Credential, instance string, b backend.Backend, wait bool) *process {
	w.Helper()
	return w.startLink(c, instance, runner.NewAgent(b, nil), wait)
}

func (w *world) startLink(c *dial.Credential, instance string, l runner.Link, wait bool) *process {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx())
	p := &process{w: w, stop: cancel, err: make(chan error, 1), dir: w.TB.(*testing.T).TempDir()}
	up := make(chan struct{}, 100)
	go func() {
		p.err <- dial.Run(ctx, dial.Config{
			Gateway: w.gateway(c.Identity, instance), Dir: p.dir, Credential: c, Link: l, Logger: slog.New(slog.DiscardHandler),
			Up: func() { up <- struct{}{} }, Heartbeat: w.cfg.Heartbeat, Silence: w.cfg.Silence,
		})
	}()
	w.Cleanup(func() { p.end() })
	if wait {
		w.connected(c.RunnerID, true)
	}
	return p
}

func (p *process) end() error {
	p.stop()
	err := <-p.err
	p.err <- err
	return err
}

func (w *world) connected(name string, want bool) {
	w.Helper()
	w.eventually(name+" is connected or not", func() bool {
		v, err := w.svc.GetRunner(w.ctx(), w.admin, name)
		w.must(err)
		return (v.Status.Connection == control.Connected) == want
	})
}

// eventually waits with a bound that only a bug meets.
func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("never: %s", what)
		}
	}
}

func (w *world) running(name string) string {
	w.Helper()
	sb, _, err := w.svc.Launch(w.ctx(), w.admin, &specpb.Launch{RunnerIds: []string{name}, Command: "sleep", Args: []string{"infinity"}})
	w.must(err)
	ctx, cancel := context.WithTimeout(w.ctx(), time.Minute)
	defer cancel()
	got, err := w.svc.Wait(ctx, w.admin, sb.ID, control.Settled)
	w.must(err)
	if got.Status != core.StatusRunning {
		w.Fatalf("%s %s", got.Status, got.StatusReason)
	}
	return sb.ID
}

func wantFault(t testing.TB, err error, code fault.Code, reason string) {
	t.Helper()
	if !fault.Is(err, code) || !fault.HasReason(err, reason) {
		t.Errorf("got %v (%s %s), want %s %s", err, fault.CodeOf(err), fault.From(err).Reason, code, reason)
	}
}

func TestEnrolment(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "r1", "r2")
	token := w.token("r1")
	g := w.gateway("machine:1", "i")
	c, err := g.Enrol(w.ctx(), token)
	w.must(err)
	if c.RunnerID != "r1" || c.Secret == "" || c.Secret == token || time.Until(c.ExpiresAt) < time.Hour {
		t.Errorf("%+v", c)
	}
	_, err = g.Enrol(w.ctx(), token)
	wantFault(t, err, fault.Unauthenticated, fault.ReasonTokenInvalid) // once
	_, err = g.Enrol(w.ctx(), c.Secret)
	wantFault(t, err, fault.Unauthenticated, fault.ReasonTokenInvalid) // a credential is no enrolment token
	_, err = g.Enrol(w.ctx(), "berm_nonsense")
	wantFault(t, err, fault.Unauthenticated, fault.ReasonTokenInvalid)
	_, err = g.Enrol(w.ctx(), w.token("r2"))
	wantFault(t, err, fault.Exists, fault.ReasonRunnerExists) // two runners with one identity
	_, err = w.svc.JoinRunner(w.ctx(), w.admin, "local", 0)
	wantFault(t, err, fault.Precondition, fault.ReasonRunnerEmbedded)
	user := w.admin
	user.Role = core.RoleUser
	_, err = w.svc.JoinRunner(w.ctx(), user, "r1", 0)
	wantFault(t, err, fault.Denied, fault.ReasonRoleMissing)
	if p, err := w.svc.Authenticate(w.ctx(), c.Secret); err != nil || p.Allows(core.RoleUser) {
		t.Errorf("a credential on the API: %+v, %v", p, err)
	}
	// A second enrolment in the same place ends the first credential.
	again := w.enrol("r1", "machine:1")
	_, err = w.svc.AuthenticateRunner(w.ctx(), c.Secret, "machine:1")
	wantFault(t, err, fault.Unauthenticated, fault.ReasonRunnerCredential)
	_, err = w.svc.AuthenticateRunner(w.ctx(), again.Secret, "machine:2")
	wantFault(t, err, fault.Denied, fault.ReasonRunnerIdentity)
	// Elsewhere it is another place, which is free while nothing lives on the runner.
	p := w.start(again, "a", fake.New(fake.Config{}), true)
	w.running("r1")
	_, err = w.gateway("machine:9", "i").Enrol(w.ctx(), w.token("r1"))
	wantFault(t, err, fault.Precondition, fault.ReasonRunnerHasSandboxes)
	w.must(p.end())
}

func TestOneTokenManyAtOnce(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "r1")
	token := w.token("r1")
	var mu sync.Mutex
	won := 0
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := w.gateway("machine:1", "i").Enrol(w.ctx(), token); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			} else if !fault.HasReason(err, fault.ReasonTokenInvalid) {
				t.Errorf("%v", err)
			}
		})
	}
	group.Wait()
	if won != 1 {
		t.Errorf("a token was used %d times", won)
	}
}

// TestRunnerAndGatewayComeAndGo: what runs goes on, and both find each other again.
func TestRunnerAndGatewayComeAndGo(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "r1")
	c, b := w.enrol("r1", "machine:1"), fake.New(fake.Config{})
	p := w.start(c, "a", b, true)
	id := w.running("r1")
	w.must(p.end())
	w.connected("r1", false)
	v, err := w.svc.Get(w.ctx(), w.admin, id)
	w.must(err)
	if v.Sandbox.Status != core.StatusRunning || v.Sandbox.Observation != core.ObservationUnknown {
		t.Errorf("without a runner: %s %s", v.Sandbox.Status, v.Sandbox.Observation)
	}
	_, err = w.svc.Exec(w.ctx(), w.admin, id, backend.Exec{Argv: []string{"true"}})
	wantFault(t, err, fault.Unavailable, fault.ReasonRunnerUnavailable)
	w.start(c, "b", b, true)
	if v, err = w.svc.Get(w.ctx(), w.admin, id); err != nil || v.Sandbox.Observation != core.ObservationCurrent {
		t.Errorf("with it again: %+v, %v", v, err)
	}
	if b.Creates() != 1 {
		t.Errorf("made %d times", b.Creates())
	}
}

// TestStreamsEndWithTheLine: what was not seen to end is an error, never an end.
func TestStreamsEndWithTheLine(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "r1")
	p := w.start(w.enrol("r1", "machine:1"), "a", fake.New(fake.Config{}), true)
	id := w.running("r1")
	command, err := w.svc.Exec(w.ctx(), w.admin, id, backend.Exec{Argv: []string{"sh", "-c", "echo first; sleep infinity"}})
	w.must(err)
	defer command.Close()
	if f, err := command.Recv(); err != nil || string(f.Data) != "first\n" {
		t.Fatalf("%+v, %v", f, err)
	}
	logs, err := w.svc.Logs(w.ctx(), w.admin, id, backend.LogQuery{Follow: true})
	w.must(err)
	defer logs.Close()
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() { written <- w.svc.WriteFile(w.ctx(), w.admin, id, "/tmp/half", 0o600, pr) }()
	_, err = pw.Write([]byte("half of it"))
	w.must(err)
	w.must(p.end())
	_, err = command.Recv()
	wantFault(t, err, fault.Unavailable, fault.ReasonRunnerUnavailable)
	_, err = logs.Recv()
	wantFault(t, err, fault.Unavailable, fault.ReasonRunnerUnavailable)
	_ = pw.CloseWithError(errors.New("the caller has seen enough"))
	if err := <-written; err == nil {
		t.Error("a file of which half came was written")
	}
}

// TestTwoProcessesOfOneIdentity: who is there and alive stays, whoever has a copy of the credential; who is not alive is replaced.
func TestTwoProcessesOfOneIdentity(t *testing.T) {
	w := newWorld(t, hub.Config{Heartbeat: 50 * time.Millisecond, Silence: time.Hour}, control.Config{}, "r1")
	c, b := w.enrol("r1", "machine:1"), fake.New(fake.Config{})
	first := w.start(c, "first", b, true)
	thief := w.start(c, "thief", fake.New(fake.Config{}), false)
	time.Sleep(300 * time.Millisecond) // it tries, and tries again
	id := w.running("r1")
	if b.Work(id) == nil {
		t.Error("the sandbox went to the second process")
	}
	w.must(thief.end())
	w.must(first.end())
	w.start(c, "second", b, true)
}

// TestRevokedCredential ends a line that is up, and the process.
func TestRevokedCredential(t *testing.T) {
	w := newWorld(t, hub.Config{Recheck: 20 * time.Millisecond}, control.Config{}, "r1")
	p := w.start(w.enrol("r1", "machine:1"), "a", fake.New(fake.Config{}), true)
	tokens, _, err := w.svc.ListTokens(w.ctx(), w.admin, "", control.Page{})
	w.must(err)
	for _, k := range tokens {
		if k.Role == core.RoleRunner {
			w.must(w.svc.RevokeToken(w.ctx(), w.admin, "", k.ID))
		}
	}
	wantFault(t, <-p.err, fault.Unauthenticated, fault.ReasonRunnerCredential)
	p.err <- nil
	w.connected("r1", false)
}

// TestRenewal: a credential is replaced while the line is up, and the one before is of no use any more.
func TestRenewal(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{CredentialTTL: 3 * time.Second}, "r1")
	c := w.enrol("r1", "machine:1")
	p := w.start(c, "a", fake.New(fake.Config{}), true)
	w.eventually("the old credential ends", func() bool {
		_, err := w.svc.AuthenticateRunner(w.ctx(), c.Secret, c.Identity)
		return fault.HasReason(err, fault.ReasonRunnerCredential)
	})
	stored, err := dial.Load(p.dir)
	w.must(err)
	if stored == nil || stored.Secret == c.Secret {
		t.Fatalf("%+v", stored)
	}
	w.connected("r1", true)
	w.must(p.end())
	old := w.start(c, "b", fake.New(fake.Config{}), false)
	wantFault(t, <-old.err, fault.Unauthenticated, fault.ReasonRunnerCredential)
	old.err <- nil
}

func TestVersions(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "r1")
	g := w.gateway("machine:1", "i")
	token := w.token("r1")
	g.Versions.Min, g.Versions.Max = 7, 9
	_, err := g.Enrol(w.ctx(), token)
	wantFault(t, err, fault.Precondition, fault.ReasonLinkVersion)
	g.Versions.Min, g.Versions.Max = 1, 9
	c, err := g.Enrol(w.ctx(), token) // it was not spent
	w.must(err)
	g.Versions.Min = 7
	err = dial.Run(w.ctx(), dial.Config{Gateway: g, Credential: c, Dir: t.TempDir(), Link: runner.NewAgent(fake.New(fake.Config{}), nil), Logger: slog.New(slog.DiscardHandler)})
	wantFault(t, err, fault.Precondition, fault.ReasonLinkVersion)
}

// TestStrangers: what is no runner gets an answer, and keeps nothing.
func TestStrangers(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "r1")
	c := w.enrol("r1", "machine:1")
	for name, change := range map[string]func(http.Header){
		"no token":      func(h http.Header) { h.Del("Authorization") },
		"another token": func(h http.Header) { h.Set("Authorization", "Bearer berm_x") },
		"no upgrade":    func(h http.Header) { h.Del("Upgrade") },
		"no versions":   func(h http.Header) { h.Del("Berm-Link-Versions") },
		"no instance":   func(h http.Header) { h.Del("Berm-Link-Instance") },
		"no identity":   func(h http.Header) { h.Del("Berm-Link-Identity") },
		"no kind":       func(h http.Header) { h.Set("Berm-Link-Kind", "other") },
		"no session":    func(h http.Header) { h.Set("Berm-Link-Kind", "bulk") },
	} {
		req, err := http.NewRequestWithContext(w.ctx(), http.MethodGet, w.url+"/berm/link/connect", nil)
		w.must(err)
		for k, v := range map[string]string{
			"Authorization": "Bearer " + c.Secret, "Connection": "Upgrade", "Upgrade": "berm-link", "Berm-Link-Versions": "1-1",
			"Berm-Link-Instance": "i", "Berm-Link-Identity": "machine:1", "Berm-Link-Kind": "control",
		} {
			req.Header.Set(k, v)
		}
		change(req.Header)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		w.must(err)
		if resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("%s: %s", name, resp.Status)
		}
		resp.Body.Close()
	}
}
