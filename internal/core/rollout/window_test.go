package rollout_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		panic(err)
	}
	return t
}

func policy(t *testing.T, text string) rollout.Policy {
	t.Helper()
	p, err := rollout.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// nights: Saturdays from two to four, but not on the 14th of February 2026, which is one.
const nights = `{"windows":[{"cron":"0 2 * * SAT","durationSeconds":7200}],
	"exclusions":[{"startTime":"2026-02-14T00:00:00Z","endTime":"2026-02-14T03:00:00Z","reason":"sale"}]}`

func TestAllowed(t *testing.T) {
	p := policy(t, nights)
	for when, want := range map[string]bool{
		"2026-02-07 01:59:59": false, "2026-02-07 02:00:00": true, "2026-02-07 03:59:59": true, "2026-02-07 04:00:00": false,
		"2026-02-08 02:30:00": false,
		"2026-02-14 02:30:00": false, "2026-02-14 03:00:00": true,
	} {
		if got := p.Allowed(at(when)); got != want {
			t.Errorf("%s: %t", when, got)
		}
		// The clock of the caller may have any zone.
		if got := p.Allowed(at(when).In(time.FixedZone("east", 5*3600))); got != want {
			t.Errorf("%s in another zone: %t", when, got)
		}
	}
	if none := policy(t, ""); !none.Allowed(at("2026-02-08 02:30:00")) {
		t.Error("without windows, updates may come at any time")
	}
}

func TestNext(t *testing.T) {
	p := policy(t, nights)
	for when, want := range map[string]string{
		"2026-02-07 01:00:00": "2026-02-07 02:00:00", "2026-02-07 02:30:00": "2026-02-07 02:30:00",
		"2026-02-07 04:00:00": "2026-02-14 03:00:00", // the exclusion ends within the window
		"2026-02-14 02:00:00": "2026-02-14 03:00:00",
	} {
		if got := p.Next(at(when)); !got.Equal(at(want)) {
			t.Errorf("%s: %s, not %s", when, got, want)
		}
	}
	whole := policy(t, `{"exclusions":[{"startTime":"2026-02-14T00:00:00Z","endTime":"2026-02-15T00:00:00Z"}]}`)
	if got := whole.Next(at("2026-02-14 12:00:00")); !got.Equal(at("2026-02-15 00:00:00")) {
		t.Errorf("without windows: %s", got)
	}
}

// TestNextIsAllowed: what Next returns is allowed, and nothing between is.
func TestNextIsAllowed(t *testing.T) {
	p := policy(t, `{"windows":[{"cron":"*/45 3 1-7 * *","durationSeconds":900},{"cron":"30 22 * * FRI","durationSeconds":60}],
		"exclusions":[{"startTime":"2026-03-03T00:00:00Z","endTime":"2026-03-05T03:50:00Z"}]}`)
	for now := at("2026-02-26 00:00:00"); now.Before(at("2026-03-10 00:00:00")); now = now.Add(23*time.Hour + 7*time.Minute) {
		next := p.Next(now)
		if next.Before(now) || !p.Allowed(next) {
			t.Fatalf("after %s: %s is not allowed", now, next)
		}
		for t2 := now; t2.Before(next); t2 = t2.Add(5 * time.Minute) {
			if p.Allowed(t2) {
				t.Fatalf("after %s: %s is allowed, and before %s", now, t2, next)
			}
		}
	}
}

func TestPolicyRefuses(t *testing.T) {
	window := func(cron string, seconds int) string {
		return fmt.Sprintf(`{"cron":%q,"durationSeconds":%d}`, cron, seconds)
	}
	for name, tt := range map[string]struct{ text, path, says string }{
		"four fields":    {`{"windows":[` + window("0 2 * *", 600) + `]}`, "p.windows[0].cron", "has 4 fields, not five"},
		"a zone":         {`{"windows":[` + window("TZ=Asia/Tokyo 0 2 * *", 600) + `]}`, "p.windows[0].cron", "in UTC"},
		"a word":         {`{"windows":[` + window("@daily", 600) + `]}`, "p.windows[0].cron", "not five"},
		"minute 61":      {`{"windows":[` + window("61 2 * * *", 600) + `]}`, "p.windows[0].cron", "not understood"},
		"February 30":    {`{"windows":[` + window("0 2 30 2 *", 600) + `]}`, "p.windows[0].cron", "names no day"},
		"too short":      {`{"windows":[` + window("0 2 * * *", 59) + `]}`, "p.windows[0].duration_seconds", "not from 60 to 604800"},
		"too long":       {`{"windows":[` + window("0 2 1 * *", 604801) + `]}`, "p.windows[0].duration_seconds", "not from 60"},
		"into itself":    {`{"windows":[` + window("0 2 * * *", 86401) + `]}`, "p.windows[0].duration_seconds", "still open when windows[0] opens"},
		"overlap":        {`{"windows":[` + window("0 2 * * SAT", 7200) + "," + window("30 3 * * *", 600) + `]}`, "p.windows[0].duration_seconds", "windows[1] opens at Sat"},
		"too many":       {`{"windows":[` + strings.Repeat(window("0 2 * * *", 600)+",", 16) + window("0 3 * * *", 600) + `]}`, "p.windows", "17 windows, more than 16"},
		"backwards":      {`{"exclusions":[{"startTime":"2026-02-02T00:00:00Z","endTime":"2026-02-01T00:00:00Z"}]}`, "p.exclusions[0].end_time", "is not after the start"},
		"no end":         {`{"exclusions":[{"startTime":"2026-02-02T00:00:00Z"}]}`, "p.exclusions[0].end_time", "must be given"},
		"no start":       {`{"exclusions":[{"endTime":"2026-02-02T00:00:00Z"}]}`, "p.exclusions[0].start_time", "must be given"},
		"for ever":       {`{"exclusions":[{"startTime":"2026-02-02T00:00:00Z","endTime":"2126-02-01T00:00:00Z"}]}`, "p.exclusions[0].end_time", "366 days"},
		"a long reason":  {`{"exclusions":[{"startTime":"2026-02-02T00:00:00Z","endTime":"2026-02-03T00:00:00Z","reason":"` + strings.Repeat("x", 1025) + `"}]}`, "p.exclusions[0].reason", "1025 bytes"},
		"no window open": {`{"windows":[` + window("", 600) + `]}`, "p.windows[0].cron", "has 0 fields"},
	} {
		p := policy(t, tt.text)
		e := fault.Invalidf("X", "x")
		p.Check(e, "p")
		if len(e.Fields) == 0 || e.Fields[0].Path != tt.path || !strings.Contains(e.Fields[0].Description, tt.says) {
			t.Errorf("%s: %+v", name, e.Fields)
		}
	}
	for _, good := range []string{"", nights, `{"windows":[` + window("0 2 * * *", 86400) + `]}`, `{"windows":[` + window("0 2 * * SAT", 3600) + "," + window("0 3 * * SAT", 3600) + `]}`} {
		p := policy(t, good)
		e := fault.Invalidf("X", "x")
		if p.Check(e, "p"); len(e.Fields) > 0 {
			t.Errorf("%s: %+v", good, e.Fields)
		}
	}
}
