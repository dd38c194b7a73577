package plan

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/resolve"
)

// Subject is whose usage is bounded.
type Subject string

// The subjects.
const (
	SubjectProfile Subject = "profile"
	SubjectUser    Subject = "user"
	SubjectOrg     Subject = "org"
)

// Metric is what is counted.
type Metric string

// The metrics, named as the fields that bound them.
const (
	MetricConcurrent      Metric = "max_concurrent"
	MetricStartsPerMinute Metric = "max_starts_per_minute"
	MetricVCPUHoursPerDay Metric = "max_vcpu_hours_per_day"
)

// Named delays after which a refused launch may succeed.
const (
	retryUsage       = 10 * time.Second
	retryUsagePerDay = 10 * time.Minute
)

// UsageCheck is a bound on how much may run. It depends on counters that only the launch transaction knows.
type UsageCheck struct {
	Subject Subject
	Metric  Metric
	// Limit is the largest number of sandboxes or starts, or of whole vCPU hours.
	Limit int64
	// Path and Origin say which guardrail it is and who set it.
	Path   string
	Origin *resolve.Origin
}

// Counters is what a subject used, without the launch in question.
type Counters struct {
	Concurrent       int64
	StartsLastMinute int64
	// VCPUMilliHours is in thousandths of a vCPU hour, over the last 24 hours.
	VCPUMilliHours int64
}

// usageRoot is where the bounds on usage stand: below it subject, then metric.
const usageRoot = "guardrails.usage.per_"

func usageChecks(l *guard.Limits) []UsageCheck {
	var out []UsageCheck
	for _, b := range l.Bounds() {
		rest, ok := strings.CutPrefix(b.Field.Path, usageRoot)
		subject, metric, ok2 := strings.Cut(rest, ".")
		if ok && ok2 {
			out = append(out, UsageCheck{
				Subject: Subject(subject), Metric: Metric(metric), Limit: b.Amount(), Path: b.Field.Path, Origin: b.Decisive().Origin,
			})
		}
	}
	return out
}

// CheckUsage returns the bounds that one more launch would break. count returns what a subject used; it is asked once for
// each subject that has a bound.
func CheckUsage(checks []UsageCheck, count func(Subject) Counters) []guard.Violation {
	known := map[Subject]Counters{}
	var out []guard.Violation
	for _, c := range checks {
		used, ok := known[c.Subject]
		if !ok {
			used = count(c.Subject)
			known[c.Subject] = used
		}
		if v, over := c.check(used); over {
			out = append(out, v)
		}
	}
	return out
}

func (c UsageCheck) check(used Counters) (guard.Violation, bool) {
	v := guard.Violation{
		Reason: guard.ReasonUsage, Path: c.Path, Limit: strconv.FormatInt(c.Limit, 10), LimitPath: c.Path, LimitOrigin: c.Origin,
	}
	over, what := false, ""
	switch c.Metric {
	case MetricConcurrent:
		over, what = used.Concurrent+1 > c.Limit, fmt.Sprintf("%d sandboxes of this %s have not ended", used.Concurrent, c.Subject)
		v.Value = strconv.FormatInt(used.Concurrent, 10)
	case MetricStartsPerMinute:
		over, what = used.StartsLastMinute+1 > c.Limit, fmt.Sprintf("%d sandboxes of this %s were started in the last minute", used.StartsLastMinute, c.Subject)
		v.Value = strconv.FormatInt(used.StartsLastMinute, 10)
	case MetricVCPUHoursPerDay:
		hours := strconv.FormatFloat(float64(used.VCPUMilliHours)/1000, 'f', -1, 64)
		over, what = used.VCPUMilliHours >= c.Limit*1000, fmt.Sprintf("sandboxes of this %s used %s vCPU hours in the last day", c.Subject, hours)
		v.Value = hours
	}
	v.Message = fmt.Sprintf("%s, the limit is %d", what, c.Limit)
	if c.Origin != nil {
		v.Message += " (" + c.Origin.Object + ")"
	}
	return v, over
}

// UsageRefusal returns the fault for a launch that breaks bounds on usage, nil when there is no violation. It asks to retry
// unless a bound of 0 forbids every launch.
func UsageRefusal(violations []guard.Violation) error {
	if len(violations) == 0 {
		return nil
	}
	e := fault.New(fault.Exhausted, fault.ReasonUsageExceeded, "too much is running: %s", guard.Explain(violations))
	after := retryUsage
	for _, v := range violations {
		e.WithField(v.Path, "%s", v.Message)
		if strings.HasSuffix(v.Path, string(MetricVCPUHoursPerDay)) {
			after = retryUsagePerDay
		}
		if v.Limit == "0" {
			e.Code = fault.Precondition
		}
	}
	if e.Code == fault.Exhausted {
		e.RetryAfter = after
	}
	return e
}
