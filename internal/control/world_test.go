package control_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/link/linktest"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
	"github.com/bermhq/berm/internal/store/sqlstore"
	"github.com/bermhq/berm/internal/store/storetest/pgtest"
)

// lineHeartbeat is how often a runner over a line tells how it is, in tests with a clock of their own.
const lineHeartbeat = time.Minute

// overLine: runners are reached over a line, not in process.
var overLine bool

// TestMain runs every test twice: with runners in process, as an embedded one is, and over a line, as any other.
func TestMain(m *testing.M) {
	if code := m.Run(); code != 0 {
		postgres.Stop()
		os.Exit(code)
	}
	overLine = true
	code := m.Run()
	postgres.Stop()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// agent is the runner of a backend, as it is reached in this run.
func (w *world) agent(b backend.Backend) runner.Link {
	w.Helper()
	a := runner.NewAgent(b, nil)
	if w.deployed != nil {
		a.DeployedAs(w.deployed)
	}
	if !overLine {
		return a
	}
	if time.Now().Year() < 2001 {
		// A test with a clock of its own, which begins in 2000, knows no sockets, and lets hours pass at once: few heartbeats will do.
		return linktest.Over(w, a, linktest.Config{Pipe: true, Heartbeat: lineHeartbeat, Silence: 10 * lineHeartbeat, Now: w.cfg.Now})
	}
	return linktest.Over(w, a, linktest.Config{})
}

// world is a server without its fronts: SQLite in a temporary directory, and a fake backend behind each runner.
type world struct {
	testing.TB
	dir   string
	store *sqlstore.Store
	svc   *control.Service
	fakes map[string]*fake.Backend
	// operator, admin and user are callers of the organization "default".
	operator, admin, user core.Principal
	runners               map[string]*core.Runner
	profile               *core.Profile
	cfg                   control.Config
	// deployed is how runners that are attached from then on are deployed; nil: as part of the server.
	deployed runner.Deployment
	seed     atomic.Uint64
	// shut, when set, holds back what the first of two servers hands over (servers_test.go).
	shut atomic.Pointer[chan struct{}]
	// dsn is SQLite in dir, unless a test brings another database.
	dsn string
}

// postgres is the server of this test process; it starts when the first test asks for a database.
var postgres pgtest.Server

// newWorld starts a server with these runners, NAME or NAME=ZONE; one called "r1" by default.
func newWorld(t testing.TB, runners ...string) *world {
	t.Helper()
	return newWorldWith(t, control.Config{}, fake.Config{}, runners...)
}

func newWorldWith(t testing.TB, cfg control.Config, backendCfg fake.Config, runners ...string) *world {
	t.Helper()
	return newWorldOn(t, "", cfg, backendCfg, runners...)
}

// newWorldOn is newWorldWith on a database of its own.
func newWorldOn(t testing.TB, dsn string, cfg control.Config, backendCfg fake.Config, runners ...string) *world {
	t.Helper()
	if len(runners) == 0 {
		runners = []string{"r1"}
	}
	w := &world{TB: t, dir: t.TempDir(), dsn: dsn, fakes: map[string]*fake.Backend{}, runners: map[string]*core.Runner{}, cfg: cfg}
	if dsn == "" {
		w.dsn = "sqlite://" + filepath.Join(w.dir, "berm.db")
	}
	w.cfg.Seed = func() uint64 { return w.seed.Add(1) }
	if testing.Verbose() {
		w.cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	w.open()
	t.Cleanup(w.close)
	var in control.Bootstrap
	for _, r := range runners {
		name, zone, _ := strings.Cut(r, "=")
		in.Runners = append(in.Runners, control.LocalRunner{Name: name, Zone: zone})
		w.fakes[name] = fake.New(backendCfg)
	}
	out, err := w.svc.Bootstrap(w.ctx(), in)
	w.must(err)
	w.operator, err = w.svc.Authenticate(w.ctx(), out.AdminSecret)
	w.must(err)
	w.admin, w.user = w.operator, w.operator
	w.admin.Role, w.user.Role = core.RoleAdmin, core.RoleUser
	w.must(w.svc.Recover(w.ctx()))
	for _, r := range out.Runners {
		w.runners[r.RunnerID] = r
		w.attach(r.RunnerID)
	}
	w.profile, err = w.svc.GetProfile(w.ctx(), w.user, control.DefaultProfile)
	w.must(err)
	return w
}

// open opens store and service, as a process that starts does.
func (w *world) open() {
	w.Helper()
	var err error
	w.store, err = sqlstore.Open(w.ctx(), sqlstore.Config{DSN: w.dsn, Now: w.cfg.Now})
	w.must(err)
	cfg := w.cfg
	cfg.Store = w.store
	w.svc = control.New(w.ctx(), cfg)
}

func (w *world) close() {
	w.svc.Close()
	if err := w.store.Close(); err != nil {
		w.Errorf("close the store: %v", err)
	}
}

// restart ends the process and starts another one on the same data; the backends live on.
func (w *world) restart() {
	w.Helper()
	w.close()
	w.open()
	w.must(w.svc.Recover(w.ctx()))
}

func (w *world) attach(name string) {
	w.Helper()
	w.must(w.svc.Attach(w.ctx(), w.runners[name].ID, w.agent(w.fakes[name])))
}

// ctx is one that cleanup can still use.
func (w *world) ctx() context.Context { return context.WithoutCancel(w.Context()) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%v (%s %s)", err, fault.CodeOf(err), fault.From(err).Reason)
	}
}

func (w *world) layer(text string) *spec.Layer {
	w.Helper()
	l, err := spec.ParseLayer([]byte(text))
	w.must(err)
	return l
}

// newProfile makes a profile with this spec.
func (w *world) newProfile(name, specText string) *core.Profile {
	w.Helper()
	p, err := w.svc.CreateProfile(w.ctx(), w.admin, control.ProfileInput{DisplayName: name, Spec: w.layer(specText)})
	w.must(err)
	return p
}

// editProfile replaces the spec of a profile and returns the warnings.
func (w *world) editProfile(ref, specText string) []string {
	w.Helper()
	_, warnings, err := w.svc.UpdateProfile(w.ctx(), w.admin, ref, control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(specText)}})
	w.must(err)
	return warnings
}

