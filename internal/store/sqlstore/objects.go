package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// objectColumns are read by scanObject, in this order; deleted comes last, as a constant for live objects.
const objectColumns = `kind, org_id, id, name, unique_key, revision, body, created_at, updated_at, updated_by, reason`

func scanObject(rows *sql.Rows) (*store.Object, error) {
	var (
		o                store.Object
		body             string
		created, updated int64
		deleted          int64
	)
	err := rows.Scan(&o.Kind, &o.OrgID, &o.ID, &o.Name, &o.Unique, &o.Revision, &body, &created, &updated, &o.UpdatedBy, &o.Reason, &deleted)
	if err != nil {
		return nil, err
	}
	o.Body, o.CreatedAt, o.UpdatedAt, o.Deleted = json.RawMessage(body), fromNanos(created), fromNanos(updated), deleted != 0
	return &o, nil
}

// object runs a query for one object.
func (r *reader) object(ctx context.Context, query string, args ...any) (*store.Object, error) {
	var o *store.Object
	err := r.each(ctx, func(rows *sql.Rows) (err error) {
		o, err = scanObject(rows)
		return err
	}, query, args...)
	return o, err
}

// Object implements store.Reader.
func (r *reader) Object(ctx context.Context, kind store.Kind, orgID, id string) (*store.Object, error) {
	if err := r.lockConfig(ctx, orgID, true); err != nil {
		return nil, err
	}
	o, err := r.object(ctx, `SELECT `+objectColumns+`, 0 FROM objects WHERE org_id = $1 AND kind = $2 AND id = $3`, orgID, string(kind), id)
	if err == nil && o == nil {
		err = objectNotFound(kind, id)
	}
	return o, err
}

// ObjectByName implements store.Reader.
func (r *reader) ObjectByName(ctx context.Context, kind store.Kind, orgID, name string) (*store.Object, error) {
	if err := r.lockConfig(ctx, orgID, true); err != nil {
		return nil, err
	}
	o, err := r.object(ctx, `SELECT `+objectColumns+`, 0 FROM objects WHERE org_id = $1 AND kind = $2 AND name = $3`, orgID, string(kind), name)
	if err == nil && o == nil {
		err = objectNotFound(kind, name)
	}
	return o, err
}

// Objects implements store.Reader.
func (r *reader) Objects(ctx context.Context, kind store.Kind, orgID string, p store.Page) ([]*store.Object, string, error) {
	if err := checkPage(p); err != nil {
		return nil, "", err
	}
	if err := r.lockConfig(ctx, orgID, true); err != nil {
		return nil, "", err
	}
	all, more, err := r.objectPage(ctx, p.Size, `SELECT `+objectColumns+`, 0 FROM objects
		WHERE org_id = $1 AND kind = $2 AND name > $3 ORDER BY name LIMIT $4`, orgID, string(kind), p.After, p.Size+1)
	if err != nil || !more {
		return all, "", err
	}
	return all, all[len(all)-1].Name, nil
}

// objectPage runs a query for one object more than the page has, to know whether there are more.
func (r *reader) objectPage(ctx context.Context, size int, query string, args ...any) ([]*store.Object, bool, error) {
	var all []*store.Object
	err := r.each(ctx, func(rows *sql.Rows) error {
		o, err := scanObject(rows)
		all = append(all, o)
		return err
	}, query, args...)
	if err != nil {
		return nil, false, err
	}
	if len(all) > size {
		return all[:size], true, nil
	}
	return all, false, nil
}

// ObjectRevision implements store.Reader.
func (r *reader) ObjectRevision(ctx context.Context, kind store.Kind, orgID, id string, revision int32) (*store.Object, error) {
	o, err := r.object(ctx, `SELECT `+objectColumns+`, deleted FROM object_revisions
		WHERE org_id = $1 AND kind = $2 AND id = $3 AND revision = $4`, orgID, string(kind), id, revision)
	if err == nil && o == nil {
		err = objectNotFound(kind, id)
	}
	return o, err
}

// Revisions implements store.Reader. An object that never was is NotFound.
func (r *reader) Revisions(ctx context.Context, kind store.Kind, orgID, id string, p store.Page) ([]*store.Object, string, error) {
	if err := checkPage(p); err != nil {
		return nil, "", err
	}
	before := int64(1) << 32 // above every revision
	if p.After != "" {
		n, err := strconv.ParseInt(p.After, 10, 32)
		if err != nil || n < 1 || strconv.FormatInt(n, 10) != p.After {
			return nil, "", badPageKey()
		}
		before = n
	}
	all, more, err := r.objectPage(ctx, p.Size, `SELECT `+objectColumns+`, deleted FROM object_revisions
		WHERE org_id = $1 AND kind = $2 AND id = $3 AND revision < $4 ORDER BY revision DESC LIMIT $5`, orgID, string(kind), id, before, p.Size+1)
	switch {
	case err != nil:
		return nil, "", err
	case len(all) == 0 && p.After == "":
		return nil, "", objectNotFound(kind, id)
	case more:
		return all, strconv.FormatInt(int64(all[len(all)-1].Revision), 10), nil
	}
	return all, "", nil
}

func objectNotFound(kind store.Kind, ref string) error {
	reason := fault.ReasonResourceNotFound
	switch kind {
	case store.KindProfile:
		reason = fault.ReasonProfileNotFound
	case store.KindRunner:
		reason = fault.ReasonRunnerNotFound
	case store.KindZone:
		reason = fault.ReasonZoneNotFound
	case store.KindTests:
	}
	return fault.NotFoundf(reason, "%s %.80q does not exist", kind, ref)
}
