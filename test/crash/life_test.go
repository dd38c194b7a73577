//go:build crash

package crash

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	imageRef    = "crash.test/tool:1"
	imageText   = "of the image"
	spareRunner = "spare"
	// What each sandbox reserves.
	cpuMillis   = 50
	memoryBytes = 16 << 20
)

// kind is a sort of sandbox: what is launched, and what may be told of its end.
type kind struct {
	name    string
	request map[string]any
	// ends: it ends by itself. codes are the exit codes that it can have by itself, stopped those when it is told to end.
	ends           bool
	codes, stopped []int
}

// Exit codes of a process that SIGTERM or SIGKILL ended.
const sigterm, sigkill = 143, 137

var (
	idles  = &kind{name: "idles", stopped: []int{0, sigkill}}
	exits  = &kind{name: "exits", ends: true, codes: []int{7}, stopped: []int{7, sigterm, sigkill}, request: map[string]any{"command": "sh", "args": []string{"-c", "exit 7"}}}
	sleeps = &kind{name: "sleeps", stopped: []int{sigterm, sigkill}, request: map[string]any{"command": "sleep", "args": []string{"1000"}}}
	image  = &kind{name: "image", stopped: []int{sigterm, sigkill}, request: map[string]any{"containerImage": imageRef}}
	// Three with a network. One asks for a name, whose address is opened then.
	visits = &kind{name: "visits", ends: true, codes: exits.codes, stopped: exits.stopped, request: inMode(onlineMode, exits.request)}
	rests  = &kind{name: "rests", stopped: idles.stopped, request: inMode(onlineMode, map[string]any{})}
	asks   = &kind{name: "asks", ends: true, codes: exits.codes, stopped: exits.stopped,
		request: inMode(namedMode, map[string]any{"command": "sh", "args": []string{"-c", "getent hosts a." + namedDomain + "; exit 7"}})}
	missing = &kind{name: "missing", ends: true, request: map[string]any{"command": "/no/such/program"}}
	// It outlives servers, not its lifetime.
	expires = &kind{name: "expires", ends: true, codes: []int{sigterm, sigkill}, stopped: []int{sigterm, sigkill},
		request: map[string]any{"command": "sleep", "args": []string{"1000"}, "maxLifetimeSeconds": 1}}
)

// inMode is a request in an egress mode that has a network.
func inMode(mode string, request map[string]any) map[string]any {
	out := maps.Clone(request)
	out["network"] = map[string]any{"egressMode": mode}
	return out
}

// onlineMode and namedMode are modes of the default profile; in the second, names below namedDomain are answered.
const onlineMode, namedMode, namedDomain = "online", "named", "crash.example"

// life is one launch and what was asked and told of it.
type life struct {
	*kind
	tag, runner, failpoint string
	// id is "" when the launch was not answered; once all are matched, confirmed says whether it was.
	id        string
	confirmed bool
	// endAsked: an end was asked for; endTold: with success. wrote: the file was written, with success.
	endAsked, endTold, wrote bool
	// told is the end that a caller was told, nil for none.
	told *view
}

// view is a sandbox as berm.v1 shows it.
type view struct {
	SandboxID, Status, Reason, RunnerID string
	ExitCode                            *int
	Tags                                []string
	Timeline                            []struct{ Name string }
}

func (v *view) ended() bool { return v.Status == "COMPLETED" || v.Status == "FAILED" }

// reason is the part of Reason that programs read.
func (v *view) reason() string {
	word, _, _ := strings.Cut(v.Reason, ":")
	return word
}

// times counts an event of the timeline.
func (v *view) times(event string) int {
	n := 0
	for _, e := range v.Timeline {
		if e.Name == event {
			n++
		}
	}
	return n
}

// get returns what is told of a sandbox, nil when there was no answer.
func (m *machine) get(id string) *view {
	raw, code := m.call("GET", "/berm/v1/sandboxes/"+id, nil)
	v := &view{}
	if code != http.StatusOK || json.Unmarshal(raw, v) != nil {
		return nil
	}
	return v
}

