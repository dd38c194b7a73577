package soak

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/client"
)

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// world is a server and a runner, each a process that can be killed.
type world struct {
	*testing.T
	berm, dir string
	url       string
	env       []string
	client    *client.Client
	server    *process
	runner    *process
}

// process is a program that is started again with the same arguments.
type process struct {
	args []string
	log  string
	mu   sync.Mutex
	cmd  *exec.Cmd
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("sandboxes of this machine need root")
	}
	w := &world{T: t, dir: t.TempDir(), berm: program(t)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	address := l.Addr().String()
	w.must(l.Close())
	w.url = "http://" + address
	w.env = append(os.Environ(), "XDG_STATE_HOME="+w.path("state"), "XDG_CONFIG_HOME="+w.path("config"), "BERM_URL="+w.url)
	w.server = &process{args: []string{"serve", "--data", w.path("data"), "--listen", address}, log: "server.log"}
	t.Cleanup(func() { w.kill(w.server); w.kill(w.runner); w.logs() })
	w.start(w.server)
	w.ready()
	token, err := os.ReadFile(w.path("data/admin.token"))
	w.must(err)
	w.client, err = client.New(client.Config{URL: w.url, Token: strings.TrimSpace(string(token))})
	w.must(err)
	t.Cleanup(func() { _ = w.client.Close() })
	w.env = append(w.env, "BERM_TOKEN="+strings.TrimSpace(string(token)))
	w.cli("runner", "create", runnerID, "--zone", "local", "--cluster", runnerID, "--profile", "default")
	var join struct {
		Token string `json:"token"`
	}
	w.must(json.Unmarshal(w.cli("runner", "join", runnerID, "-o", "json"), &join))
	w.runner = &process{args: []string{"runner", "--gateway", w.url, "--data", w.path("edge"), "--token", join.Token}, log: "runner.log"}
	w.start(w.runner)
	w.connected()
	return w
}

// runnerID is where all sandboxes run: the server's own runner would end with it.
const runnerID = "edge"

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// program is the berm to test: $BERM, or one that is built here.
func program(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("BERM"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "berm")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/bermhq/berm/cmd/berm").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func (w *world) start(p *process) {
	w.Helper()
	file, err := os.OpenFile(w.path(p.log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	w.must(err)
	defer file.Close()
	cmd := exec.Command(w.berm, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, file, file
	w.must(cmd.Start())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = cmd
}

// kill ends a process as a power cut does, and returns when it is gone.
func (w *world) kill(p *process) {
	if p == nil || p.cmd == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.cmd.Wait()
}

// logs shows what the programs said, when the test has failed.
func (w *world) logs() {
	if !w.Failed() {
		return
	}
	for _, name := range []string{"server.log", "runner.log"} {
		text, err := os.ReadFile(w.path(name))
		w.Logf("%s (%v):\n%s", name, err, text[max(0, len(text)-4000):])
	}
}

func (w *world) until(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func (w *world) ready() {
	w.Helper()
	w.until("the server is ready", func() bool {
		r, err := http.Get(w.url + "/readyz") //nolint:noctx // it answers or is not there yet
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

func (w *world) connected() {
	w.Helper()
	w.until("the runner is connected", func() bool {
		raw, err := w.client.REST(w.Context(), http.MethodGet, "/v1beta2/sandbox/managed-runners/"+runnerID, nil)
		return err == nil && strings.Contains(string(raw), `"RUNNER_CONNECTION_STATUS_CONNECTED"`)
	})
}

func (w *world) cli(args ...string) []byte {
	w.Helper()
	cmd := exec.Command(w.berm, args...)
	cmd.Env = w.env
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		w.Fatalf("berm %s: %v", strings.Join(args, " "), err)
	}
	return out
}
