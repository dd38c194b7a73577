package sqlstore

import (
	"context"
	"fmt"

	"github.com/bermhq/berm/internal/core"
)

// Reserved implements store.Reader.
func (r *reader) Reserved(ctx context.Context, runnerUUID string) (core.Amounts, error) {
	var a core.Amounts
	_, err := r.one(ctx, `SELECT used_cpu_millis, used_memory_bytes, used_gpus, used_slots FROM capacities WHERE runner_uuid = $1`,
		[]any{runnerUUID}, &a.CPUMillis, &a.MemoryBytes, &a.GPUs, &a.Sandboxes)
	return a, err
}

// SetCapacity implements store.Tx. The row is locked before the live sandboxes are counted: a launch that has reserved and
// not committed is waited for, one that has not reserved yet will add itself.
func (t *tx) SetCapacity(ctx context.Context, runnerUUID string, capacity core.Amounts) error {
	if err := checkAmounts(runnerUUID, capacity); err != nil {
		return err
	}
	_, err := t.write(ctx, fpSetCapacity, `INSERT INTO capacities (runner_uuid, cpu_millis, memory_bytes, gpus, slots,
		used_cpu_millis, used_memory_bytes, used_gpus, used_slots) VALUES ($1, $2, $3, $4, $5, 0, 0, 0, 0)
		ON CONFLICT (runner_uuid) DO UPDATE SET cpu_millis = $2, memory_bytes = $3, gpus = $4, slots = $5`,
		runnerUUID, capacity.CPUMillis, capacity.MemoryBytes, capacity.GPUs, capacity.Sandboxes)
	if err != nil {
		return err
	}
	var used core.Amounts
	_, err = t.one(ctx, `SELECT CAST(coalesce(sum(cpu_millis), 0) AS BIGINT), CAST(coalesce(sum(memory_bytes), 0) AS BIGINT),
		CAST(coalesce(sum(gpus), 0) AS BIGINT), CAST(coalesce(sum(slots), 0) AS BIGINT)
		FROM sandboxes WHERE runner_uuid = $1 AND closed_at = 0`,
		[]any{runnerUUID}, &used.CPUMillis, &used.MemoryBytes, &used.GPUs, &used.Sandboxes)
	if err != nil {
		return err
	}
	_, err = t.write(ctx, fpSetCapacity, `UPDATE capacities SET used_cpu_millis = $2, used_memory_bytes = $3, used_gpus = $4, used_slots = $5
		WHERE runner_uuid = $1`, runnerUUID, used.CPUMillis, used.MemoryBytes, used.GPUs, used.Sandboxes)
	return err
}

// Reserve implements store.Tx: one conditional increment, so that a runner that many launch on is never planned again for
// that alone.
func (t *tx) Reserve(ctx context.Context, runnerUUID string, a core.Amounts) (bool, error) {
	if err := checkAmounts(runnerUUID, a); err != nil {
		return false, err
	}
	// Compared by subtraction, which cannot overflow. An amount of 0 fits also where more is used than there is. (The
	// comparison with the column comes first because PostgreSQL takes the type of an argument from its first use.)
	n, err := t.write(ctx, fpReserve, `UPDATE capacities SET used_cpu_millis = used_cpu_millis + $2, used_memory_bytes = used_memory_bytes + $3,
		used_gpus = used_gpus + $4, used_slots = used_slots + $5
		WHERE runner_uuid = $1 AND ($2 <= cpu_millis - used_cpu_millis OR $2 = 0) AND ($3 <= memory_bytes - used_memory_bytes OR $3 = 0)
		AND ($4 <= gpus - used_gpus OR $4 = 0) AND ($5 <= slots - used_slots OR $5 = 0)`,
		runnerUUID, a.CPUMillis, a.MemoryBytes, a.GPUs, a.Sandboxes)
	return n > 0, err
}

// Release implements store.Tx.
func (t *tx) Release(ctx context.Context, runnerUUID string, a core.Amounts) error {
	if err := checkAmounts(runnerUUID, a); err != nil {
		return err
	}
	// Never below nothing: after SetCapacity has counted anew, a release may come for what it did not count.
	set := ""
	for i, column := range []string{"used_cpu_millis", "used_memory_bytes", "used_gpus", "used_slots"} {
		if i > 0 {
			set += ", "
		}
		set += fmt.Sprintf("%[1]s = CASE WHEN %[1]s > $%[2]d THEN %[1]s - $%[2]d ELSE 0 END", column, i+2)
	}
	_, err := t.write(ctx, fpRelease, `UPDATE capacities SET `+set+` WHERE runner_uuid = $1`, runnerUUID, a.CPUMillis, a.MemoryBytes, a.GPUs, a.Sandboxes)
	return err
}

func checkAmounts(runnerUUID string, a core.Amounts) error {
	c := newChecks("the amounts")
	c.required("runner", runnerUUID)
	c.amounts("amounts", a)
	return c.err()
}
