//go:build crash

package crash

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// patience ends a case that is broken; nothing is measured by it.
	patience = 30 * time.Second
	// pollEvery is how often something that happens in another process is looked at.
	pollEvery = 10 * time.Millisecond
	// logShown is how much of a server's log a failure shows, in bytes.
	logShown = 6 << 10
)

// machine is one data directory and the server that runs on it now, armed with one failpoint.
type machine struct {
	t          *testing.T
	dir        string
	failpoint  string
	args       []string
	cmd        *exec.Cmd
	gone       chan struct{}
	url, token string
	log        *os.File
	http       *http.Client
	// cut counts the calls that the server began and did not answer, because it died; dead is set then.
	cut  atomic.Int64
	dead atomic.Bool
}

func newMachine(t *testing.T, failpoint string, args ...string) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), failpoint: failpoint, http: &http.Client{Timeout: patience}}
	m.args = append([]string{"serve", "--data", m.data(), "--listen", "127.0.0.1:0"}, args...)
	var err error
	if m.log, err = os.Create(filepath.Join(m.dir, "server.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.clear)
	return m
}

func (m *machine) data() string { return filepath.Join(m.dir, "data") }
func (m *machine) hits() string { return filepath.Join(m.dir, "hits") }
func (m *machine) gate() string { return filepath.Join(m.dir, "gate") }

// clear takes the machine away. A case that failed tells the end of its log, and a last server ends what is left of it.
func (m *machine) clear() {
	m.end(syscall.SIGKILL)
	if m.t.Failed() {
		raw, _ := os.ReadFile(m.log.Name())
		m.t.Logf("the server's log:\n%s", tail(pollLine.ReplaceAll(raw, nil), logShown))
		m.shut()
		if m.start() {
			for id := range m.list() {
				m.delete(id)
			}
		}
		m.end(syscall.SIGTERM)
	}
	m.http.CloseIdleConnections()
	m.log.Close()
}

// pollLine is what the polling of this package leaves in a log, and of no interest.
var pollLine = regexp.MustCompile(`.*call="GET /(berm/v1/sandboxes/|readyz).*code=OK.*\n`)

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

// open lets hits count, shut no more.
func (m *machine) open() {
	if err := os.WriteFile(m.gate(), nil, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) shut() { os.Remove(m.gate()) }

// hit reports whether the failpoint killed a process since the last reset.
func (m *machine) hit() bool {
	raw, err := os.ReadFile(m.hits())
	return err == nil && strings.Contains(string(raw), m.failpoint)
}

// start starts the server and reports whether it became ready. One that ends without the failpoint is fatal.
func (m *machine) start() bool {
	m.t.Helper()
	os.Remove(m.hits())
	fmt.Fprintf(m.log, "--- start, gate open: %v\n", exists(m.gate()))
	cmd := exec.Command(binary(), m.args...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+m.dir, "BERM_FAILPOINT="+m.spec(), "BERM_FAILPOINT_LOG="+m.hits(), "BERM_FAILPOINT_GATE="+m.gate())
	cmd.Stdout, cmd.Stderr = m.log, m.log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	gone := make(chan struct{})
	m.cmd, m.gone = cmd, gone
	m.dead.Store(false)
	go func() { _ = cmd.Wait(); close(gone) }()
	if m.until(func() bool { return m.exited() || m.ready() }) && !m.exited() {
		return true
	}
	if !m.hit() {
		hung := !m.exited()
		m.end(syscall.SIGQUIT) // It says where it hangs.
		m.t.Fatalf("the server does not start (it hung: %v)\n%s", hung, m.stacks())
	}
	m.end(syscall.SIGKILL)
	return false
}

// stacks returns where the goroutines of Berm's own code were when the server was made to tell, without the many that only wait for
// their turn in a library.
func (m *machine) stacks() string {
	raw, err := os.ReadFile(m.log.Name())
	if err != nil {
		return err.Error()
	}
	var own []string
	for g := range strings.SplitSeq(string(raw), "\n\n") {
		if strings.HasPrefix(g, "goroutine ") && strings.Contains(g, modulePath) {
			own = append(own, argument.ReplaceAllString(g, ""))
		}
	}
	return strings.Join(own, "\n")
}

// modulePath begins the names of Berm's functions; argument is what a stack says besides names and lines.
const modulePath = "github.com/bermhq/berm/internal"

var argument = regexp.MustCompile(`(?m)\(0x[^)]*\)$|\(\{0x.*\)$| \+0x[0-9a-f]+$`)

// mustStart starts the server with the gate shut.
func (m *machine) mustStart() {
	m.t.Helper()
	m.shut()
	if !m.start() {
		m.t.Fatalf("the failpoint killed with its gate shut")
	}
}

// ready reads what the server says about itself once it serves, and asks it.
func (m *machine) ready() bool {
	files, _ := filepath.Glob(filepath.Join(m.dir, "berm", "servers", "*.json"))
	for _, f := range files {
		raw, err := os.ReadFile(f)
		var r struct {
			PID            int
			URL, TokenFile string
		}
		if err != nil || json.Unmarshal(raw, &r) != nil || r.PID != m.cmd.Process.Pid {
			continue
		}
		token, err := os.ReadFile(r.TokenFile)
		if err != nil {
			return false
		}
		m.url, m.token = r.URL, strings.TrimSpace(string(token))
		_, code := m.call("GET", "/readyz", nil)
		return code == http.StatusOK
	}
	return false
}

// spec arms the failpoint.
func (m *machine) spec() string {
	if turn := os.Getenv(envTurn); turn != "" && m.failpoint != "" {
		return m.failpoint + "=" + turn
	}
	return m.failpoint
}

func (m *machine) exited() bool {
	select {
	case <-m.gone:
		return true
	default:
		return false
	}
}

// end ends the server, if there is one.
func (m *machine) end(sig syscall.Signal) {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(sig)
	select {
	case <-m.gone:
	case <-time.After(patience):
		m.t.Errorf("the server does not end on %s", sig)
		_ = m.cmd.Process.Kill()
		<-m.gone
	}
	m.cmd = nil
}

// until polls: what it waits for happens in other processes.
func (m *machine) until(ok func() bool) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(pollEvery) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
