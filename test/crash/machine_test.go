//go:build crash

package crash

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const binary = "../../bin/berm"

// machine is one data directory and the server that runs on it now.
type machine struct {
	t          *testing.T
	dir        string
	cmd        *exec.Cmd
	gone       chan struct{}
	url, token string
	profile    string
	log        *os.File
	http       *http.Client
	hits       string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "berm-crash")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, hits: filepath.Join(dir, "hits"), http: &http.Client{Timeout: 20 * time.Second}}
	if m.log, err = os.Create(filepath.Join(dir, "server.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			raw, _ := os.ReadFile(m.log.Name())
			t.Logf("server's log:\n%s", tail(raw, 6000))
		}
		m.log.Close()
		os.RemoveAll(dir)
	})
	return m
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

// start starts the server, armed with a failpoint unless "", and reports whether it became ready. An unarmed server that does not is
// fatal.
func (m *machine) start(failpoint string) bool {
	m.t.Helper()
	os.Remove(m.hits)
	cmd := exec.Command(binary, "serve", "--data", filepath.Join(m.dir, "data"), "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+m.dir, "BERM_FAILPOINT="+failpoint, "BERM_FAILPOINT_LOG="+m.hits)
	cmd.Stdout, cmd.Stderr = m.log, m.log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.cmd, m.gone = cmd, make(chan struct{})
	go func(gone chan struct{}) { _ = cmd.Wait(); close(gone) }(m.gone)
	ready := m.until(settle, func() bool { return m.exited() || m.announced() })
	if !ready || m.exited() {
		if failpoint == "" {
			m.t.Fatalf("the server does not start")
		}
		m.kill()
		return false
	}
	if m.profile == "" {
		m.findProfile()
	}
	return true
}

// announced reads what the server says about itself once it is ready.
func (m *machine) announced() bool {
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
		_, code := m.call("GET", "/readyz", "")
		return code == http.StatusOK
	}
	return false
}

func (m *machine) findProfile() {
	raw, _ := m.call("GET", "/v1beta2/sandbox/profile-templates", "")
	var list struct{ ProfileTemplates []struct{ ID string } }
	if json.Unmarshal(raw, &list) != nil || len(list.ProfileTemplates) == 0 {
		m.t.Fatalf("no profile: %s", raw)
	}
	m.profile = list.ProfileTemplates[0].ID
}

func (m *machine) exited() bool {
	select {
	case <-m.gone:
		return true
	default:
		return false
	}
}

// stop ends the server as an operator would.
func (m *machine) stop() { m.end(syscall.SIGTERM) }

// kill ends it at once.
func (m *machine) kill() { m.end(syscall.SIGKILL) }

func (m *machine) end(sig syscall.Signal) {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(sig)
	select {
	case <-m.gone:
	case <-time.After(settle):
		m.t.Errorf("the server does not end on %s", sig)
		_ = m.cmd.Process.Kill()
		<-m.gone
	}
	m.cmd = nil
}

// hit reports whether the failpoint killed a process; with "" whether any did.
func (m *machine) hit(name string) bool {
	raw, err := os.ReadFile(m.hits)
	return err == nil && strings.Contains(string(raw), name)
}

// call returns the body and the status, 0 when there was no answer.
func (m *machine) call(method, path, body string) ([]byte, int) {
	req, err := http.NewRequest(method, m.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, 0
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := m.http.Do(req)
	if err != nil {
		return nil, 0
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, 0
	}
	return raw, resp.StatusCode
}

func (m *machine) launch(command []string) string {
	req := map[string]any{}
	if len(command) > 0 {
		req["command"], req["args"] = command[0], command[1:]
	}
	body, _ := json.Marshal(req)
	raw, code := m.call("POST", "/v1beta2/sandboxes", string(body))
	var out struct{ SandboxID string }
	if code != http.StatusOK || json.Unmarshal(raw, &out) != nil {
		return ""
	}
	return out.SandboxID
}

func (m *machine) get(id string) map[string]any {
	raw, code := m.call("GET", "/v1beta2/sandboxes/"+id, "")
	var out map[string]any
	if code != http.StatusOK || json.Unmarshal(raw, &out) != nil {
		return nil
	}
	return out
}

func (m *machine) status(id string) string {
	s, _ := m.get(id)["sandboxStatus"].(string)
	return strings.TrimPrefix(s, "SANDBOX_STATUS_")
}

func (m *machine) exitCode(id string) (int, bool) {
	code, ok := m.get(id)["exitCode"].(float64)
	return int(code), ok
}

func (m *machine) list() map[string]bool {
	raw, code := m.call("GET", "/v1beta2/sandboxes?includeStopped=true", "")
	var out struct{ Sandboxes []struct{ SandboxID string } }
	if code != http.StatusOK || json.Unmarshal(raw, &out) != nil {
		m.t.Fatalf("list: %d %s", code, raw)
	}
	ids := map[string]bool{}
	for _, s := range out.Sandboxes {
		if ids[s.SandboxID] {
			m.t.Errorf("sandbox %s is listed twice", s.SandboxID)
		}
		ids[s.SandboxID] = true
	}
	return ids
}

// until polls: what it waits for happens in other processes.
func (m *machine) until(most time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// shims counts the host-side processes of a sandbox.
func shims(id string) int {
	n := 0
	for _, line := range cmdlines() {
		if strings.Contains(line, "berm-shim") && strings.Contains(line, " shim ") && strings.Contains(line, id) {
			n++
		}
	}
	return n
}

func cmdlines() []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []string
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err == nil && len(raw) > 0 {
			out = append(out, filepath.Base(filepath.Dir(f))+": "+string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '})))
		}
	}
	return out
}

// leaks lists what is left of the sandboxes once all have ended and the server too.
func (m *machine) leaks(ids map[string]bool) []string {
	var out []string
	look := func() []string {
		var found []string
		for _, line := range cmdlines() {
			if strings.Contains(line, m.dir) {
				found = append(found, "process "+line)
			}
		}
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		for _, line := range strings.Split(string(mounts), "\n") {
			if strings.Contains(line, m.dir) {
				found = append(found, "mount "+line)
			}
		}
		for id := range ids {
			for _, pattern := range []string{"/sys/fs/cgroup/*/*/*" + id + "*", "/sys/fs/cgroup/*/*" + id + "*", "/sys/fs/cgroup/*/*/*/*" + id + "*", "/run/netns/*" + id + "*", "/run/crun/*" + id + "*", "/run/runc/*" + id + "*"} {
				left, _ := filepath.Glob(pattern)
				found = append(found, left...)
			}
		}
		return found
	}
	// Shims take a moment to end after the server forgot them.
	m.until(10*time.Second, func() bool { out = look(); return len(out) == 0 })
	return out
}
