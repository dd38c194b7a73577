package sqlstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const leaseColumns = `id, org_id, purpose, created_by, user_id, ttl, grace, created_at, state, ended_at, renewals`

func (r *reader) leases(ctx context.Context, where string, args ...any) ([]*core.Lease, error) {
	var all []*core.Lease
	err := r.each(ctx, func(rows *sql.Rows) error {
		var l core.Lease
		var created, ended int64
		if err := rows.Scan(&l.ID, &l.OrgID, &l.Purpose, &l.CreatedBy, &l.UserID, &l.TTL, &l.Grace, &created, &l.State, &ended, &l.Renewals); err != nil {
			return err
		}
		l.CreatedAt, l.EndedAt = fromNanos(created), fromNanos(ended)
		all = append(all, &l)
		return nil
	}, `SELECT `+leaseColumns+` FROM leases `+where, args...)
	return all, err
}

// Lease implements store.Reader.
func (r *reader) Lease(ctx context.Context, orgID, id string) (*core.Lease, error) {
	all, err := r.leases(ctx, `WHERE id = $1 AND org_id = $2`, id, orgID)
	if err == nil && len(all) == 0 {
		err = fault.NotFoundf(fault.ReasonResourceNotFound, "lease %.80q does not exist", id)
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// Leases implements store.Reader.
func (r *reader) Leases(ctx context.Context, orgID string) ([]*core.Lease, error) {
	if orgID == "" {
		return r.leases(ctx, `WHERE ended_at = 0 ORDER BY id`)
	}
	return r.leases(ctx, `WHERE org_id = $1 AND ended_at = 0 ORDER BY id`, orgID)
}

// InsertLease implements store.Tx. The limit is one of what is kept, not an exact one: two that come at once may both be the last.
func (t *tx) InsertLease(ctx context.Context, l *core.Lease) error {
	c := newChecks("the lease")
	c.required("id", l.ID)
	c.required("org_id", l.OrgID)
	c.note("purpose", l.Purpose)
	c.note("created_by", l.CreatedBy)
	c.text("user_id", l.UserID)
	c.times("created_at", l.CreatedAt)
	if err := c.err(); err != nil {
		return err
	}
	var live int64
	if _, err := t.one(ctx, `SELECT count(*) FROM leases WHERE org_id = $1 AND ended_at = 0`, []any{l.OrgID}, &live); err != nil {
		return err
	}
	if live >= core.MaxLeases {
		return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "the organization has %d leases that have not ended, the most there may be", live).
			WithHint("release some; one lease is enough for all sandboxes of one holder")
	}
	_, err := t.write(ctx, fpLease, `INSERT INTO leases (`+leaseColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0)`,
		l.ID, l.OrgID, l.Purpose, l.CreatedBy, l.UserID, int64(l.TTL), int64(l.Grace), nanos(l.CreatedAt), string(core.LeaseActive))
	if err == nil {
		l.State = core.LeaseActive
		t.audited(ctx, l.OrgID, l.CreatedBy, audit.Row{Kind: store.ChangeLease, ID: l.ID, Reason: l.Purpose})
		t.changed(store.ChangeLease, l.OrgID, l.ID, 1, false)
	}
	return err
}

// RenewLease implements store.Tx.
func (t *tx) RenewLease(ctx context.Context, orgID, id string) (bool, error) {
	n, err := t.write(ctx, fpLease, `UPDATE leases SET renewals = renewals + 1 WHERE id = $1 AND org_id = $2 AND ended_at = 0`, id, orgID)
	return n > 0, err
}

// EndLease implements store.Tx.
func (t *tx) EndLease(ctx context.Context, l *core.Lease, state core.LeaseState, at time.Time) (bool, error) {
	c := newChecks("the end of the lease")
	c.times("ended_at", at)
	if at.IsZero() || !state.Ended() {
		c.fault.WithField("ended_at", "is missing, or the state %s is not final", state)
	}
	if err := c.err(); err != nil {
		return false, err
	}
	n, err := t.write(ctx, fpLease, `UPDATE leases SET state = $1, ended_at = $2 WHERE id = $3 AND org_id = $4 AND ended_at = 0 AND ($1 <> $5 OR renewals = $6)`,
		string(state), nanos(at), l.ID, l.OrgID, string(core.LeaseExpired), l.Renewals)
	if err != nil || n == 0 {
		return false, err
	}
	t.audited(ctx, l.OrgID, "", audit.Row{Kind: store.ChangeLease, ID: l.ID, Name: string(state), Reason: l.Purpose, Revision: 2})
	t.changed(store.ChangeLease, l.OrgID, l.ID, 2, false)
	return true, nil
}

// ForgetLeases implements store.Tx.
func (t *tx) ForgetLeases(ctx context.Context, before time.Time) error {
	_, err := t.write(ctx, fpLease, `DELETE FROM leases WHERE ended_at > 0 AND ended_at < $1`, nanos(before))
	return err
}
