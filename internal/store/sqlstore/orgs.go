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

const (
	orgColumns   = `id, name, created_at`
	tokenColumns = `id, org_id, name, role, hash, created_at, created_by, expires_at, revoked_at, runner_uuid, identity`
)

func (r *reader) orgs(ctx context.Context, where string, args ...any) ([]*core.Org, error) {
	var all []*core.Org
	err := r.each(ctx, func(rows *sql.Rows) error {
		var (
			o       core.Org
			created int64
		)
		if err := rows.Scan(&o.ID, &o.Name, &created); err != nil {
			return err
		}
		o.CreatedAt = fromNanos(created)
		all = append(all, &o)
		return nil
	}, `SELECT `+orgColumns+` FROM orgs `+where, args...)
	return all, err
}

func (r *reader) org(ctx context.Context, ref, where string) (*core.Org, error) {
	all, err := r.orgs(ctx, where, ref)
	if err == nil && len(all) == 0 {
		err = fault.NotFoundf(fault.ReasonResourceNotFound, "organization %.80q does not exist", ref)
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// Org implements store.Reader.
func (r *reader) Org(ctx context.Context, id string) (*core.Org, error) {
	return r.org(ctx, id, `WHERE id = $1`)
}

// OrgByName implements store.Reader.
func (r *reader) OrgByName(ctx context.Context, name string) (*core.Org, error) {
	return r.org(ctx, name, `WHERE name = $1`)
}

// Orgs implements store.Reader.
func (r *reader) Orgs(ctx context.Context) ([]*core.Org, error) {
	return r.orgs(ctx, `ORDER BY name`)
}

func (r *reader) tokens(ctx context.Context, where string, args ...any) ([]*core.Token, error) {
	var all []*core.Token
	err := r.each(ctx, func(rows *sql.Rows) error {
		var (
			k                         core.Token
			created, expires, revoked int64
		)
		if err := rows.Scan(&k.ID, &k.OrgID, &k.Name, &k.Role, &k.Hash, &created, &k.CreatedBy, &expires, &revoked, &k.RunnerUUID, &k.Identity); err != nil {
			return err
		}
		k.CreatedAt, k.ExpiresAt, k.RevokedAt = fromNanos(created), fromNanos(expires), fromNanos(revoked)
		all = append(all, &k)
		return nil
	}, `SELECT `+tokenColumns+` FROM tokens `+where, args...)
	return all, err
}

// TokenByHash implements store.Reader. The hash is in no error.
func (r *reader) TokenByHash(ctx context.Context, hash string) (*core.Token, error) {
	return r.token(ctx, `WHERE hash = $1`, hash)
}

// TokenByID implements store.Reader.
func (r *reader) TokenByID(ctx context.Context, id string) (*core.Token, error) {
	return r.token(ctx, `WHERE id = $1`, id)
}

func (r *reader) token(ctx context.Context, where, is string) (*core.Token, error) {
	all, err := r.tokens(ctx, where, is)
	if err == nil && len(all) == 0 {
		err = fault.NotFoundf(fault.ReasonResourceNotFound, "no such token")
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// Tokens implements store.Reader.
func (r *reader) Tokens(ctx context.Context, orgID string) ([]*core.Token, error) {
	return r.tokens(ctx, `WHERE org_id = $1 ORDER BY name, id`, orgID)
}

// InsertOrg implements store.Tx.
func (t *tx) InsertOrg(ctx context.Context, o *core.Org) error {
	c := newChecks("the organization")
	c.required("id", o.ID)
	c.required("name", o.Name)
	c.times("created_at", o.CreatedAt)
	if err := c.err(); err != nil {
		return err
	}
	n, err := t.write(ctx, fpInsertOrg, `INSERT INTO orgs (`+orgColumns+`) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, o.ID, o.Name, nanos(o.CreatedAt))
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.Exists, "ORG_EXISTS", "an organization with this id or name exists").WithField("name", "%.80q may be taken", o.Name)
	}
	t.audited(ctx, audit.Installation, "", audit.Row{Kind: store.ChangeOrg, ID: o.ID, Name: o.Name})
	t.changed(store.ChangeOrg, o.ID, o.ID, 1, false)
	return nil
}

// InsertToken implements store.Tx.
func (t *tx) InsertToken(ctx context.Context, k *core.Token) error {
	c := newChecks("the token")
	c.required("id", k.ID)
	c.required("org_id", k.OrgID)
	c.text("name", k.Name)
	c.required("role", string(k.Role))
	c.required("hash", k.Hash)
	c.note("created_by", k.CreatedBy)
	c.text("runner_uuid", k.RunnerUUID)
	c.text("identity", k.Identity)
	c.times("created_at", k.CreatedAt)
	c.times("expires_at", k.ExpiresAt)
	c.times("revoked_at", k.RevokedAt)
	if err := c.err(); err != nil {
		return err
	}
	// Organizations are never removed, so that one that is there stays.
	if _, err := t.Org(ctx, k.OrgID); err != nil {
		return err
	}
	n, err := t.write(ctx, fpInsertToken, `INSERT INTO tokens (`+tokenColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
		k.ID, k.OrgID, k.Name, string(k.Role), k.Hash, nanos(k.CreatedAt), k.CreatedBy, nanos(k.ExpiresAt), nanos(k.RevokedAt), k.RunnerUUID, k.Identity)
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.Exists, "TOKEN_EXISTS", "a token with this id or secret exists")
	}
	t.audited(ctx, k.OrgID, k.CreatedBy, audit.Row{Kind: store.ChangeToken, ID: k.ID, Name: k.Name})
	t.changed(store.ChangeToken, k.OrgID, k.ID, 1, false)
	return nil
}

// RevokeToken implements store.Tx.
func (t *tx) RevokeToken(ctx context.Context, orgID, id string, at time.Time) error {
	c := newChecks("the revocation")
	c.times("revoked_at", at)
	if at.IsZero() {
		c.fault.WithField("revoked_at", "is missing")
	}
	if err := c.err(); err != nil {
		return err
	}
	n, err := t.write(ctx, fpRevokeToken, `UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND org_id = $3 AND revoked_at = 0`, nanos(at), id, orgID)
	if err != nil {
		return err
	}
	if n > 0 {
		t.changed(store.ChangeToken, orgID, id, 2, false)
	}
	all, err := t.tokens(ctx, `WHERE id = $1 AND org_id = $2`, id, orgID)
	if err == nil && len(all) == 0 {
		err = fault.NotFoundf(fault.ReasonResourceNotFound, "token %.80q does not exist", id)
	}
	if err == nil && n > 0 {
		t.audited(ctx, orgID, "", audit.Row{Kind: store.ChangeToken, ID: id, Name: all[0].Name, Revision: 2})
	}
	return err
}
