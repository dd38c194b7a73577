package sqlstore

import (
	"context"
	"database/sql"

	"github.com/bermhq/berm/internal/store"
)

// Servers implements store.Reader.
func (r *reader) Servers(ctx context.Context) ([]store.Server, error) {
	var all []store.Server
	err := r.each(ctx, func(rows *sql.Rows) error {
		var s store.Server
		var heard int64
		if err := rows.Scan(&s.ID, &s.Address, &heard); err != nil {
			return err
		}
		s.HeardAt = fromNanos(heard)
		all = append(all, s)
		return nil
	}, `SELECT id, address, heard_at FROM servers ORDER BY id`)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// PutServer implements store.Tx.
func (t *tx) PutServer(ctx context.Context, s store.Server) error {
	c := newChecks("the server")
	c.required("id", s.ID)
	c.text("address", s.Address)
	c.times("heard", s.HeardAt)
	if err := c.err(); err != nil {
		return err
	}
	_, err := t.write(ctx, fpServer, `INSERT INTO servers (id, address, heard_at) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET address = $2, heard_at = $3`, s.ID, s.Address, nanos(s.HeardAt))
	return err
}

// RemoveServer implements store.Tx.
func (t *tx) RemoveServer(ctx context.Context, s store.Server) (bool, error) {
	n, err := t.write(ctx, fpServer, `DELETE FROM servers WHERE id = $1 AND heard_at = $2`, s.ID, nanos(s.HeardAt))
	if err != nil || n == 0 {
		return false, err
	}
	err = t.DropLines(ctx, s.ID)
	return err == nil, err
}

// DropLines implements store.Tx.
func (t *tx) DropLines(ctx context.Context, serverID string) error {
	_, err := t.write(ctx, fpServer, `DELETE FROM lines WHERE server_id = $1`, serverID)
	return err
}

// HoldLine implements store.Tx. The row of the runner's contact is the lock: servers to which processes of it come at the same time
// look one after the other at what the others have. A contact at no time is none.
func (t *tx) HoldLine(ctx context.Context, runnerUUID, serverID, instance string) (other string, held bool, err error) {
	c := newChecks("the line")
	c.required("runner", runnerUUID)
	c.required("server", serverID)
	c.required("instance", instance)
	if err := c.err(); err != nil {
		return "", false, err
	}
	_, err = t.write(ctx, fpServer, `INSERT INTO contacts (runner_uuid, heard_at) VALUES ($1, 0)
		ON CONFLICT (runner_uuid) DO UPDATE SET heard_at = contacts.heard_at`, runnerUUID)
	if err != nil {
		return "", false, err
	}
	taken, err := t.one(ctx, `SELECT server_id FROM lines WHERE runner_uuid = $1 AND server_id <> $2 AND instance <> $3 ORDER BY server_id LIMIT 1`,
		[]any{runnerUUID, serverID, instance}, &other)
	if err != nil || taken {
		return other, false, err
	}
	_, err = t.write(ctx, fpServer, `INSERT INTO lines (runner_uuid, server_id, instance) VALUES ($1, $2, $3)
		ON CONFLICT (runner_uuid, server_id) DO UPDATE SET instance = $3`, runnerUUID, serverID, instance)
	return "", err == nil, err
}

// DropLine implements store.Tx.
func (t *tx) DropLine(ctx context.Context, runnerUUID, serverID string) error {
	_, err := t.write(ctx, fpServer, `DELETE FROM lines WHERE runner_uuid = $1 AND server_id = $2`, runnerUUID, serverID)
	return err
}
