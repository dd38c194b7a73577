package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/keyring"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/server"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a whole server on loopback: SQLite in a temporary directory, a fake backend behind each runner, and callers.
type world struct {
	testing.TB
	svc   *control.Service
	srv   *server.Server
	fakes map[string]*fake.Backend
	// addr is the shared port, native the gRPC listener, url the REST address.
	addr, native, url string
	// admin is the token of the data directory, user one with the role user.
	admin, user string
	// profile is the UUID of the profile "default".
	profile string
	http    *http.Client
}

// newWorld starts a server with these runners, NAME or NAME=ZONE; one called "r1" by default.
func newWorld(t testing.TB, runners ...string) *world {
	t.Helper()
	return newWorldWith(t, server.Config{Version: "1.2.3"}, runners...)
}

func newWorldWith(t testing.TB, cfg server.Config, runners ...string) *world {
	t.Helper()
	return newWorldOver(t, cfg, func(r runner.Link) runner.Link { return r }, runners...)
}

// newWorldOver is newWorldWith with something between the server and its runners.
func newWorldOver(t testing.TB, cfg server.Config, over func(runner.Link) runner.Link, runners ...string) *world {
	t.Helper()
	if len(runners) == 0 {
		runners = []string{"r1"}
	}
	w := &world{TB: t, fakes: map[string]*fake.Backend{}, http: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(w.http.CloseIdleConnections)
	ctx := context.WithoutCancel(t.Context())
	store, err := sqlstore.Open(ctx, sqlstore.Config{DSN: "sqlite://" + filepath.Join(t.TempDir(), "berm.db")})
	w.must(err)
	t.Cleanup(func() { w.must(store.Close()) })
	var seed atomic.Uint64
	keys := filepath.Join(t.TempDir(), "keys")
	w.must(os.WriteFile(keys, keyring.NewFile(), 0o600))
	ring, err := keyring.ReadFile(keys)
	w.must(err)
	controls := control.Config{Store: store, Keys: ring, Seed: func() uint64 { return seed.Add(1) }, PortHost: cfg.Ports.Hosts(), PortLink: cfg.Ports.Link}
	if cfg.Metrics != nil {
		controls.Meter = cfg.Metrics
	}
	w.svc = control.New(ctx, controls)
	t.Cleanup(w.svc.Close)
	var in control.Bootstrap
	for _, r := range runners {
		name, zone, _ := strings.Cut(r, "=")
		in.Runners = append(in.Runners, control.LocalRunner{Name: name, Zone: zone})
		w.fakes[name] = fake.New(fake.Config{})
	}
	out, err := w.svc.Bootstrap(ctx, in)
	w.must(err)
	w.admin = out.AdminSecret
	w.must(w.svc.Recover(ctx))
	for _, r := range out.Runners {
		w.profile = r.Bindings[0].ProfileID
		w.must(w.svc.Attach(ctx, r.ID, over(runner.NewAgent(w.fakes[r.RunnerID], nil))))
	}
	cfg.Control = w.svc
	w.srv, err = server.New(cfg)
	w.must(err)
	w.addr, w.native = w.serve(w.srv.Serve), w.serve(w.srv.ServeGRPC)
	w.url = "http://" + w.addr
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		w.http.CloseIdleConnections()
		_ = w.srv.Shutdown(ctx)
	})
	w.user = w.newToken(w.admin, "", "user", "user")
	return w
}

func (w *world) serve(with func(net.Listener) error) string {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	done := make(chan error, 1)
	go func() { done <- with(l) }()
	w.Cleanup(func() { w.must(<-done) })
	return l.Addr().String()
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) ctx() context.Context { return w.Context() }

// newToken makes a token over REST.
func (w *world) newToken(with, org, name, role string) string {
	w.Helper()
	a := w.call(with, http.MethodPost, "/berm/v1/tokens", object{"org": org, "name": name, "role": role})
	a.want(http.StatusOK)
	return a.text("token")
}

