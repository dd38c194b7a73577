package sqlstore

import (
	"context"
	"database/sql"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const secretStoreColumns = `org_id, id, name, provider, key_id, wrapped_key, created_at, updated_at, created_by`

func (r *reader) secretStores(ctx context.Context, where string, args ...any) ([]*store.SecretStore, error) {
	var all []*store.SecretStore
	err := r.each(ctx, func(rows *sql.Rows) error {
		var (
			s                store.SecretStore
			created, updated int64
		)
		if err := rows.Scan(&s.OrgID, &s.ID, &s.Name, &s.Provider, &s.KeyID, &s.WrappedKey, &created, &updated, &s.CreatedBy); err != nil {
			return err
		}
		s.CreatedAt, s.UpdatedAt = fromNanos(created), fromNanos(updated)
		all = append(all, &s)
		return nil
	}, `SELECT `+secretStoreColumns+` FROM secret_stores `+where, args...)
	return all, err
}

// SecretStore implements store.Reader.
func (r *reader) SecretStore(ctx context.Context, orgID, name string) (*store.SecretStore, error) {
	all, err := r.secretStores(ctx, `WHERE org_id = $1 AND name = $2`, orgID, name)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, storeNotFound(name)
	}
	return all[0], nil
}

// SecretStores implements store.Reader.
func (r *reader) SecretStores(ctx context.Context, orgID string, p store.Page) ([]*store.SecretStore, string, error) {
	if err := checkPage(p); err != nil {
		return nil, "", err
	}
	all, err := r.secretStores(ctx, `WHERE org_id = $1 AND name > $2 ORDER BY name LIMIT $3`, orgID, p.After, p.Size+1)
	if err != nil || len(all) <= p.Size {
		return all, "", err
	}
	return all[:p.Size], all[p.Size-1].Name, nil
}

// SecretKeys implements store.Reader.
func (r *reader) SecretKeys(ctx context.Context) ([]store.SecretKey, error) {
	var all []store.SecretKey
	err := r.each(ctx, func(rows *sql.Rows) error {
		var k store.SecretKey
		err := rows.Scan(&k.ID, &k.Stores)
		all = append(all, k)
		return err
	}, `SELECT key_id, count(*) FROM secret_stores GROUP BY key_id ORDER BY key_id`)
	return all, err
}

// SecretStoresUnder implements store.Reader.
func (r *reader) SecretStoresUnder(ctx context.Context, keyID string) ([]*store.SecretStore, error) {
	return r.secretStores(ctx, `WHERE key_id = $1 ORDER BY org_id, id`, keyID)
}

// InsertSecretStore implements store.Tx.
func (t *tx) InsertSecretStore(ctx context.Context, s *store.SecretStore, most int64) error {
	c := newChecks("the secret store")
	c.required("id", s.ID)
	c.required("org_id", s.OrgID)
	c.required("name", s.Name)
	c.required("provider", s.Provider)
	c.required("key_id", s.KeyID)
	c.note("wrapped_key", s.WrappedKey)
	c.note("created_by", s.CreatedBy)
	c.times("created_at", s.CreatedAt, s.UpdatedAt)
	if err := c.err(); err != nil {
		return err
	}
	if err := t.lockConfig(ctx, s.OrgID, true); err != nil { // so that none comes between the count and the insertion
		return err
	}
	var n, taken int64
	if _, err := t.one(ctx, `SELECT count(*), coalesce(sum(CASE WHEN name = $2 OR id = $3 THEN 1 ELSE 0 END), 0) FROM secret_stores WHERE org_id = $1`,
		[]any{s.OrgID, s.Name, s.ID}, &n, &taken); err != nil {
		return err
	}
	switch {
	case taken > 0:
		return fault.New(fault.Exists, fault.ReasonSecretStoreExists, "a secret store named %.80q exists", s.Name).WithField("name", "is taken")
	case n >= most:
		return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "the organization has %d secret stores, the limit is %d", n, most)
	}
	if _, err := t.write(ctx, fpSecretStore, `INSERT INTO secret_stores (`+secretStoreColumns+`, last_version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)`,
		s.OrgID, s.ID, s.Name, s.Provider, s.KeyID, s.WrappedKey, nanos(s.CreatedAt), nanos(s.UpdatedAt), s.CreatedBy); err != nil {
		return err
	}
	t.audited(ctx, s.OrgID, s.CreatedBy, audit.Row{Kind: store.AuditSecretStore, ID: s.ID, Name: s.Name, Revision: 1})
	return nil
}

// DeleteSecretStore implements store.Tx. The store goes first: a transaction that writes a secret holds its row, and has ended then.
func (t *tx) DeleteSecretStore(ctx context.Context, orgID, name string) error {
	s, err := t.SecretStore(ctx, orgID, name)
	if err != nil {
		return err
	}
	n, err := t.write(ctx, fpSecretStore, `DELETE FROM secret_stores WHERE org_id = $1 AND id = $2`, orgID, s.ID)
	if err == nil && n == 0 {
		err = storeNotFound(name)
	}
	if err == nil {
		_, err = t.write(ctx, fpSecret, `DELETE FROM secrets WHERE org_id = $1 AND store_id = $2`, orgID, s.ID)
	}
	if err == nil {
		t.audited(ctx, orgID, "", audit.Row{Kind: store.AuditSecretStore, ID: s.ID, Name: s.Name})
	}
	return err
}

// RewrapSecretStore implements store.Tx.
func (t *tx) RewrapSecretStore(ctx context.Context, s *store.SecretStore, keyID, wrapped string) (bool, error) {
	c := newChecks("the secret store")
	c.required("key_id", keyID)
	c.note("wrapped_key", wrapped)
	if err := c.err(); err != nil {
		return false, err
	}
	n, err := t.write(ctx, fpSecretStore, `UPDATE secret_stores SET key_id = $1, wrapped_key = $2 WHERE org_id = $3 AND id = $4 AND wrapped_key = $5`,
		keyID, wrapped, s.OrgID, s.ID, s.WrappedKey)
	if err == nil && n > 0 {
		t.audited(ctx, s.OrgID, "", audit.Row{Kind: store.AuditSecretStore, ID: s.ID, Name: s.Name})
	}
	return n > 0, err
}

func storeNotFound(name string) error {
	return fault.NotFoundf(fault.ReasonResourceNotFound, "secret store %.80q does not exist", name)
}