// bind replaces the bindings of a runner.
func (w *world) bind(runnerID string, bindings ...core.Binding) error {
	_, _, err := w.svc.UpdateRunner(w.ctx(), w.admin, runnerID, control.RunnerPatch{
		Mask: []string{"profile_bindings"}, Runner: control.RunnerInput{Bindings: bindings},
	})
	return err
}

// launch starts a sandbox.
func (w *world) launch(l *specpb.Launch) *core.Sandbox {
	w.Helper()
	sb, _, err := w.svc.Launch(w.ctx(), w.user, l)
	w.must(err)
	return sb
}

// running launches and waits until it runs.
func (w *world) running(l *specpb.Launch) *core.Sandbox {
	w.Helper()
	sb := w.wait(w.launch(l).ID, control.Settled)
	if sb.Status != core.StatusRunning {
		w.Fatalf("sandbox is %s %s", sb.Status, sb.StatusReason)
	}
	return sb
}

// wait waits for a condition, with a bound that only a bug meets.
func (w *world) wait(id string, until func(*core.Sandbox) bool) *core.Sandbox {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx(), time.Minute)
	defer cancel()
	sb, err := w.svc.Wait(ctx, w.user, id, until)
	w.must(err)
	return sb
}

func (w *world) ended(id string) *core.Sandbox {
	w.Helper()
	return w.wait(id, control.Ended)
}

func (w *world) get(id string) *core.Sandbox {
	w.Helper()
	v, err := w.svc.Get(w.ctx(), w.user, id)
	w.must(err)
	return v.Sandbox
}

// count returns how many sandboxes there are, ended ones too.
func (w *world) count() int {
	w.Helper()
	all, _, err := w.svc.List(w.ctx(), w.user, control.SandboxQuery{IncludeEnded: true})
	w.must(err)
	return len(all)
}

// reserved returns what the store counts as used on a runner.
func (w *world) reserved(runnerID string) core.Amounts {
	w.Helper()
	var a core.Amounts
	w.must(w.store.View(w.ctx(), func(r store.Reader) error {
		var err error
		a, err = r.Reserved(w.ctx(), w.runners[runnerID].ID)
		return err
	}))
	return a
}

// otherOrg makes an organization with an admin.
func (w *world) otherOrg(name string) core.Principal {
	w.Helper()
	org, err := w.svc.CreateOrg(w.ctx(), w.operator, name)
	w.must(err)
	_, secret, err := w.svc.CreateToken(w.ctx(), w.operator, control.TokenInput{Org: org.Name, Name: "admin", Role: core.RoleAdmin})
	w.must(err)
	p, err := w.svc.Authenticate(w.ctx(), secret)
	w.must(err)
	return p
}

// wantFault checks code and reason, and that every part is in the text of the error.
func wantFault(t testing.TB, err error, code fault.Code, reason string, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s %s", code, reason)
	}
	f := fault.From(err)
	if f.Code != code || f.Reason != reason {
		t.Errorf("got %s %s, want %s %s: %v", f.Code, f.Reason, code, reason, err)
	}
	for _, part := range parts {
		if !strings.Contains(f.Error()+f.Hint, part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
}

// hasField reports whether a violation is at a path.
func hasField(err error, path string) bool {
	return slices.ContainsFunc(fault.From(err).Fields, func(f fault.Field) bool { return f.Path == path })
}
