package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// reasonObjectExists is the reason where the kind has none of its own.
const reasonObjectExists = "OBJECT_EXISTS"

// Insert implements store.Tx.
func (t *tx) Insert(ctx context.Context, o *store.Object) error {
	if err := checkObject(o); err != nil {
		return err
	}
	if err := t.lockConfig(ctx, o.OrgID, true); err != nil {
		return err
	}
	// Asked before it is written: a failed INSERT would end the transaction on PostgreSQL. The lock keeps the answer true.
	var taken string
	_, err := t.one(ctx, `SELECT CASE
		WHEN EXISTS (SELECT 1 FROM objects WHERE org_id = $1 AND kind = $2 AND name = $3) THEN 'name'
		WHEN $4 <> '' AND EXISTS (SELECT 1 FROM objects WHERE org_id = $1 AND kind = $2 AND unique_key <> '' AND unique_key = $4) THEN 'unique'
		WHEN EXISTS (SELECT 1 FROM object_revisions WHERE org_id = $1 AND kind = $2 AND id = $5) THEN 'id'
		ELSE '' END`, []any{o.OrgID, string(o.Kind), o.Name, o.Unique, o.ID}, &taken)
	if err != nil {
		return err
	}
	if taken != "" {
		return objectExists(o, taken)
	}
	if _, err := t.write(ctx, fpInsertObject, `INSERT INTO objects (`+objectColumns+`) VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9, $10)`,
		string(o.Kind), o.OrgID, o.ID, o.Name, o.Unique, string(o.Body), nanos(o.CreatedAt), nanos(o.UpdatedAt), o.UpdatedBy, o.Reason); err != nil {
		return err
	}
	was := o.Revision
	t.onUndo(func() { o.Revision = was })
	o.Revision = 1
	return t.appendRevision(ctx, o)
}

// Update implements store.Tx.
func (t *tx) Update(ctx context.Context, o *store.Object) error {
	if err := checkObject(o); err != nil {
		return err
	}
	if err := t.lockConfig(ctx, o.OrgID, true); err != nil {
		return err
	}
	n, err := t.write(ctx, fpUpdateObject, `UPDATE objects SET revision = revision + 1, body = $1, updated_at = $2, updated_by = $3, reason = $4
		WHERE org_id = $5 AND kind = $6 AND id = $7 AND revision = $8 AND name = $9 AND unique_key = $10`,
		string(o.Body), nanos(o.UpdatedAt), o.UpdatedBy, o.Reason, o.OrgID, string(o.Kind), o.ID, o.Revision, o.Name, o.Unique)
	if err != nil {
		return err
	}
	if n == 0 {
		return t.whyNot(ctx, o)
	}
	t.onUndo(func() { o.Revision-- })
	o.Revision++
	return t.appendRevision(ctx, o)
}

// Delete implements store.Tx.
func (t *tx) Delete(ctx context.Context, o *store.Object) error {
	c := newChecks("the deletion")
	c.note("updated_by", o.UpdatedBy)
	c.note("reason", o.Reason)
	c.times("updated_at", o.UpdatedAt)
	if err := c.err(); err != nil {
		return err
	}
	if err := t.lockConfig(ctx, o.OrgID, true); err != nil {
		return err
	}
	// The deleted revision has the stored body, whatever o has. It is written first, since it is made of the row.
	n, err := t.write(ctx, fpInsertRev, `INSERT INTO object_revisions (`+objectColumns+`, deleted)
		SELECT kind, org_id, id, name, unique_key, revision + 1, body, created_at, $1, $2, $3, 1 FROM objects
		WHERE org_id = $4 AND kind = $5 AND id = $6 AND revision = $7`,
		nanos(o.UpdatedAt), o.UpdatedBy, o.Reason, o.OrgID, string(o.Kind), o.ID, o.Revision)
	if err != nil {
		return err
	}
	if n == 0 {
		return t.whyNot(ctx, o)
	}
	if _, err := t.write(ctx, fpDeleteObject, `DELETE FROM objects WHERE org_id = $1 AND kind = $2 AND id = $3`, o.OrgID, string(o.Kind), o.ID); err != nil {
		return err
	}
	if _, err := t.write(ctx, fpOwner, `DELETE FROM owners WHERE org_id = $1 AND kind = $2 AND id = $3`, o.OrgID, string(o.Kind), o.ID); err != nil {
		return err
	}
	was := o.Deleted
	t.onUndo(func() { o.Revision, o.Deleted = o.Revision-1, was })
	o.Revision, o.Deleted = o.Revision+1, true
	if err := t.auditedObject(ctx, o); err != nil {
		return err
	}
	t.changed(string(o.Kind), o.OrgID, o.ID, int64(o.Revision), true)
	return nil
}

