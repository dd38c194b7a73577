package sqlstore

import (
	"context"
	"strconv"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const (
	// runningWindow is the time that VCPUMillisHours looks back, startsWindow that of StartsLastMin.
	runningWindow = 24 * time.Hour
	startsWindow  = time.Minute
	// unlimitedCPUMillis is what a sandbox without a CPU limit counts.
	unlimitedCPUMillis = 1000
)

// Usage implements store.Reader. It reads the rows that are live or ended in the last day, and no others. Inside an Update
// nobody else counts the same subject until it commits, so that two launches cannot both be the last one allowed.
func (r *reader) Usage(ctx context.Context, s store.UsageSubject, now time.Time) (store.Usage, error) {
	var u store.Usage
	if s.OrgID == "" {
		return u, fault.Invalidf(fault.ReasonFieldInvalid, "usage is counted for an organization").WithField("org_id", "is empty")
	}
	if r.tx != nil {
		if err := r.before(ctx, nil); err != nil {
			return u, err
		}
		if err := r.engine.lockUsage(ctx, r.conn, s.OrgID+"\n"+s.ProfileID+"\n"+s.UserID); err != nil {
			return u, r.fail(err)
		}
	}
	subject := `org_id = $1`
	args := []any{s.OrgID, nanos(now), nanos(now.Add(-runningWindow)), nanos(now.Add(-startsWindow)), int64(unlimitedCPUMillis)}
	for _, part := range []struct{ column, value string }{{"profile_id", s.ProfileID}, {"user_id", s.UserID}} {
		if part.value != "" {
			args = append(args, part.value)
			subject += ` AND ` + part.column + ` = $` + strconv.Itoa(len(args))
		}
	}
	live := `closed_at = 0`
	if s.ProfileID == "" && s.UserID == "" {
		live = `status IN ('PENDING', 'CREATING', 'RUNNING', 'PAUSED', 'TERMINATING')` // of a whole organization this has the index
	}
	// What is live, then what ended since: each is one range of an index. Milliseconds keep the sum far from overflowing.
	half := func(when string) string {
		return `SELECT closed_at, created_at, started_at, cpu_limit_millis,
			CASE WHEN closed_at = 0 THEN $2 WHEN ended_at > 0 AND ended_at < $2 THEN ended_at WHEN closed_at < $2 THEN closed_at ELSE $2 END AS until_at
			FROM sandboxes WHERE ` + subject + ` AND ` + when
	}
	var ms int64
	_, err := r.one(ctx, `SELECT
		CAST(coalesce(sum(CASE WHEN closed_at = 0 THEN 1 ELSE 0 END), 0) AS BIGINT),
		CAST(coalesce(sum(CASE WHEN created_at > $4 AND created_at <= $2 THEN 1 ELSE 0 END), 0) AS BIGINT),
		CAST(coalesce(sum(CASE WHEN started_at = 0 OR until_at <= $3 OR until_at <= started_at THEN 0 ELSE
			(until_at - CASE WHEN started_at > $3 THEN started_at ELSE $3 END) / 1000000
			* CASE WHEN cpu_limit_millis = 0 THEN $5 ELSE cpu_limit_millis END END), 0) AS BIGINT)
		FROM (`+half(live)+` UNION ALL `+half(`closed_at > $3 AND closed_at > 0`)+`) u`, args, &u.Concurrent, &u.StartsLastMin, &ms)
	u.VCPUMillisHours = ms / time.Hour.Milliseconds()
	return u, err
}
