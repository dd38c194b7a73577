//go:build crash

package crash

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Bounds of one case. They end a broken case; nothing is measured by them.
const (
	// flight is how long operations are sent before a failpoint that was not reached is a failure.
	flight = 30 * time.Second
	// settle is how long recovery may take.
	settle = 30 * time.Second
)

// mains are the main processes of the sandboxes that are launched, with the exit codes that may ever be reported.
var mains = []struct {
	name    string
	command []string
	codes   []int
}{
	{"exits 7", []string{"sh", "-c", "exit 7"}, []int{7}},
	{"idles", nil, []int{0}},
	{"sleeps", []string{"sleep", "1000"}, []int{143, 137}},
}

func TestCrashMatrix(t *testing.T) {
	out, err := exec.Command(binary, "serve", "--print-failpoints").Output()
	if err != nil {
		t.Fatalf("list failpoints: %v", err)
	}
	names := strings.Fields(string(out))
	if len(names) < 10 {
		t.Fatalf("only %d failpoints are known: %v", len(names), names)
	}
	killed := 0
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			crashAt(t, name)
			killed++
		})
	}
	t.Logf("%d of %d failpoints killed a process with operations in flight", killed, len(names))
}

// crashAt runs one case: arm, operate until the process dies, start again, check.
//
// Some failpoints are passed when a server starts. There the operation in flight is that start, with sandboxes of an earlier server to
// take over; a later hit of the same failpoint is then tried too, so that it also falls into operation.
func crashAt(t *testing.T, name string) {
	m := newMachine(t)
	j := &journal{acked: map[string]int{}}
	if !strings.Contains(name, "bootstrap") {
		m.start("")
		for kind := range mains {
			j.launch(m, kind)
		}
		m.stop()
	}
	for _, turn := range []int{1, 5, 20} {
		ready := m.start(fmt.Sprintf("%s=%d", name, turn))
		if ready {
			operate(m, j, name)
		}
		hit := m.hit(name)
		m.kill()
		if !hit {
			t.Fatalf("failpoint %s (hit %d) was not reached by %s", name, turn, j.summary())
		}
		m.start("")
		if ready || strings.Contains(name, "bootstrap") || onlyAtStart(name) {
			break
		}
	}
	verify(t, m, j)
}

// onlyAtStart names the failpoints that a running server does not pass.
func onlyAtStart(name string) bool {
	return strings.Contains(name, "recover") || strings.Contains(name, "first-pass") || strings.Contains(name, "capacity")
}

// journal is what the operations were told.
type journal struct {
	mu sync.Mutex
	// acked maps the id of a sandbox to the index of its main.
	acked    map[string]int
	launches int
	sent     int
}

func (j *journal) summary() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return fmt.Sprintf("%d calls, %d launches acknowledged", j.sent, len(j.acked))
}

// operate sends launches, execs, files, stops, deletes and edits side by side until the failpoint was hit.
func operate(m *machine, j *journal, name string) {
	deadline := time.Now().Add(flight)
	var group sync.WaitGroup
	worker := func(body func(i int)) {
		group.Go(func() {
			for i := 0; !m.hit(name) && time.Now().Before(deadline); i++ {
				body(i)
			}
		})
	}
	worker(func(i int) { lifeOf(m, j, i) })
	worker(func(i int) { configure(m, j, i) })
	group.Wait()
}

// configure writes every kind of configuration. Errors are expected: the server dies.
func configure(m *machine, j *journal, i int) {
	const base = "/v1beta2/sandbox/"
	do := func(method, path, body string) []byte {
		j.count()
		raw, _ := m.call(method, path, body)
		return raw
	}
	id := func(raw []byte) string {
		var v struct{ ID string }
		_ = json.Unmarshal(raw, &v) // "" when the server died
		return v.ID
	}
	name := fmt.Sprintf("p%d-%d", time.Now().UnixNano(), i)
	do("PATCH", base+"profile-templates/"+m.profile, fmt.Sprintf(`{"profileTemplate": {"description": "edit %d"}, "updateMask": "description"}`, i))
	profile := id(do("POST", base+"profile-templates", fmt.Sprintf(`{"profileTemplate": {"displayName": %q, "spec": {}}}`, name)))
	do("POST", base+"managed-runners", fmt.Sprintf(`{"runnerId": %q, "runner": {"identity": {"zone": "z", "clusterName": %q}, "profileBindings": [{"profileTemplateId": %q, "isDefault": true}]}}`, name, name, profile))
	do("PATCH", base+"managed-runners/"+name, fmt.Sprintf(`{"runner": {"displayName": "edit %d"}, "updateMask": "display_name"}`, i))
	do("DELETE", base+"managed-runners/"+name+"?force=true", "")
	do("DELETE", base+"profile-templates/"+profile, "")
	do("PUT", "/berm/v1/zones/"+name, `{"zone": {"defaults": {"tags": ["x"]}}}`)
	do("DELETE", "/berm/v1/zones/"+name, "")
	do("POST", "/berm/v1/orgs", fmt.Sprintf(`{"name": %q}`, name))
	token := id(do("POST", "/berm/v1/tokens", fmt.Sprintf(`{"name": %q, "role": "user"}`, name)))
	do("DELETE", "/berm/v1/tokens/"+token, "")
}

