package scale

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait.
const patience = 20 * time.Minute

// world is a gateway, a cluster, and a runner between them.
type world struct {
	*testing.T
	berm, dir, url, token string
	join                  string
	cluster               *cluster
	way                   *way
	runner                *exec.Cmd
	env                   []string
	ids                   []string
}

func newWorld(t *testing.T, c *cluster) *world {
	w := &world{T: t, dir: t.TempDir(), cluster: c, berm: program(t)}
	api := httptest.NewUnstartedServer(c)
	api.EnableHTTP2 = true
	api.StartTLS()
	t.Cleanup(func() { api.CloseClientConnections() })
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	w.must(os.WriteFile(w.path("ca.pem"), ca, 0o600))
	w.must(os.WriteFile(w.path("kubeconfig"), fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
 clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}], users: [{name: u, user: {token: any}}]}`, api.URL, w.path("ca.pem")), 0o600))
	w.serve()
	w.must(os.WriteFile(w.path("agent.yaml"), []byte("display_name: agent\nspec: {container_image: tools, resource_defaults: {cpu_limit: 500m, memory_limit: 64Mi}}\n"), 0o600))
	w.cli("profile", "create", "-f", w.path("agent.yaml"))
	w.cli("runner", "create", "many", "--zone", "local", "--cluster", "many", "--profile", "agent")
	var join struct {
		Token string `json:"token"`
	}
	w.must(json.Unmarshal(w.cli("runner", "join", "many", "-o", "json"), &join))
	w.join = join.Token
	return w
}

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

// start runs berm with arguments until the test ends.
func (w *world) start(log string, env []string, args ...string) *exec.Cmd {
	w.Helper()
	file, err := os.OpenFile(w.path(log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	w.must(err)
	defer file.Close()
	cmd := exec.Command(w.berm, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(w.env, env...), file, file
	w.must(cmd.Start())
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if w.Failed() {
			text, _ := os.ReadFile(w.path(log))
			w.Logf("%s:\n%s", log, text[max(0, len(text)-4000):])
		}
	})
	return cmd
}

// serve starts the gateway, which the runner reaches by a way that can be cut.
func (w *world) serve() {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	address := l.Addr().String()
	w.must(l.Close())
	w.env = append(os.Environ(), "XDG_STATE_HOME="+w.path("state"), "XDG_CONFIG_HOME="+w.path("config"))
	w.start("server.log", nil, "serve", "--data", w.path("data"), "--listen", address)
	w.url = "http://" + address
	w.until("the server is ready", func() bool {
		r, err := http.Get(w.url + "/readyz") //nolint:noctx // it answers or is not there yet
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	token, err := os.ReadFile(w.path("data/admin.token"))
	w.must(err)
	w.token = strings.TrimSpace(string(token))
	w.env = append(w.env, "BERM_URL="+w.url, "BERM_TOKEN="+w.token)
	w.way = newWay(w.T, address)
}

func (w *world) until(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func (w *world) cli(args ...string) []byte {
	w.Helper()
	cmd := exec.Command(w.berm, args...)
	cmd.Env = w.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.Fatalf("berm %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// call makes a request of the REST API.
func (w *world) call(method, path, body string, into any) error {
	r, err := http.NewRequest(method, w.url+path, strings.NewReader(body)) //nolint:noctx // the client has a timeout
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	return err
}

// workers launch at the same time.
const workers = 8

var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: workers}}

// startRunner starts the runner, with a line of its log for each collection of garbage.
func (w *world) startRunner() {
	w.runner = w.start("runner.log", []string{"GODEBUG=gctrace=1"}, "runner", "--gateway", "http://"+w.way.address(), "--data", w.path("runner"), "--token", w.join,
		"--backend", "kube", "--kubeconfig", w.path("kubeconfig"), "--kube-init-image", "berm-init", "--kube-network", "recorded")
}

func (w *world) killRunner() {
	w.must(w.runner.Process.Signal(syscall.SIGKILL))
	_ = w.runner.Wait()
}

func (w *world) connection() string {
	var got struct {
		ConnectionStatus string `json:"connectionStatus"`
	}
	w.must(w.call("GET", "/v1beta2/sandbox/managed-runners/many", "", &got))
	return strings.TrimPrefix(got.ConnectionStatus, "RUNNER_CONNECTION_STATUS_")
}

func (w *world) connected() {
	w.Helper()
	w.until("the runner is connected", func() bool { return w.connection() == "CONNECTED" })
}

func (w *world) disconnected() {
	w.Helper()
	w.until("the runner is disconnected", func() bool { return w.connection() == "DISCONNECTED" })
}

// resync lets the runner through again and returns how long it took from its first connection until the gateway knew what it has.
func (w *world) resync() time.Duration {
	first := w.way.open()
	began := <-first
	w.connected()
	return time.Since(began)
}

func (w *world) launch(n int) {
	w.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() {
			for range n/workers + min(1, max(0, n%workers-i)) {
				var got struct {
					SandboxID string `json:"sandboxId"`
				}
				err := w.call("POST", "/v1beta2/sandboxes", `{"runnerIds": ["many"], "profileNames": ["agent"], "command": "sleep", "args": ["infinity"]}`, &got)
				if err != nil {
					w.Error(err)
					return
				}
				mu.Lock()
				w.ids = append(w.ids, got.SandboxID)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if w.Failed() {
		w.FailNow()
	}
}

type sandbox struct {
	ID     string `json:"sandboxId"`
	Status string `json:"sandboxStatus"`
}

// statuses counts the sandboxes that have not ended, by status.
func (w *world) statuses() map[string]int {
	var all []sandbox
	w.must(json.Unmarshal(w.cli("ls", "-o", "json"), &all))
	count := map[string]int{}
	for _, s := range all {
		count[s.Status]++
	}
	return count
}

// all waits until n sandboxes have a status, and no other there is.
func (w *world) all(n int, status string) {
	w.Helper()
	end := time.Now().Add(patience)
	for {
		got := w.statuses()
		if got[status] == n && len(got) == 1 {
			return
		}
		if time.Now().After(end) {
			w.Fatalf("%v, want %d %s", got, n, status)
		}
		time.Sleep(50*time.Millisecond + time.Duration(n)*time.Millisecond/10)
	}
}

func (w *world) stop(id string) { w.cli("stop", id, "--grace", "0") }

func (w *world) awaitEnd(id string) (status string) {
	w.until("a sandbox has ended", func() bool {
		var got sandbox
		w.must(w.call("GET", "/v1beta2/sandboxes/"+id, "", &got))
		status = got.Status
		return status != "SANDBOX_STATUS_RUNNING" && status != "SANDBOX_STATUS_CREATING" && status != "SANDBOX_STATUS_TERMINATING"
	})
	return status
}

// settle waits until the runner has come to rest, where there is much of it.
func (w *world) settle() {
	if len(w.ids) > few {
		time.Sleep(30 * time.Second)
	}
}

// memory is what the runner's process takes, in MB.
type memory struct{ resident, peak, files, heap float64 }

var heapLive = regexp.MustCompile(`->(\d+) MB, `)

func (w *world) memory() (m memory) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.runner.Process.Pid))
	w.must(err)
	for key, into := range map[string]*float64{"VmRSS": &m.resident, "VmHWM": &m.peak, "RssFile": &m.files} {
		at := regexp.MustCompile(`(?m)^` + key + `:\s+(\d+) kB`).FindSubmatch(status)
		if at == nil {
			continue
		}
		kb, _ := strconv.ParseFloat(string(at[1]), 64)
		*into = kb * 1024 / 1e6
	}
	log, err := os.ReadFile(w.path("runner.log"))
	w.must(err)
	if all := heapLive.FindAllSubmatch(log, -1); len(all) > 0 {
		m.heap, _ = strconv.ParseFloat(string(all[len(all)-1][1]), 64)
		m.heap *= float64(1<<20) / 1e6
	}
	return m
}
