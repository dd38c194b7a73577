package telemetry_test

import (
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/telemetry"
)

func scrape(t *testing.T, m *telemetry.Metrics, now telemetry.Now) string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler(now).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

func TestMetrics(t *testing.T) {
	m := telemetry.New()
	m.Launched(control.LaunchAccepted, "")
	m.Launched(control.LaunchRefused, fault.ReasonGuardrailViolated)
	m.Warm("")
	m.Warm("")
	m.Warm(core.WarmRefilling)
	m.Took(control.PhaseCommit, 3*time.Millisecond)
	text := scrape(t, m, telemetry.Now{
		Pools: []control.RunnerPool{{RunnerID: "r", PoolStatus: backend.PoolStatus{OrgID: "o", ProfileName: "p", Size: 3, Ready: 1, Preparing: 1, Problem: "no image"}}},
		Runners: []control.RunnerHealth{{
			OrgID: "o", RunnerID: "r", Connected: true, LastHeartbeat: time.UnixMilli(1500), Capacity: core.Amounts{CPUMillis: 2500, Sandboxes: 9}, Reserved: core.Amounts{MemoryBytes: 64},
			Sandboxes: map[core.Status]int{core.StatusRunning: 2},
		}, {OrgID: "o", RunnerID: "never"}},
	})
	for _, want := range []string{
		`berm_launches_total{reason="",result="accepted"} 1`, `berm_launches_total{reason="GUARDRAIL_VIOLATED",result="refused"} 1`,
		`berm_warm_launches_total{reason="",result="hit"} 2`, `berm_warm_launches_total{reason="REFILLING",result="miss"} 1`,
		`berm_warm_launches_total{reason="SPEC_DIFFERS",result="miss"} 0`,
		`berm_launch_phase_seconds_bucket{phase="commit",le="0.002"} 0`, `berm_launch_phase_seconds_bucket{phase="commit",le="0.005"} 1`,
		`berm_launch_phase_seconds_count{phase="pull"} 0`,
		`berm_runner_connected{org="o",runner="r"} 1`, `berm_runner_connected{org="o",runner="never"} 0`,
		`berm_runner_last_heartbeat_timestamp_seconds{org="o",runner="r"} 1.5`, `berm_runner_last_heartbeat_timestamp_seconds{org="o",runner="never"} 0`,
		`berm_runner_capacity{org="o",resource="cpu",runner="r"} 2.5`, `berm_runner_capacity{org="o",resource="sandboxes",runner="r"} 9`,
		`berm_runner_reserved{org="o",resource="memory",runner="r"} 64`,
		`berm_sandboxes{org="o",runner="r",status="RUNNING"} 2`, `berm_sandboxes{org="o",runner="r",status="PAUSED"} 0`,
		`berm_warm_pool_size{org="o",profile="p",runner="r"} 3`, `berm_warm_pool_ready{org="o",profile="p",runner="r"} 1`,
		`berm_warm_pool_preparing{org="o",profile="p",runner="r"} 1`, `berm_warm_pool_failing{org="o",profile="p",runner="r"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	// What is gone has no series.
	if text := scrape(t, m, telemetry.Now{}); strings.Contains(text, "berm_warm_pool_size{") || strings.Contains(text, "berm_runner_connected{") {
		t.Error("what is gone is still told")
	}
}

// TestSeriesAreBounded: however many runners there are, a scrape has a bounded number of series, and says what is left out.
func TestSeriesAreBounded(t *testing.T) {
	now := telemetry.Now{Runners: make([]control.RunnerHealth, telemetry.MaxRunners+7)}
	for i := range now.Runners {
		now.Runners[i] = control.RunnerHealth{OrgID: "o", RunnerID: strconv.Itoa(i)}
	}
	text := scrape(t, telemetry.New(), now)
	if n := strings.Count(text, "berm_runner_connected{"); n != telemetry.MaxRunners {
		t.Errorf("%d runners have a series", n)
	}
	if !strings.Contains(text, `berm_series_omitted{what="runners"} 7`) {
		t.Error("it is not said that 7 runners are left out")
	}
}

// TestMetricsAreDocumented: the table of docs/api.md names what is served, and nothing else.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile("`(berm_[a-z_]+)`").FindAllStringSubmatch(section, -1) {
		documented[name[1]] = true
	}
	served := map[string]bool{}
	text := scrape(t, telemetry.New(), telemetry.Now{
		Pools: []control.RunnerPool{{RunnerID: "r"}}, Runners: []control.RunnerHealth{{RunnerID: "r"}},
	})
	for _, name := range regexp.MustCompile("(?m)^# TYPE (berm_[a-z_]+) ").FindAllStringSubmatch(text, -1) {
		served[name[1]] = true
	}
	if diff := cmp.Diff(served, documented); diff != "" || len(served) < 10 {
		t.Errorf("served (-) and documented (+): %s", diff)
	}
}
