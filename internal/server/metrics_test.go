package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/server"
	"github.com/bermhq/berm/internal/telemetry"
)

// TestWarmPoolOnTheWire: a binding with a warm pool, from the PATCH that asks for it to the metrics that count what it is good for.
func TestWarmPoolOnTheWire(t *testing.T) {
	w := newWorldWith(t, server.Config{Version: "1", Metrics: telemetry.New()})
	patch := func(warm string) *answer {
		return w.call(w.admin, "PATCH", "/v1beta2/sandbox/managed-runners/r1", fmt.Sprintf(
			`{"runner": {"profileBindings": [{"profileTemplateId": %q, "isDefault": true, "warm": %s}]}, "updateMask": "profile_bindings"}`, w.profile, warm))
	}
	patch(`{"size": 3}`).want(200, `"warm":{"size":3}`)
	for end := time.Now().Add(time.Minute); len(w.fakes["r1"].Pools()) == 0; time.Sleep(time.Millisecond) { // The runner is told in the background.
		if time.Now().After(end) {
			t.Fatal("the runner was never told")
		}
	}
	w.call(w.user, "GET", "/v1beta2/sandbox/managed-runners/r1", nil).want(200, `"warmPools":[{`, `"ready":3,`, `"size":3}`)
	for range 2 {
		w.idle()
	}
	patch(`{"size": 65}`).want(400, "warm.size", "64")
	patch(`{"count": 1}`).want(400, "count")
	w.call(w.admin, "PATCH", "/v1beta2/sandbox/managed-runners/r1", `{"runner": {"warmPools": []}, "updateMask": "warm_pools"}`).want(400)

	w.call("", "GET", "/metrics", nil).want(401)
	w.call(w.user, "GET", "/metrics", nil).want(403, "ROLE_MISSING")
	w.call(w.admin, "POST", "/metrics", nil).want(405)
	text := w.scrape()
	for _, want := range []string{
		`berm_launches_total{reason="",result="accepted"} 2`, `berm_warm_launches_total{reason="",result="hit"} 2`,
		`profile="default",runner="r1"} 3`, "go_goroutines ",
		`berm_launch_phase_seconds_count{phase="plan"} 2`, `berm_launch_phase_seconds_count{phase="commit"} 2`, `berm_launch_phase_seconds_count{phase="submit"} 2`,
		`berm_launch_phase_seconds_count{phase="create"} 2`, `berm_launch_phase_seconds_count{phase="start"} 2`, `berm_launch_phase_seconds_count{phase="running"} 2`,
		`runner="r1",status="RUNNING"} 2`, `resource="sandboxes",runner="r1"} 2`, `runner="r1"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// scrape reads the metrics, as Prometheus does.
func (w *world) scrape() string {
	w.Helper()
	r, err := http.NewRequestWithContext(w.ctx(), http.MethodGet, w.url+"/metrics", nil)
	w.must(err)
	r.Header.Set("Authorization", "Bearer "+w.admin)
	resp, err := w.http.Do(r)
	w.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	w.must(err)
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		w.Errorf("%d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return string(text)
}

// TestNoMetrics: a server that counts nothing has no such path.
func TestNoMetrics(t *testing.T) {
	w := newWorld(t)
	w.call(w.admin, "GET", "/metrics", nil).want(404)
}