// newOrg makes an organization and returns the token of its admin.
func (w *world) newOrg(name string) string {
	w.Helper()
	w.call(w.admin, http.MethodPost, "/berm/v1/orgs", object{"name": name}).want(http.StatusOK)
	return w.newToken(w.admin, name, "admin", "admin")
}

type object = map[string]any

// answer is what REST answered.
type answer struct {
	w      *world
	status int
	header http.Header
	raw    string
	body   object
}

// call makes a REST call. body is an object, a text that is sent as it is, or nil.
func (w *world) call(token, method, path string, body any, header ...string) *answer {
	w.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		w.must(err)
		reader = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(w.ctx(), method, w.url+path, reader)
	w.must(err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := w.http.Do(r)
	w.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	w.must(err)
	a := &answer{w: w, status: resp.StatusCode, header: resp.Header, raw: string(text)}
	if err := json.Unmarshal(text, &a.body); err != nil {
		w.Errorf("%s %s answered %d with no JSON object: %q", method, path, resp.StatusCode, text)
	}
	return a
}

// want checks the status and that every part is in the body.
func (a *answer) want(status int, parts ...string) *answer {
	a.w.Helper()
	if a.status != status {
		a.w.Fatalf("status %d, want %d: %s", a.status, status, a.raw)
	}
	for _, p := range parts {
		if !strings.Contains(a.raw, p) {
			a.w.Errorf("the body does not say %q: %s", p, a.raw)
		}
	}
	return a
}

// at returns the value at a path of keys, nil when there is none.
func (a *answer) at(path ...string) any {
	var v any = a.body
	for _, k := range path {
		m, _ := v.(object)
		v = m[k]
	}
	return v
}

func (a *answer) text(path ...string) string {
	s, _ := a.at(path...).(string)
	return s
}

// reason returns that of the ErrorInfo of a Status body.
func (a *answer) reason() string {
	details, _ := a.body["details"].([]any)
	for _, d := range details {
		m, _ := d.(object)
		if s, ok := m["reason"].(string); ok && strings.HasSuffix(m["@type"].(string), "google.rpc.ErrorInfo") {
			return s
		}
	}
	return ""
}

// dial connects with gRPC and sends the token with every call.
func (w *world) dial(addr, token string) *grpc.ClientConn {
	w.Helper()
	with := func(ctx context.Context) context.Context {
		if token == "" {
			return ctx
		}
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(128<<20), grpc.MaxCallSendMsgSize(128<<20)),
		grpc.WithUnaryInterceptor(func(ctx context.Context, m string, q, a any, cc *grpc.ClientConn, i grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return i(with(ctx), m, q, a, cc, o...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string, s grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return s(with(ctx), d, cc, m, o...)
		}))
	w.must(err)
	w.Cleanup(func() { conn.Close() })
	return conn
}

func (w *world) gateway() v1beta2rpc.GatewayServiceClient {
	return v1beta2rpc.NewGatewayServiceClient(w.dial(w.addr, w.user))
}

func (w *world) explain() bermv1rpc.ExplainServiceClient {
	return bermv1rpc.NewExplainServiceClient(w.dial(w.addr, w.user))
}

// idle launches a sandbox that idles and returns its id.
func (w *world) idle() string {
	w.Helper()
	started, err := w.gateway().Start(w.ctx(), &v1beta2pb.StartSandboxRequest{Command: "sleep", Args: []string{"infinity"}})
	w.must(err)
	w.running(started.GetSandboxId())
	return started.GetSandboxId()
}

// running waits until a sandbox runs.
func (w *world) running(id string) {
	w.Helper()
	p, err := w.svc.Authenticate(w.ctx(), w.user)
	w.must(err)
	sb, err := w.svc.Wait(w.ctx(), p, id, control.Settled)
	w.must(err)
	if sb.Status != core.StatusRunning {
		w.Fatalf("the sandbox is %s: %s", sb.Status, sb.StatusReason)
	}
}

// reasonOf returns the reason of the ErrorInfo of a gRPC error.
func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func metaOf(err error) map[string]string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()
		}
	}
	return nil
}
