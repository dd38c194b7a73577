package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/store"
)

// busyChunk is of how many sandboxes the traffic is read with one query.
const busyChunk = 1000

// HeardAt implements store.Reader.
func (r *reader) HeardAt(ctx context.Context, runnerUUID string) (time.Time, error) {
	var at int64
	_, err := r.one(ctx, `SELECT heard_at FROM contacts WHERE runner_uuid = $1`, []any{runnerUUID}, &at)
	return fromNanos(at), err
}

// BusyAt implements store.Reader.
func (r *reader) BusyAt(ctx context.Context, sandboxIDs ...string) (map[string]time.Time, error) {
	out := make(map[string]time.Time, len(sandboxIDs))
	for ids := range slices.Chunk(sandboxIDs, busyChunk) {
		args := make([]any, len(ids))
		for i, id := range ids {
			args[i] = id
		}
		err := r.each(ctx, func(rows *sql.Rows) error {
			var id string
			var at int64
			err := rows.Scan(&id, &at)
			out[id] = fromNanos(at)
			return err
		}, `SELECT sandbox_id, busy_at FROM traffic WHERE sandbox_id IN (`+placeholders(len(ids), 1)+`)`, args...)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Busy implements store.Tx.
func (t *tx) Busy(ctx context.Context, sandboxID string, at time.Time) error {
	c := newChecks("the traffic")
	c.required("sandbox", sandboxID)
	if err := c.err(); err != nil {
		return err
	}
	_, err := t.write(ctx, fpHeard, `INSERT INTO traffic (sandbox_id, busy_at) SELECT id, $2 FROM sandboxes WHERE id = $1 AND closed_at = 0
		ON CONFLICT (sandbox_id) DO UPDATE SET busy_at = $2 WHERE traffic.busy_at < $2`, sandboxID, nanos(at))
	return err
}

// Heard implements store.Tx. Rows are written in one order everywhere: servers that are in contact with the same runners do not wait
// for each other in a circle.
func (t *tx) Heard(ctx context.Context, runnerUUIDs []string, at time.Time) error {
	for _, id := range slices.Sorted(slices.Values(runnerUUIDs)) {
		c := newChecks("the contact")
		c.required("runner", id)
		if err := c.err(); err != nil {
			return err
		}
		_, err := t.write(ctx, fpHeard, `INSERT INTO contacts (runner_uuid, heard_at) VALUES ($1, $2)
			ON CONFLICT (runner_uuid) DO UPDATE SET heard_at = CASE WHEN contacts.heard_at < $2 THEN $2 ELSE contacts.heard_at + 1 END`, id, nanos(at))
		if err != nil {
			return err
		}
	}
	return nil
}

// ForgetContacts implements store.Tx. A server that still has a line to such a runner may write it once more; it is removed the next time.
func (t *tx) ForgetContacts(ctx context.Context) error {
	for _, table := range []string{"lines", "contacts"} {
		_, err := t.write(ctx, fpHeard, `DELETE FROM `+table+` WHERE runner_uuid NOT IN (SELECT id FROM objects WHERE kind = $1)`, string(store.KindRunner))
		if err != nil {
			return err
		}
	}
	return nil
}
