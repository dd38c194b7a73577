package hub_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/link/dial"
	"github.com/bermhq/berm/internal/link/hub"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

// servers are several servers that share a database. A world is what one of them is to its callers.
type servers struct {
	testing.TB
	store    store.Store
	controls control.Config
	// quiet: they do not say where runners reach them.
	quiet bool
	admin core.Principal
	count atomic.Int64
}

func newServers(t *testing.T, controls control.Config, quiet bool) *servers {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: "sqlite://" + filepath.Join(t.TempDir(), "berm.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	controls.Store, controls.ServerBeat = db, 100*time.Millisecond
	return &servers{TB: t, store: db, controls: controls, quiet: quiet}
}

// server starts one, which stop ends as one that is told to.
func (s *servers) server() (w *world, stop func()) {
	s.Helper()
	w = &world{TB: s.TB}
	front := httptest.NewUnstartedServer(nil)
	if !s.quiet {
		s.controls.Advertise = front.Listener.Addr().String()
	}
	w.svc = control.New(w.ctx(), s.controls)
	place := "000000000000000" + string(rune('0'+s.count.Add(1)))
	out, err := w.svc.Bootstrap(w.ctx(), control.Bootstrap{Place: place})
	w.must(err)
	if s.admin, err = w.svc.Authenticate(w.ctx(), out.AdminSecret); err != nil {
		s.Fatal(err)
	}
	w.admin = s.admin
	w.must(w.svc.Recover(w.ctx()))
	w.hub = hub.New(w.ctx(), hub.Config{Control: w.svc, Recheck: 100 * time.Millisecond})
	front.Config.Handler = w.hub
	front.Start()
	w.url = front.URL
	over := false
	stop = func() {
		if over {
			return
		}
		over = true
		w.hub.Close()
		front.Close()
		w.svc.Close()
	}
	s.Cleanup(stop)
	return w, stop
}

// addRunner makes a runner of another machine.
func (w *world) addRunner(name string) {
	w.Helper()
	layer, err := spec.ParseLayer([]byte(`{"container_image":"host","network":{"egress":{"default":"none","modes":{"none":{"type":"none"}}}}}`))
	w.must(err)
	profile, err := w.svc.CreateProfile(w.ctx(), w.admin, control.ProfileInput{DisplayName: "plain", Spec: layer})
	w.must(err)
	_, _, err = w.svc.CreateRunner(w.ctx(), w.admin, control.RunnerInput{
		RunnerID: name, Zone: "lab", ClusterName: name, Bindings: []core.Binding{{ProfileID: profile.ID, Default: true}},
	})
	w.must(err)
}

// ended stops a sandbox through one server and waits at another.
func (w *world) ended(at *world, id string) {
	w.Helper()
	w.must(w.svc.Stop(w.ctx(), w.admin, id, 0))
	v, err := at.svc.Wait(at.ctx(), at.admin, id, control.Ended)
	w.must(err)
	if v.Status != core.StatusCompleted {
		w.Errorf("%s %s", v.Status, v.StatusReason)
	}
}

// TestALineToEachServer: a runner that knows the way to one server keeps a line to each, as they come and go.
func TestALineToEachServer(t *testing.T) {
	s := newServers(t, control.Config{}, false)
	a, stopA := s.server()
	b, stopB := s.server()
	a.addRunner("r1")
	behind := fake.New(fake.Config{})
	p := a.start(a.enrol("r1", "machine:1"), "i", behind, true)
	b.connected("r1", true)
	throughA, throughB := a.running("r1"), b.running("r1")
	b.ended(a, throughA)
	stopA()
	throughB2 := b.running("r1")
	b.ended(b, throughB)
	c, _ := s.server()
	c.connected("r1", true)
	stopB() // the runner has never been told of c but by b
	d, _ := s.server()
	d.connected("r1", true)
	c.ended(d, throughB2)
	c.ended(d, d.running("r1"))
	a.must(p.end())
	c.connected("r1", false)
	d.connected("r1", false)
}

// TestSecondProcessAtAnotherServer: whoever has a copy of a runner's credential is refused by every server, also by one that the runner
// is not connected to.
func TestSecondProcessAtAnotherServer(t *testing.T) {
	s := newServers(t, control.Config{}, true)
	a, _ := s.server()
	b, _ := s.server()
	a.addRunner("r1")
	c := a.enrol("r1", "machine:1")
	first := a.start(c, "first", fake.New(fake.Config{}), true)
	g := b.gateway("machine:1", "thief")
	thief := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.ctx())
	defer cancel()
	refused := make(chan string, 1000)
	go func() {
		thief <- dial.Run(ctx, dial.Config{Gateway: g, Credential: c, Dir: s.TempDir(), Link: runner.NewAgent(fake.New(fake.Config{}), nil), Logger: slog.New(&reasons{refused})})
	}()
	if reason := <-refused; reason != fault.ReasonRunnerExists {
		t.Errorf("refused for %s", reason)
	}
	cancel()
	b.must(<-thief)
	b.connected("r1", false)
	a.must(first.end())
	b.start(c, "second", fake.New(fake.Config{}), true)
}

// TestRenewalByEitherServer: several servers replace the credential of a runner, also at the same time, and it keeps its lines.
func TestRenewalByEitherServer(t *testing.T) {
	s := newServers(t, control.Config{CredentialTTL: 3 * time.Second}, false)
	a, _ := s.server()
	b, _ := s.server()
	a.addRunner("r1")
	first := a.enrol("r1", "machine:1")
	p := a.start(first, "i", fake.New(fake.Config{}), true)
	b.connected("r1", true)
	seen := map[string]bool{first.Secret: true}
	a.eventually("it was replaced three times", func() bool {
		now, err := dial.Load(p.dir)
		a.must(err)
		if now != nil {
			seen[now.Secret] = true
		}
		return len(seen) > 3
	})
	a.connected("r1", true)
	b.connected("r1", true)
	_, err := a.svc.AuthenticateRunner(a.ctx(), first.Secret, first.Identity)
	wantFault(t, err, fault.Unauthenticated, fault.ReasonRunnerCredential)
	b.ended(a, a.running("r1"))
	a.must(p.end())
}

// reasons is a log that tells why dialing failed.
type reasons struct{ to chan string }

func (r *reasons) Enabled(context.Context, slog.Level) bool { return true }
func (r *reasons) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *reasons) WithGroup(string) slog.Handler            { return r }
func (r *reasons) Handle(_ context.Context, record slog.Record) error {
	record.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			r.to <- fault.From(err).Reason
		}
		return true
	})
	return nil
}
