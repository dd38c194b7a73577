package sqlstore

import (
	"context"
	"database/sql"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/store"
)

// Owners implements store.Reader.
func (r *reader) Owners(ctx context.Context, orgID string) ([]store.Owner, error) {
	if err := r.lockConfig(ctx, orgID, true); err != nil {
		return nil, err
	}
	var all []store.Owner
	err := r.each(ctx, func(rows *sql.Rows) error {
		var o store.Owner
		var at int64
		if err := rows.Scan(&o.Kind, &o.ID, &o.Owner, &o.By, &at); err != nil {
			return err
		}
		o.At = fromNanos(at)
		all = append(all, o)
		return nil
	}, `SELECT kind, id, owner, owned_by, owned_at FROM owners WHERE org_id = $1 ORDER BY kind, id`, orgID)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// SetOwner implements store.Tx.
func (t *tx) SetOwner(ctx context.Context, orgID string, o store.Owner) error {
	c := newChecks("the owner")
	c.required("owner", o.Owner)
	c.note("owned_by", o.By)
	c.times("owned_at", o.At)
	if err := c.err(); err != nil {
		return err
	}
	if err := t.lockConfig(ctx, orgID, true); err != nil {
		return err
	}
	n, err := t.write(ctx, fpOwner, `INSERT INTO owners (org_id, kind, id, owner, owned_by, owned_at)
		SELECT org_id, kind, id, $1, $2, $3 FROM objects WHERE org_id = $4 AND kind = $5 AND id = $6
		ON CONFLICT (org_id, kind, id) DO UPDATE SET owner = excluded.owner, owned_by = excluded.owned_by, owned_at = excluded.owned_at`,
		o.Owner, o.By, nanos(o.At), orgID, string(o.Kind), o.ID)
	if err == nil && n == 0 {
		err = objectNotFound(o.Kind, o.ID)
	}
	if err == nil {
		t.audited(ctx, orgID, o.By, audit.Row{Kind: "owner", ID: o.ID, Name: o.Owner})
	}
	return err
}
