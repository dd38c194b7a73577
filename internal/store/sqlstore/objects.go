package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const objectColumns = `kind, org_id, id, name, COALESCE(secondary, ''), revision, body, created_at, updated_at, updated_by, reason`

func scanObject(r rowScanner, extra ...any) (*store.Object, error) {
	var o store.Object
	var body string
	var created, updated int64
	dest := append([]any{&o.Kind, &o.OrgID, &o.ID, &o.Name, &o.Unique, &o.Revision, &body, &created, &updated, &o.UpdatedBy, &o.Reason}, extra...)
	if err := r.Scan(dest...); err != nil {
		return nil, err
	}
	o.Body, o.CreatedAt, o.UpdatedAt = []byte(body), instant(created), instant(updated)
	return &o, nil
}

// instant reads a time; 0 is the zero time.
func instant(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func missing(kind store.Kind, ref string) (reason, format string, arg string) {
	return strings.ToUpper(string(kind)) + "_NOT_FOUND", "there is no " + string(kind) + " %q", ref
}

func (t *tx) Object(ctx context.Context, kind store.Kind, orgID, id string) (*store.Object, error) {
	o, err := scanObject(t.row(ctx, `SELECT `+objectColumns+` FROM objects WHERE kind = $1 AND org_id = $2 AND id = $3`, string(kind), orgID, id))
	if err != nil {
		reason, format, arg := missing(kind, id)
		return nil, t.mark(notFound(err, reason, format, arg))
	}
	return o, nil
}

func (t *tx) ObjectByName(ctx context.Context, kind store.Kind, orgID, name string) (*store.Object, error) {
	o, err := scanObject(t.row(ctx, `SELECT `+objectColumns+` FROM objects WHERE kind = $1 AND org_id = $2 AND name = $3`, string(kind), orgID, name))
	if err != nil {
		reason, format, arg := missing(kind, name)
		return nil, t.mark(notFound(err, reason, format, arg))
	}
	return o, nil
}

func (t *tx) Objects(ctx context.Context, kind store.Kind, orgID string, p store.Page) ([]*store.Object, string, error) {
	size := pageSize(p.Size)
	rows, err := t.rows(ctx, `SELECT `+objectColumns+` FROM objects WHERE kind = $1 AND org_id = $2 AND name > $3 ORDER BY name LIMIT $4`, string(kind), orgID, p.After, size+1)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	return collect(t, rows, size, func() (*store.Object, error) { return scanObject(rows) }, func(o *store.Object) string { return o.Name })
}

// collect reads a page of at most size elements and the key to continue after. The query asked for one more, which says that there is more.
func collect[T any](t *tx, rows *sql.Rows, size int, scan func() (*T, error), key func(*T) string) ([]*T, string, error) {
	out := make([]*T, 0, size)
	more := false
	for rows.Next() {
		if len(out) == size {
			more = true
			break
		}
		v, err := scan()
		if err != nil {
			return nil, "", t.mark(err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, "", t.mark(err)
	}
	if more {
		return out, key(out[len(out)-1]), nil
	}
	return out, "", nil
}

func pageSize(n int) int { return min(max(n, 1), store.MaxPage) }

func (t *tx) ObjectRevision(ctx context.Context, kind store.Kind, orgID, id string, revision int32) (*store.Object, error) {
	var deleted int64
	o, err := scanObject(t.row(ctx, `SELECT `+objectColumns+`, deleted FROM object_revisions WHERE kind = $1 AND org_id = $2 AND id = $3 AND revision = $4`,
		string(kind), orgID, id, revision), &deleted)
	if err != nil {
		reason, format, arg := missing(kind, fmt.Sprintf("%s, revision %d", id, revision))
		return nil, t.mark(notFound(err, reason, format, arg))
	}
	o.Deleted = deleted != 0
	return o, nil
}

func (t *tx) Revisions(ctx context.Context, kind store.Kind, orgID, id string, p store.Page) ([]*store.Object, string, error) {
	before := int64(1) << 40
	if p.After != "" {
		if _, err := fmt.Sscanf(p.After, "%d", &before); err != nil {
			return nil, "", fault.Invalidf(fault.ReasonPageTokenInvalid, "not a key of this list")
		}
	}
	size := pageSize(p.Size)
	rows, err := t.rows(ctx, `SELECT `+objectColumns+`, deleted FROM object_revisions WHERE kind = $1 AND org_id = $2 AND id = $3 AND revision < $4 ORDER BY revision DESC LIMIT $5`,
		string(kind), orgID, id, before, size+1)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	return collect(t, rows, size, func() (*store.Object, error) {
		var deleted int64
		o, err := scanObject(rows, &deleted)
		if err == nil {
			o.Deleted = deleted != 0
		}
		return o, err
	}, func(o *store.Object) string { return fmt.Sprint(o.Revision) })
}

func (t *tx) Insert(ctx context.Context, o *store.Object) error {
	if err := checkBody(o); err != nil {
		return err
	}
	o.Revision = 1
	n, err := t.exec(ctx, `INSERT INTO objects (kind, org_id, id, name, secondary, revision, body, created_at, updated_at, updated_by, reason)
		VALUES ($1, $2, $3, $4, NULLIF($5, ''), $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
		string(o.Kind), o.OrgID, o.ID, o.Name, o.Unique, o.Revision, string(o.Body), nanos(o.CreatedAt), nanos(o.UpdatedAt), o.UpdatedBy, o.Reason)
	if err != nil {
		return err
	}
	if n == 0 {
		return t.exists(ctx, o)
	}
	return t.revise(ctx, o)
}

// exists says which of the unique values is taken.
func (t *tx) exists(ctx context.Context, o *store.Object) error {
	kind := strings.ToUpper(string(o.Kind))
	if other, err := t.ObjectByName(ctx, o.Kind, o.OrgID, o.Name); err == nil && other.ID != o.ID {
		return fault.New(fault.Exists, kind+"_EXISTS", "a %s named %q exists", o.Kind, o.Name)
	} else if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if o.Unique != "" {
		return fault.New(fault.Exists, kind+"_EXISTS", "a %s for %q exists", o.Kind, o.Unique)
	}
	return fault.New(fault.Exists, kind+"_EXISTS", "the %s %s exists", o.Kind, o.ID)
}

func checkBody(o *store.Object) error {
	if len(o.Body) > store.MaxBody {
		return fault.Invalidf(fault.ReasonLimitExceeded, "the %s has %d bytes, the limit is %d", o.Kind, len(o.Body), store.MaxBody)
	}
	return nil
}

func (t *tx) Update(ctx context.Context, o *store.Object) error {
	if err := checkBody(o); err != nil {
		return err
	}
	// Whether the new unique value is free is asked first: a violated constraint would end a PostgreSQL transaction.
	if o.Unique != "" {
		var id string
		err := t.row(ctx, `SELECT id FROM objects WHERE kind = $1 AND org_id = $2 AND secondary = $3 AND id <> $4`, string(o.Kind), o.OrgID, o.Unique, o.ID).Scan(&id)
		if err == nil {
			return fault.New(fault.Exists, strings.ToUpper(string(o.Kind))+"_EXISTS", "a %s for %q exists", o.Kind, o.Unique)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return t.mark(err)
		}
	}
	n, err := t.exec(ctx, `UPDATE objects SET secondary = NULLIF($5, ''), revision = revision + 1, body = $6, updated_at = $7, updated_by = $8, reason = $9
		WHERE kind = $1 AND org_id = $2 AND id = $3 AND revision = $4`,
		string(o.Kind), o.OrgID, o.ID, o.Revision, o.Unique, string(o.Body), nanos(o.UpdatedAt), o.UpdatedBy, o.Reason)
	if err != nil {
		return err
	}
	if n == 0 {
		return t.stale(ctx, o)
	}
	o.Revision++
	return t.revise(ctx, o)
}

// stale tells a changed object from one that is gone.
func (t *tx) stale(ctx context.Context, o *store.Object) error {
	current, err := t.Object(ctx, o.Kind, o.OrgID, o.ID)
	if err != nil {
		return err
	}
	return fault.New(fault.Conflict, fault.ReasonEtagMismatch, "the %s %q is at revision %d, not %d any more", o.Kind, o.Name, current.Revision, o.Revision)
}

func (t *tx) Delete(ctx context.Context, o *store.Object) error {
	n, err := t.exec(ctx, `DELETE FROM objects WHERE kind = $1 AND org_id = $2 AND id = $3 AND revision = $4`, string(o.Kind), o.OrgID, o.ID, o.Revision)
	if err != nil {
		return err
	}
	if n == 0 {
		return t.stale(ctx, o)
	}
	o.Revision++
	o.Deleted = true
	return t.revise(ctx, o)
}

// revise appends the state of o to its history and to the change log.
func (t *tx) revise(ctx context.Context, o *store.Object) error {
	_, err := t.exec(ctx, `INSERT INTO object_revisions (kind, org_id, id, revision, name, secondary, body, created_at, updated_at, updated_by, reason, deleted)
		VALUES ($1, $2, $3, $4, $5, NULLIF($6, ''), $7, $8, $9, $10, $11, $12)`,
		string(o.Kind), o.OrgID, o.ID, o.Revision, o.Name, o.Unique, string(o.Body), nanos(o.CreatedAt), nanos(o.UpdatedAt), o.UpdatedBy, o.Reason, flag(o.Deleted))
	if err != nil {
		return err
	}
	return t.changed(ctx, string(o.Kind), o.OrgID, o.ID, int64(o.Revision), o.Deleted)
}

func (t *tx) AssertCurrent(ctx context.Context, refs []store.Ref) error {
	for _, ref := range refs {
		if ref.Revision == 0 {
			_, err := t.ObjectByName(ctx, ref.Kind, ref.OrgID, ref.ID)
			if err == nil {
				return fault.New(fault.Conflict, "CONFIGURATION_CHANGED", "the %s %q has been made meanwhile", ref.Kind, ref.ID)
			}
			if !fault.Is(err, fault.NotFound) {
				return err
			}
			continue
		}
		var revision int32
		err := t.row(ctx, `SELECT revision FROM objects WHERE kind = $1 AND org_id = $2 AND id = $3`, string(ref.Kind), ref.OrgID, ref.ID).Scan(&revision)
		if errors.Is(err, sql.ErrNoRows) {
			revision, err = 0, nil
		}
		if err != nil {
			return t.mark(err)
		}
		if revision != ref.Revision {
			return fault.New(fault.Conflict, "CONFIGURATION_CHANGED", "the %s %s has changed meanwhile", ref.Kind, ref.ID)
		}
	}
	return nil
}
