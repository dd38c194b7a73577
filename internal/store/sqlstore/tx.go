package sqlstore

import (
	"context"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// tx implements store.Tx for one run of an Update.
type tx struct {
	reader
	store *Store
	// broken is the first error of the driver. After it nothing is run: SQLite may have rolled back the transaction, and
	// what followed would be written on its own.
	broken error
	// locked holds the organizations whose configuration is locked, and whether exclusively.
	locked map[string]bool
	// changes are appended to the log at the end, and audits to the audit; undo gives values back what they had.
	changes []store.Change
	audits  []pendingRow
	undo    []func()
}

var _ store.Tx = (*tx)(nil)

func newTx(c conn, s *Store) *tx {
	t := &tx{reader: reader{conn: c, engine: s.engine}, store: s, locked: map[string]bool{}}
	t.reader.tx = t
	return t
}

// write runs a statement that changes rows and returns how many.
func (t *tx) write(ctx context.Context, point, query string, args ...any) (int64, error) {
	if err := t.before(ctx, args); err != nil {
		return 0, err
	}
	n, err := t.conn.exec(ctx, query, args...)
	if err != nil {
		return 0, t.fail(err)
	}
	failpoint.Hit(point)
	return n, nil
}

// changed notes a change for the log.
func (t *tx) changed(kind, orgID, id string, revision int64, deleted bool) {
	t.changes = append(t.changes, store.Change{Kind: kind, OrgID: orgID, ID: id, Revision: revision, Deleted: deleted, At: t.store.now()})
}

// onUndo notes how a value gets back what it had.
func (t *tx) onUndo(fn func()) { t.undo = append(t.undo, fn) }

func (t *tx) undoAll() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		t.undo[i]()
	}
	t.undo, t.changes, t.audits = nil, nil, nil
}

// finish appends the rows of the audit and the changes to the log, the last writes of the transaction.
func (t *tx) finish(ctx context.Context) error {
	if t.broken != nil {
		return t.broken
	}
	if err := t.appendAudit(ctx); err != nil {
		return err
	}
	if len(t.changes) == 0 {
		return nil
	}
	if len(t.changes) > maxChanges {
		return fault.Invalidf(fault.ReasonLimitExceeded, "%d changes in one transaction, the limit is %d", len(t.changes), maxChanges)
	}
	first := t.engine.firstSeq(len(t.changes))
	for i, c := range t.changes {
		_, err := t.write(ctx, fpAppendChange, `INSERT INTO changes (seq, kind, org_id, id, revision, deleted, at) VALUES (`+
			t.engine.changeSeq()+`, $2, $3, $4, $5, $6, $7)`,
			first+int64(i), c.Kind, c.OrgID, c.ID, c.Revision, flag(c.Deleted), nanos(c.At))
		if err != nil {
			return err
		}
	}
	return nil
}