func (j *journal) count() {
	j.mu.Lock()
	j.sent++
	j.mu.Unlock()
}

// launch starts one sandbox and notes what was promised. It returns "" when there was no answer.
func (j *journal) launch(m *machine, kind int) string {
	j.mu.Lock()
	j.launches++
	j.sent++
	j.mu.Unlock()
	id := m.launch(mains[kind].command)
	if id == "" {
		return ""
	}
	j.mu.Lock()
	j.acked[id] = kind
	j.mu.Unlock()
	return id
}

// lifeOf takes one sandbox through its life: launch, command, files, stop or delete. Errors are expected: the server dies.
func lifeOf(m *machine, j *journal, i int) {
	kind := i % len(mains)
	id := j.launch(m, kind)
	if id == "" {
		return
	}
	if kind != 0 {
		j.count()
		m.call("POST", "/v1beta2/sandboxes/"+id+"/exec", `{"command": ["sh", "-c", "echo hi"]}`)
		j.count()
		m.call("POST", "/v1beta2/sandboxes/"+id+"/files", `{"filepath": "/tmp/f", "fileContents": "aGk="}`)
		j.count()
		m.call("GET", "/v1beta2/sandboxes/"+id+"/files/%2Ftmp%2Ff", "")
	}
	j.count()
	switch i % 4 {
	case 0, 1:
		m.call("POST", "/v1beta2/sandboxes/"+id+"/stop", `{"gracefulShutdownSeconds": 1}`)
	case 2, 3:
		m.call("DELETE", "/v1beta2/sandboxes/"+id, "")
	}
	m.until(5*time.Second, func() bool { return m.exited() || terminal(m.status(id)) })
}

// verify checks the invariants after the restart.
func verify(t *testing.T, m *machine, j *journal) {
	t.Helper()
	listed := m.list()
	if len(listed) > j.launches {
		t.Errorf("%d sandboxes for %d launches: one was doubled", len(listed), j.launches)
	}
	for id := range j.acked {
		if _, ok := listed[id]; !ok {
			t.Errorf("sandbox %s was acknowledged and is lost", id)
		}
	}
	// Whatever state it was in, each sandbox reaches a state that lasts.
	for id := range listed {
		if !m.until(settle, func() bool { s := m.status(id); return terminal(s) || s == "RUNNING" }) {
			t.Errorf("sandbox %s stays %s", id, m.status(id))
		}
		if n := shims(id); m.status(id) == "RUNNING" && n != 1 {
			t.Errorf("sandbox %s runs with %d shims", id, n)
		}
	}
	for id := range listed {
		if !terminal(m.status(id)) {
			m.call("POST", "/v1beta2/sandboxes/"+id+"/stop", `{"gracefulShutdownSeconds": 0}`)
		}
	}
	for id := range listed {
		if !m.until(settle, func() bool { return terminal(m.status(id)) }) {
			t.Errorf("sandbox %s is %s and does not stop", id, m.status(id))
		}
		checkExit(t, m, j, id)
	}
	m.stop()
	for _, leak := range m.leaks(listed) {
		t.Errorf("left behind: %s", leak)
	}
}

// checkExit fails for an exit code that the main process cannot have had.
func checkExit(t *testing.T, m *machine, j *journal, id string) {
	t.Helper()
	code, ok := m.exitCode(id)
	if !ok {
		return // not observed is always truthful
	}
	kind, known := j.acked[id]
	if !known {
		return // its launch was never answered, so its command is not known here
	}
	for _, c := range append([]int{137, 143}, mains[kind].codes...) {
		if c == code {
			return
		}
	}
	t.Errorf("sandbox %s, which %s, is said to have ended with %d", id, mains[kind].name, code)
}

func terminal(status string) bool { return status == "COMPLETED" || status == "FAILED" }
