package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func (t *tx) SetCapacity(ctx context.Context, runnerUUID string, c core.Amounts) error {
	_, err := t.exec(ctx, `INSERT INTO capacity (runner_uuid, cpu_millis, memory_bytes, gpus, slots, used_cpu_millis, used_memory_bytes, used_gpus, used_slots)
		VALUES ($1, $2, $3, $4, $5, 0, 0, 0, 0)
		ON CONFLICT (runner_uuid) DO UPDATE SET cpu_millis = $2, memory_bytes = $3, gpus = $4, slots = $5`,
		runnerUUID, c.CPUMillis, c.MemoryBytes, c.GPUs, c.Sandboxes)
	return err
}

// Reserve is a conditional increment: it can never overshoot, however many run at once.
func (t *tx) Reserve(ctx context.Context, runnerUUID string, a core.Amounts) (bool, error) {
	if a.CPUMillis < 0 || a.MemoryBytes < 0 || a.GPUs < 0 || a.Sandboxes < 0 {
		return false, fault.Internalf(nil, "a negative reservation")
	}
	n, err := t.exec(ctx, `UPDATE capacity SET used_cpu_millis = used_cpu_millis + $2, used_memory_bytes = used_memory_bytes + $3, used_gpus = used_gpus + $4, used_slots = used_slots + $5
		WHERE runner_uuid = $1 AND used_cpu_millis + $2 <= cpu_millis AND used_memory_bytes + $3 <= memory_bytes AND used_gpus + $4 <= gpus AND used_slots + $5 <= slots`,
		runnerUUID, a.CPUMillis, a.MemoryBytes, a.GPUs, a.Sandboxes)
	return n == 1, err
}

func (t *tx) Release(ctx context.Context, runnerUUID string, a core.Amounts) error {
	n, err := t.exec(ctx, `UPDATE capacity SET used_cpu_millis = used_cpu_millis - $2, used_memory_bytes = used_memory_bytes - $3, used_gpus = used_gpus - $4, used_slots = used_slots - $5
		WHERE runner_uuid = $1 AND used_cpu_millis >= $2 AND used_memory_bytes >= $3 AND used_gpus >= $4 AND used_slots >= $5`,
		runnerUUID, a.CPUMillis, a.MemoryBytes, a.GPUs, a.Sandboxes)
	if err == nil && n == 0 {
		return fault.Internalf(nil, "runner %s has less reserved than is released", runnerUUID)
	}
	return err
}

func (t *tx) Reserved(ctx context.Context, runnerUUID string) (core.Amounts, error) {
	var a core.Amounts
	err := t.row(ctx, `SELECT used_cpu_millis, used_memory_bytes, used_gpus, used_slots FROM capacity WHERE runner_uuid = $1`, runnerUUID).
		Scan(&a.CPUMillis, &a.MemoryBytes, &a.GPUs, &a.Sandboxes)
	if errors.Is(err, sql.ErrNoRows) {
		return a, nil
	}
	return a, t.mark(err)
}

// Spans of usage guardrails.
const (
	startsSpan = time.Minute
	vcpuSpan   = 24 * time.Hour
)

func (t *tx) Usage(ctx context.Context, s store.UsageSubject, now time.Time) (store.Usage, error) {
	subject := func() *filter {
		f := &filter{}
		f.one("org_id", s.OrgID)
		f.one("profile_id", s.ProfileID)
		f.one("user_id", s.UserID)
		return f
	}
	var u store.Usage
	live := subject()
	live.text = append(live.text, "terminal = 0")
	if err := t.sum(ctx, &u.Concurrent, `COUNT(*)`, live); err != nil {
		return u, err
	}
	recent := subject()
	recent.text = append(recent.text, "terminal IN (0, 1)", "created_at > "+recent.arg(now.Add(-startsSpan).UnixNano()))
	if err := t.sum(ctx, &u.StartsLastMin, `COUNT(*)`, recent); err != nil {
		return u, err
	}
	// Milliseconds of each sandbox inside the span, times its CPU, in hours. Integers throughout: both engines divide alike.
	day := subject()
	from, to := day.arg(now.Add(-vcpuSpan).UnixNano()), day.arg(now.UnixNano())
	day.text = append(day.text, "started_at > 0", "(ended_at = 0 OR ended_at > "+from+")")
	span := `(CASE WHEN ended_at = 0 THEN ` + to + ` ELSE ended_at END - CASE WHEN started_at < ` + from + ` THEN ` + from + ` ELSE started_at END)`
	var millis int64
	if err := t.sum(ctx, &millis, `COALESCE(CAST(SUM(CASE WHEN cpu_millis = 0 THEN 1000 ELSE cpu_millis END * (`+span+` / 1000000)) AS BIGINT), 0)`, day); err != nil {
		return u, err
	}
	u.VCPUMillisHours = millis / int64(time.Hour/time.Millisecond)
	return u, nil
}

func (t *tx) sum(ctx context.Context, into *int64, expression string, f *filter) error {
	query := `SELECT ` + expression + ` FROM sandboxes`
	for i, c := range f.text {
		if i == 0 {
			query += " WHERE " + c
		} else {
			query += " AND " + c
		}
	}
	return t.mark(t.row(ctx, query, f.args...).Scan(into))
}