// list returns the status of every sandbox by id.
func (m *machine) list() map[string]string {
	m.t.Helper()
	var out struct {
		Sandboxes     []struct{ SandboxID, SandboxStatus string }
		NextPageToken string
	}
	m.read("/v1beta2/sandboxes?includeStopped=true", &out)
	if out.NextPageToken != "" {
		m.t.Fatalf("more sandboxes than one page has")
	}
	ids := map[string]string{}
	for _, s := range out.Sandboxes {
		if ids[s.SandboxID] != "" {
			m.t.Errorf("sandbox %s is listed twice", s.SandboxID)
		}
		ids[s.SandboxID] = strings.TrimPrefix(s.SandboxStatus, "SANDBOX_STATUS_")
	}
	return ids
}

// exec runs a shell command and returns what it printed; ok is false when it did not run to its end with success.
func (m *machine) exec(id, script string) (printed string, ok bool) {
	raw, code := m.call("POST", "/v1beta2/sandboxes/"+id+"/exec", map[string]any{"command": []string{"sh", "-c", script}})
	var out struct {
		Result struct {
			Stdout   []byte
			ExitCode int
		}
	}
	if code != http.StatusOK || json.Unmarshal(raw, &out) != nil {
		return "", false
	}
	return string(out.Result.Stdout), out.Result.ExitCode == 0
}

// The file that is written into sandboxes.
const fileName, fileText = "/tmp/f", "hi"

func (m *machine) write(id string) bool {
	raw, code := m.call("POST", "/v1beta2/sandboxes/"+id+"/files", map[string]any{"filepath": fileName, "fileContents": []byte(fileText)})
	return code == http.StatusOK && succeeded(raw)
}

func (m *machine) file(id, path string) (content string, ok bool) {
	raw, code := m.call("GET", "/v1beta2/sandboxes/"+id+"/files/"+url.PathEscape(path), nil)
	var out struct{ FileContents []byte }
	if code != http.StatusOK || json.Unmarshal(raw, &out) != nil {
		return "", false
	}
	return string(out.FileContents), succeeded(raw)
}

// stop asks for an end with a grace, or at once.
func (m *machine) stop(id string) bool {
	raw, code := m.call("POST", "/v1beta2/sandboxes/"+id+"/stop", map[string]any{"gracefulShutdownSeconds": 1})
	return code == http.StatusOK && succeeded(raw)
}

// pause lets a sandbox stand still ("pause") or go on ("resume").
func (m *machine) pause(id, verb string) bool {
	raw, code := m.call("POST", "/v1beta2/sandboxes/"+id+"/"+verb, map[string]any{})
	return code == http.StatusOK && succeeded(raw)
}

// suspend asks for what the runtime of these tests refuses: what is tried here is the way there. The backend's own tests save.
func (m *machine) suspend(id string) {
	if _, code := m.call("POST", "/berm/v1/sandboxes/"+id+":suspend", map[string]any{}); code == http.StatusOK {
		m.t.Errorf("sandbox %s was saved by a runtime that cannot", id)
	}
}

func (m *machine) delete(id string) bool {
	raw, code := m.call("DELETE", "/v1beta2/sandboxes/"+id, nil)
	return code == http.StatusOK && succeeded(raw)
}

func succeeded(raw []byte) bool {
	var out struct{ Success bool }
	return json.Unmarshal(raw, &out) == nil && out.Success
}

// launch starts a sandbox on a runner, "" for any.
func (w *work) launch(k *kind, runner string) *life {
	w.mu.Lock()
	l := &life{kind: k, tag: k.name + "-" + strconv.Itoa(len(w.lives)), runner: runner, failpoint: w.m.failpoint}
	w.lives = append(w.lives, l)
	w.mu.Unlock()
	request := map[string]any{
		"tags": []string{l.tag}, "resourceRequests": map[string]any{"cpu": strconv.Itoa(cpuMillis) + "m", "memory": strconv.Itoa(memoryBytes)},
		"resourceLimits": map[string]any{"cpu": "2", "memory": "256Mi"},
	}
	if runner != "" {
		request["runnerIds"] = []string{runner}
	}
	for k, v := range k.request {
		request[k] = v
	}
	raw, code := w.m.call("POST", "/v1beta2/sandboxes", request)
	var out struct{ SandboxID string }
	switch {
	case code == 0, code == http.StatusServiceUnavailable && strings.Contains(string(raw), "REPLAN_EXHAUSTED"):
		// No answer, or the configuration is changed faster than launches are planned.
	case code != http.StatusOK || json.Unmarshal(raw, &out) != nil:
		w.m.t.Errorf("a launch was answered with %d %s", code, raw)
	default:
		w.mu.Lock()
		l.id = out.SandboxID
		w.mu.Unlock()
	}
	return l
}
