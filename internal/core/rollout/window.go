package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/bermhq/berm/internal/core/fault"
)

// Limits of a maintenance policy.
const (
	MaxWindows    = 16
	MaxExclusions = 64
	// MinWindow is the shortest window, MaxWindow the longest: one that is longer is no window.
	MinWindow = time.Minute
	MaxWindow = 7 * 24 * time.Hour
	// MaxExclusion is the longest exclusion. For a runner that is never to be updated there is a channel that stands still.
	MaxExclusion = 366 * 24 * time.Hour
	// MaxReason is the longest reason of an exclusion, in bytes.
	MaxReason = 1024
	// maxStarts bounds how many starts of windows are looked at.
	maxStarts = 2000
)

// Policy says when an update may be applied on its own. All times are UTC.
type Policy struct {
	Windows    []Window    `json:"windows"`
	Exclusions []Exclusion `json:"exclusions"`
}

// Window is a recurring time for updates.
type Window struct {
	Cron            string `json:"cron"`
	DurationSeconds int32  `json:"durationSeconds"`
}

// Exclusion is a time without updates.
type Exclusion struct {
	StartTime *time.Time `json:"startTime"`
	EndTime   *time.Time `json:"endTime"`
	Reason    string     `json:"reason"`
}

// ParsePolicy reads the canonical JSON of the wire message, "" for none.
func ParsePolicy(text string) (p Policy, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &p)
	}
	return p, err
}

func (w Window) duration() time.Duration { return time.Duration(w.DurationSeconds) * time.Second }

// schedule reads the five fields. What the library also takes, time zones and names such as @daily, is not part of the form.
func (w Window) schedule() (cron.Schedule, error) {
	if n := len(strings.Fields(w.Cron)); n != 5 || strings.Contains(w.Cron, "=") {
		return nil, fmt.Errorf("%.80q has %d fields, not five: minute hour day-of-month month day-of-week, in UTC", w.Cron, n)
	}
	s, err := cron.ParseStandard(w.Cron)
	if err != nil {
		return nil, fmt.Errorf("%.80q is not understood: %v", w.Cron, err) //nolint:errorlint // its text is all there is to it
	}
	return s, nil
}

// Check adds what is wrong with a policy, whose path is at, to e.
func (p *Policy) Check(e *fault.Error, at string) {
	before := len(e.Fields)
	if n := len(p.Windows); n > MaxWindows {
		e.WithField(at+".windows", "has %d windows, more than %d", n, MaxWindows)
	}
	if n := len(p.Exclusions); n > MaxExclusions {
		e.WithField(at+".exclusions", "has %d exclusions, more than %d", n, MaxExclusions)
	}
	for i, w := range p.Windows {
		w.check(e, fmt.Sprintf("%s.windows[%d]", at, i))
	}
	for i, x := range p.Exclusions {
		x.check(e, fmt.Sprintf("%s.exclusions[%d]", at, i))
	}
	if len(e.Fields) == before {
		p.checkOverlaps(e, at)
	}
}

func (w Window) check(e *fault.Error, at string) {
	s, err := w.schedule()
	switch {
	case err != nil:
		e.WithField(at+".cron", "%v", err)
	case s.Next(checkFrom).IsZero():
		e.WithField(at+".cron", "%.80q names no day that there is", w.Cron)
	}
	if d := w.duration(); d < MinWindow || d > MaxWindow {
		e.WithField(at+".duration_seconds", "%d is not from %d to %d", w.DurationSeconds, int(MinWindow.Seconds()), int(MaxWindow.Seconds()))
	}
}

func (x *Exclusion) check(e *fault.Error, at string) {
	switch {
	case x.StartTime == nil:
		e.WithField(at+".start_time", "must be given")
	case x.EndTime == nil:
		e.WithField(at+".end_time", "must be given")
	case !x.EndTime.After(*x.StartTime):
		e.WithField(at+".end_time", "%s is not after the start, %s", stamp(*x.EndTime), stamp(*x.StartTime))
	case x.EndTime.Sub(*x.StartTime) > MaxExclusion:
		e.WithField(at+".end_time", "is more than %d days after the start", int(MaxExclusion.Hours()/24))
	}
	if len(x.Reason) > MaxReason {
		e.WithField(at+".reason", "has %d bytes, more than %d", len(x.Reason), MaxReason)
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// checkFrom is where the search for windows that overlap begins: what is wrong with a policy does not depend on the day. It is a leap year.
var checkFrom = time.Date(2023, 12, 31, 23, 59, 59, 0, time.UTC)

// start is one opening of a window.
type start struct {
	at     time.Time
	window int
}

// checkOverlaps refuses windows that are open when the next one opens: which of two ends an update could not be told from the policy. It
// looks at a year, and at a bounded number of starts of each window.
func (p *Policy) checkOverlaps(e *fault.Error, at string) {
	var all []start
	for i, w := range p.Windows {
		s, err := w.schedule()
		if err != nil {
			return
		}
		t := checkFrom
		for range maxStarts {
			if t = s.Next(t); t.IsZero() || t.Sub(checkFrom) > MaxExclusion {
				break
			}
			all = append(all, start{t, i})
		}
	}
	slices.SortFunc(all, func(a, b start) int { return a.at.Compare(b.at) })
	for i := 1; i < len(all); i++ {
		one, next := all[i-1], all[i]
		if !next.at.Before(one.at.Add(p.Windows[one.window].duration())) {
			continue
		}
		e.WithField(fmt.Sprintf("%s.windows[%d].duration_seconds", at, one.window), "the window that opens at %s, say, is still open when windows[%d] opens at %s: make it shorter",
			one.at.Format("Mon 2006-01-02 15:04"), next.window, next.at.Format("Mon 2006-01-02 15:04"))
		return
	}
}

// Excluded returns the exclusion that a time is in, nil for none.
func (p *Policy) Excluded(now time.Time) *Exclusion {
	for i, x := range p.Exclusions {
		if x.StartTime != nil && x.EndTime != nil && !now.Before(*x.StartTime) && now.Before(*x.EndTime) {
			return &p.Exclusions[i]
		}
	}
	return nil
}

// open reports whether a window is, at a time. Without windows it always is.
func (p *Policy) open(now time.Time) bool {
	for _, w := range p.Windows {
		s, err := w.schedule()
		if err != nil {
			continue
		}
		// The last opening that could still be open.
		if t := s.Next(now.UTC().Add(-w.duration())); !t.IsZero() && !t.After(now) {
			return true
		}
	}
	return len(p.Windows) == 0
}

// Allowed reports whether an update may be applied on its own at a time.
func (p *Policy) Allowed(now time.Time) bool { return p.Excluded(now) == nil && p.open(now) }

// Next returns when an update may be applied on its own: now, or the first time after it; zero when there is none within what is looked at.
func (p *Policy) Next(now time.Time) time.Time {
	t := now.UTC()
	for range maxStarts {
		switch x := p.Excluded(t); {
		case x != nil:
			t = x.EndTime.UTC()
		case p.open(t):
			return t
		default:
			if t = p.opens(t); t.IsZero() {
				return t
			}
		}
	}
	return time.Time{}
}

// opens returns when a window opens next.
func (p *Policy) opens(after time.Time) (first time.Time) {
	for _, w := range p.Windows {
		s, err := w.schedule()
		if err != nil {
			continue
		}
		if t := s.Next(after); !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
