package sqlstore

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// maxTokens bounds a list of tokens.
const maxTokens = 10_000

func (t *tx) Org(ctx context.Context, id string) (*core.Org, error) {
	return t.org(ctx, `SELECT id, name, created_at FROM orgs WHERE id = $1`, id)
}

func (t *tx) OrgByName(ctx context.Context, name string) (*core.Org, error) {
	return t.org(ctx, `SELECT id, name, created_at FROM orgs WHERE name = $1`, name)
}

func (t *tx) org(ctx context.Context, query, arg string) (*core.Org, error) {
	o, err := scanOrg(t.row(ctx, query, arg))
	if err != nil {
		return nil, t.mark(notFound(err, "ORG_NOT_FOUND", "there is no organization %q", arg))
	}
	return o, nil
}

func scanOrg(r rowScanner) (*core.Org, error) {
	var o core.Org
	var created int64
	if err := r.Scan(&o.ID, &o.Name, &created); err != nil {
		return nil, err
	}
	o.CreatedAt = instant(created)
	return &o, nil
}

func (t *tx) Orgs(ctx context.Context) ([]*core.Org, error) {
	rows, err := t.rows(ctx, `SELECT id, name, created_at FROM orgs ORDER BY name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*core.Org
	for rows.Next() {
		o, err := scanOrg(rows)
		if err != nil {
			return nil, t.mark(err)
		}
		out = append(out, o)
	}
	return out, t.mark(rows.Err())
}

func (t *tx) InsertOrg(ctx context.Context, o *core.Org) error {
	n, err := t.exec(ctx, `INSERT INTO orgs (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, o.ID, o.Name, nanos(o.CreatedAt))
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.Exists, "ORG_EXISTS", "an organization named %q exists", o.Name)
	}
	return t.changed(ctx, "org", o.ID, o.ID, 1, false)
}

const tokenColumns = `id, org_id, name, role, hash, created_at, created_by, expires_at, revoked_at`

func scanToken(r rowScanner) (*core.Token, error) {
	var k core.Token
	var created, expires, revoked int64
	if err := r.Scan(&k.ID, &k.OrgID, &k.Name, &k.Role, &k.Hash, &created, &k.CreatedBy, &expires, &revoked); err != nil {
		return nil, err
	}
	k.CreatedAt, k.ExpiresAt, k.RevokedAt = instant(created), instant(expires), instant(revoked)
	return &k, nil
}

func (t *tx) TokenByHash(ctx context.Context, hash string) (*core.Token, error) {
	k, err := scanToken(t.row(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE hash = $1`, hash))
	if err != nil {
		return nil, t.mark(notFound(err, "TOKEN_NOT_FOUND", "there is no such token"))
	}
	return k, nil
}

func (t *tx) Tokens(ctx context.Context, orgID string) ([]*core.Token, error) {
	rows, err := t.rows(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE org_id = $1 ORDER BY created_at, id LIMIT $2`, orgID, maxTokens)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*core.Token
	for rows.Next() {
		k, err := scanToken(rows)
		if err != nil {
			return nil, t.mark(err)
		}
		out = append(out, k)
	}
	return out, t.mark(rows.Err())
}

func (t *tx) InsertToken(ctx context.Context, k *core.Token) error {
	n, err := t.exec(ctx, `INSERT INTO tokens (id, org_id, name, role, hash, created_at, created_by, expires_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT DO NOTHING`,
		k.ID, k.OrgID, k.Name, string(k.Role), k.Hash, nanos(k.CreatedAt), k.CreatedBy, nanos(k.ExpiresAt), nanos(k.RevokedAt))
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.Exists, "TOKEN_EXISTS", "the token exists")
	}
	return t.changed(ctx, "token", k.OrgID, k.ID, 1, false)
}

func (t *tx) RevokeToken(ctx context.Context, orgID, id string, at time.Time) error {
	n, err := t.exec(ctx, `UPDATE tokens SET revoked_at = $3 WHERE id = $1 AND org_id = $2 AND revoked_at = 0`, id, orgID, nanos(at))
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.NotFoundf("TOKEN_NOT_FOUND", "there is no live token %q", id)
	}
	return t.changed(ctx, "token", orgID, id, 2, true)
}
