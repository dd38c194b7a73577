package telemetry_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/telemetry"
)

func scrape(t *testing.T, m *telemetry.Metrics, pools ...telemetry.Pool) string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler(pools).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
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
	text := scrape(t, m, telemetry.Pool{Org: "o", Runner: "r", Profile: "p", Size: 3, Ready: 1, Preparing: 1, Failing: true})
	for _, want := range []string{
		`berm_launches_total{reason="",result="accepted"} 1`, `berm_launches_total{reason="GUARDRAIL_VIOLATED",result="refused"} 1`,
		`berm_warm_launches_total{reason="",result="hit"} 2`, `berm_warm_launches_total{reason="REFILLING",result="miss"} 1`,
		`berm_warm_launches_total{reason="SPEC_DIFFERS",result="miss"} 0`,
		`berm_warm_pool_size{org="o",profile="p",runner="r"} 3`, `berm_warm_pool_ready{org="o",profile="p",runner="r"} 1`,
		`berm_warm_pool_preparing{org="o",profile="p",runner="r"} 1`, `berm_warm_pool_failing{org="o",profile="p",runner="r"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	// Pools that are gone have no series.
	if text := scrape(t, m); strings.Contains(text, "berm_warm_pool_size{") {
		t.Error("a pool that is gone is still told")
	}
}
