package sqlstore

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const secretColumns = `org_id, store_id, path, version, fields, created_at, updated_at, updated_by`

func (r *reader) secrets(ctx context.Context, sealed, where string, args ...any) ([]*store.Secret, error) {
	var all []*store.Secret
	err := r.each(ctx, func(rows *sql.Rows) error {
		var (
			s                store.Secret
			fields, value    string
			created, updated int64
		)
		if err := rows.Scan(&s.OrgID, &s.StoreID, &s.Path, &s.Version, &fields, &created, &updated, &s.UpdatedBy, &value); err != nil {
			return err
		}
		s.CreatedAt, s.UpdatedAt = fromNanos(created), fromNanos(updated)
		var err error
		if err = json.Unmarshal([]byte(fields), &s.Fields); err == nil {
			s.Sealed, err = base64.StdEncoding.DecodeString(value)
		}
		if err != nil {
			return fault.New(fault.Internal, fault.ReasonStoreCorrupt, "the row of secret %.80q cannot be read", s.Path).WithCause(err)
		}
		all = append(all, &s)
		return nil
	}, `SELECT `+secretColumns+`, `+sealed+` FROM secrets `+where, args...)
	return all, err
}

// Secret implements store.Reader.
func (r *reader) Secret(ctx context.Context, orgID, storeID, path string) (*store.Secret, error) {
	all, err := r.secrets(ctx, `sealed`, `WHERE org_id = $1 AND store_id = $2 AND path = $3`, orgID, storeID, path)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, secretNotFound(path)
	}
	return all[0], nil
}

// Secrets implements store.Reader.
func (r *reader) Secrets(ctx context.Context, orgID, storeID string, p store.Page) ([]*store.Secret, string, error) {
	if err := checkPage(p); err != nil {
		return nil, "", err
	}
	all, err := r.secrets(ctx, `''`, `WHERE org_id = $1 AND store_id = $2 AND path > $3 ORDER BY path LIMIT $4`, orgID, storeID, p.After, p.Size+1)
	if err != nil || len(all) <= p.Size {
		return all, "", err
	}
	return all[:p.Size], all[p.Size-1].Path, nil
}

// CountSecrets implements store.Reader.
func (r *reader) CountSecrets(ctx context.Context, orgID, storeID string) (n int64, err error) {
	_, err = r.one(ctx, `SELECT count(*) FROM secrets WHERE org_id = $1 AND store_id = $2`, []any{orgID, storeID}, &n)
	return n, err
}

// PutSecret implements store.Tx.
func (t *tx) PutSecret(ctx context.Context, s *store.Secret, storeName string) error {
	fields, err := json.Marshal(s.Fields)
	if err != nil {
		return fault.Internalf(err, "write the fields of a secret as JSON")
	}
	c := newChecks("the secret")
	c.required("org_id", s.OrgID)
	c.required("store_id", s.StoreID)
	c.required("path", s.Path)
	c.note("updated_by", s.UpdatedBy)
	c.times("updated_at", s.CreatedAt, s.UpdatedAt)
	c.most("fields", len(fields), store.MaxSecretFields)
	c.most("value", len(s.Sealed), store.MaxSecret)
	if err := c.err(); err != nil {
		return err
	}
	if _, err := t.write(ctx, fpSecret, `INSERT INTO secrets (`+secretColumns+`, sealed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (org_id, store_id, path) DO UPDATE SET version = $4, fields = $5, updated_at = $7, updated_by = $8, sealed = $9`,
		s.OrgID, s.StoreID, s.Path, s.Version, string(fields), nanos(s.CreatedAt), nanos(s.UpdatedAt), s.UpdatedBy,
		base64.StdEncoding.EncodeToString(s.Sealed)); err != nil {
		return err
	}
	var created int64
	if _, err := t.one(ctx, `SELECT created_at FROM secrets WHERE org_id = $1 AND store_id = $2 AND path = $3`, []any{s.OrgID, s.StoreID, s.Path}, &created); err != nil {
		return err
	}
	s.CreatedAt = fromNanos(created)
	t.audited(ctx, s.OrgID, s.UpdatedBy, secretRow(s, storeName))
	return nil
}

// DeleteSecret implements store.Tx.
func (t *tx) DeleteSecret(ctx context.Context, s *store.Secret, storeName string) error {
	n, err := t.write(ctx, fpSecret, `DELETE FROM secrets WHERE org_id = $1 AND store_id = $2 AND path = $3`, s.OrgID, s.StoreID, s.Path)
	if err == nil && n == 0 {
		err = secretNotFound(s.Path)
	}
	if err == nil {
		t.audited(ctx, s.OrgID, s.UpdatedBy, secretRow(s, storeName))
	}
	return err
}

// secretRow tells of a secret. It has no digest of values: those are short, and could be guessed.
func secretRow(s *store.Secret, storeName string) audit.Row {
	return audit.Row{Kind: store.AuditSecret, ID: s.StoreID, Name: storeName + "/" + s.Path, Revision: s.Version}
}

// NextSecretVersion implements store.Tx.
func (t *tx) NextSecretVersion(ctx context.Context, orgID, storeID string, at time.Time) (version int64, err error) {
	c := newChecks("the secret store")
	c.times("updated_at", at)
	if err := c.err(); err != nil {
		return 0, err
	}
	n, err := t.write(ctx, fpSecret, `UPDATE secret_stores SET last_version = last_version + 1, updated_at = $1 WHERE org_id = $2 AND id = $3`, nanos(at), orgID, storeID)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, storeNotFound(storeID)
	}
	_, err = t.one(ctx, `SELECT last_version FROM secret_stores WHERE org_id = $1 AND id = $2`, []any{orgID, storeID}, &version)
	return version, err
}

func secretNotFound(path string) error {
	return fault.NotFoundf(fault.ReasonSecretNotFound, "secret %.80q does not exist", path)
}