// appendRevision copies the current row of an object to its revisions.
func (t *tx) appendRevision(ctx context.Context, o *store.Object) error {
	_, err := t.write(ctx, fpInsertRev, `INSERT INTO object_revisions (`+objectColumns+`, deleted)
		SELECT `+objectColumns+`, 0 FROM objects WHERE org_id = $1 AND kind = $2 AND id = $3`, o.OrgID, string(o.Kind), o.ID)
	if err != nil {
		return err
	}
	if err := t.auditedObject(ctx, o); err != nil {
		return err
	}
	t.changed(string(o.Kind), o.OrgID, o.ID, int64(o.Revision), false)
	return nil
}

// whyNot says why an object was not written: it is missing, it has another revision, or it would change its identity.
func (t *tx) whyNot(ctx context.Context, o *store.Object) error {
	current, err := t.Object(ctx, o.Kind, o.OrgID, o.ID)
	if err != nil {
		return err
	}
	if current.Revision != o.Revision {
		return stale(string(o.Kind), o.ID, int64(o.Revision), int64(current.Revision))
	}
	f := fault.Invalidf(fault.ReasonFieldImmutable, "the identity of %s %.80q cannot be changed", o.Kind, o.ID)
	if current.Name != o.Name {
		f.WithField("name", "is %q and cannot become %.80q", current.Name, o.Name)
	}
	if current.Unique != o.Unique {
		f.WithField("unique", "is %q and cannot become %.80q", current.Unique, o.Unique)
	}
	return f
}

// AssertCurrent implements store.Tx.
func (t *tx) AssertCurrent(ctx context.Context, refs []store.Ref) error {
	for _, ref := range refs {
		if err := t.lockConfig(ctx, ref.OrgID, false); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(refs, maxAsserted) {
		current, err := t.revisions(ctx, some)
		if err != nil {
			return err
		}
		for i, ref := range some {
			if err := assert(ref, current[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxAsserted is how many refs one statement looks at. A launch has three.
const maxAsserted = 8

// revisions returns the current revisions of refs, 0 for what does not exist.
func (t *tx) revisions(ctx context.Context, refs []store.Ref) ([]int64, error) {
	var b strings.Builder
	args := make([]any, 0, 3*len(refs))
	for i, ref := range refs {
		if i > 0 {
			b.WriteString(` UNION ALL `)
		}
		key := `id`
		if ref.Revision == 0 {
			key = `name`
		}
		n := len(args)
		args = append(args, ref.OrgID, string(ref.Kind), ref.ID)
		fmt.Fprintf(&b, `SELECT %d, revision FROM objects WHERE org_id = $%d AND kind = $%d AND %s = $%d`, i, n+1, n+2, key, n+3)
	}
	current := make([]int64, len(refs))
	err := t.each(ctx, func(rows *sql.Rows) error {
		var i, revision int64
		err := rows.Scan(&i, &revision)
		current[i] = revision
		return err
	}, b.String(), args...)
	return current, err
}

func assert(ref store.Ref, current int64) error {
	switch {
	case current == int64(ref.Revision):
		return nil
	case ref.Revision == 0:
		return fault.New(fault.Conflict, fault.ReasonEtagMismatch, "%s %.80q exists meanwhile", ref.Kind, ref.ID)
	case current == 0:
		return fault.New(fault.Conflict, fault.ReasonEtagMismatch, "%s %.80q does not exist any more", ref.Kind, ref.ID)
	}
	return stale(string(ref.Kind), ref.ID, int64(ref.Revision), current)
}

func stale(kind, id string, have, current int64) error {
	return fault.New(fault.Conflict, fault.ReasonEtagMismatch, "%s %.80q was changed meanwhile: it is at revision %d, not %d", kind, id, current, have).
		WithHint("read it again and repeat the change")
}

func objectExists(o *store.Object, taken string) error {
	reason := reasonObjectExists
	switch o.Kind {
	case store.KindProfile:
		reason = fault.ReasonProfileExists
	case store.KindRunner:
		reason = fault.ReasonRunnerExists
	case store.KindZone, store.KindTests:
	}
	value := map[string]string{"name": o.Name, "unique": o.Unique, "id": o.ID}[taken]
	return fault.New(fault.Exists, reason, "a %s with this %s exists", o.Kind, taken).WithField(taken, "%.80q is taken", value)
}

func checkObject(o *store.Object) error {
	c := newChecks("the object")
	c.required("kind", string(o.Kind))
	c.required("org_id", o.OrgID)
	c.required("id", o.ID)
	c.required("name", o.Name)
	c.text("unique", o.Unique)
	c.note("updated_by", o.UpdatedBy)
	c.note("reason", o.Reason)
	c.times("created_at", o.CreatedAt)
	c.times("updated_at", o.UpdatedAt)
	c.most("body", len(o.Body), store.MaxBody)
	if !json.Valid(o.Body) {
		c.fault.WithField("body", "is not JSON")
	}
	return c.err()
}
