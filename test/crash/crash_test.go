//go:build crash

package crash

import (
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
	flight = 20 * time.Second
	// settle is how long recovery may take.
	settle = 30 * time.Second
	// maxTurn is how many hits of a failpoint are tried before one falls behind readiness: starting up passes some of them too.
	maxTurn = 12
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
func crashAt(t *testing.T, name string) {
	m := newMachine(t)
	m.start("") // bootstrap, so that the first writes of a data directory are not what dies
	m.stop()
	for turn := 1; turn <= maxTurn; turn++ {
		if !m.start(fmt.Sprintf("%s=%d", name, turn)) {
			continue // it died before it was ready: a later hit falls into operation
		}
		ops := operate(m, name)
		if !m.hit(name) {
			m.stop()
			t.Fatalf("failpoint %s (hit %d) was not reached by %s", name, turn, ops.summary())
		}
		m.kill()
		m.start("")
		verify(t, m, ops)
		return
	}
	t.Fatalf("failpoint %s killed the server before it was ready at each of %d hits", name, maxTurn)
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
func operate(m *machine, name string) *journal {
	j := &journal{acked: map[string]int{}}
	deadline := time.Now().Add(flight)
	var group sync.WaitGroup
	done := func() bool { return m.hit(name) || time.Now().After(deadline) }
	worker := func(body func(i int)) {
		group.Go(func() {
			for i := 0; !done(); i++ {
				body(i)
			}
		})
	}
	worker(func(i int) { launchOne(m, j, i) })
	worker(func(i int) { // an edit of the profile, so that configuration is written too
		j.count()
		m.call("PATCH", "/v1beta2/sandbox/profile-templates/"+m.profile, fmt.Sprintf(`{"profileTemplate": {"description": "edit %d"}, "updateMask": "description"}`, i))
		time.Sleep(50 * time.Millisecond)
	})
	group.Wait()
	return j
}

func (j *journal) count() {
	j.mu.Lock()
	j.sent++
	j.mu.Unlock()
}

// launchOne takes one sandbox through its life: launch, command, file, stop or delete. Errors are expected: the server dies.
func launchOne(m *machine, j *journal, i int) {
	kind := i % len(mains)
	j.mu.Lock()
	j.launches++
	j.sent++
	j.mu.Unlock()
	id := m.launch(mains[kind].command)
	if id == "" {
		return
	}
	j.mu.Lock()
	j.acked[id] = kind
	j.mu.Unlock()
	if kind != 0 {
		j.count()
		m.call("POST", "/v1beta2/sandboxes/"+id+"/exec", `{"command": ["sh", "-c", "echo hi"]}`)
		j.count()
		m.call("POST", "/v1beta2/sandboxes/"+id+"/files", `{"filepath": "/tmp/f", "fileContents": "aGk="}`)
	}
	j.count()
	switch i % 4 {
	case 0, 1:
		m.call("POST", "/v1beta2/sandboxes/"+id+"/stop", `{"gracefulShutdownSeconds": 1}`)
	case 2:
		m.call("DELETE", "/v1beta2/sandboxes/"+id, "")
	}
	if i%5 == 4 { // the end of something that ended by itself is written, then its remains go
		m.until(5*time.Second, func() bool { return m.hit("") || terminal(m.status(id)) })
	}
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
