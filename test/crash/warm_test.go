//go:build crash

package crash

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// warms reports whether a failpoint is on the way of prepared sandboxes. Other cases have no pool, because a pool is work.
func warms(failpoint string) bool {
	for _, part := range []string{".slot-", "begin", "begun", "prepared-record", "set-pools"} {
		if strings.Contains(failpoint, part) {
			return true
		}
	}
	return false
}

// warm is a sandbox that may have been prepared. Its resources are those of its profile, in the same words: it asks for nothing else.
var warm = &kind{name: "warm", stopped: []int{sigterm, sigkill}, request: map[string]any{
	"command": "sleep", "args": []string{"1000"}, "profileNames": []string{warmProfile},
}}

const (
	warmProfile = "warm"
	profiles    = "/v1beta2/sandbox/profile-templates"
	localRunner = "/v1beta2/sandbox/managed-runners/local"
)

// heat binds a profile with a warm pool.
func (w *work) heat() {
	w.m.t.Helper()
	var made struct{ ID string }
	spec := map[string]any{"resourceDefaults": map[string]any{
		"cpuRequest": strconv.Itoa(cpuMillis) + "m", "memoryRequest": strconv.Itoa(memoryBytes), "cpuLimit": "2", "memoryLimit": "256Mi",
	}}
	profile := map[string]any{"profileTemplate": map[string]any{"displayName": warmProfile, "spec": spec}}
	if !w.config.send("POST", profiles, profile, &made) || !w.bindWarm(made.ID, 2) {
		w.m.t.Fatal("no warm pool can be made")
	}
	if !w.m.until(func() bool { return w.ready() == 2 }) {
		w.m.t.Fatal("the warm pool does not fill up")
	}
}

func (w *work) bindWarm(id string, size int) bool {
	bindings := []any{
		map[string]any{"profileTemplateId": w.config.profile.ID, "isDefault": true},
		map[string]any{"profileTemplateId": id, "warm": map[string]any{"size": size}},
	}
	return w.config.send("PATCH", localRunner, map[string]any{"runner": map[string]any{"profileBindings": bindings}, "updateMask": "profile_bindings"}, nil)
}

// ready returns how many prepared sandboxes wait, -1 when nobody says.
func (w *work) ready() int {
	out := struct{ WarmPools []struct{ Ready int } }{}
	if raw, code := w.m.call("GET", localRunner, nil); code != http.StatusOK || json.Unmarshal(raw, &out) != nil || len(out.WarmPools) == 0 {
		return -1
	}
	return out.WarmPools[0].Ready
}

// warmLife makes what is prepared useless now and then, waits for new ones, and uses one.
func (w *work) warmLife(i int) {
	if i%3 == 1 {
		edit := map[string]any{"profileTemplate": map[string]any{"spec": map[string]any{"nodeSelector": map[string]any{"turn": strconv.Itoa(i)}}}, "updateMask": "spec.node_selector"}
		if !w.config.sendAside("PATCH", profiles+"/"+warmProfile, edit) {
			return
		}
	}
	w.m.until(func() bool { return w.ready() > 0 || w.m.hit() || w.m.dead.Load() })
	l := w.launch(warm, "local")
	if l.id == "" {
		return
	}
	if i%2 == 0 {
		w.m.until(func() bool { v := w.m.get(l.id); return v == nil || v.Status == "RUNNING" || v.ended() || w.m.hit() })
	}
	w.stop(l)
	w.m.until(func() bool { v := w.m.get(l.id); w.tell(l, v); return v == nil || v.ended() || w.m.hit() })
}

// sendAside is send for a worker of its own: nothing is remembered.
func (c *config) sendAside(method, path string, in any) bool {
	raw, code := c.m.call(method, path, in)
	if code != 0 && code/100 != 2 {
		c.m.t.Errorf("%s %s: %d %s", method, path, code, raw)
	}
	return code/100 == 2
}

// cool removes the pool, so that nothing prepared is among what is left.
func (w *work) cool() {
	if !warms(w.m.failpoint) {
		return
	}
	bindings := []any{map[string]any{"profileTemplateId": w.config.profile.ID, "isDefault": true}}
	w.config.send("PATCH", localRunner, map[string]any{"runner": map[string]any{"profileBindings": bindings}, "updateMask": "profile_bindings"}, nil)
}
