package sqlstore

import (
	"context"
	"database/sql"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// Rows of the audit are written twice. The transaction that does something inserts them into audit_pending, where nothing is in anybody's
// way; sealing (auditseal.go) moves them to the end of their chain soon after, many at a time. A chain that was written at once would make
// every transaction of an organization wait for the flush of the one before.

// pendingRow is a row of this transaction.
type pendingRow struct {
	chain string
	row   *audit.Row
}

// Audit implements store.Tx.
func (t *tx) Audit(ctx context.Context, chain string, r audit.Row) error {
	c := newChecks("the audit row")
	c.text("chain", chain)
	c.required("outcome", r.Outcome)
	if err := c.err(); err != nil {
		return err
	}
	if err := t.before(ctx, []any{chain}); err != nil {
		return err
	}
	t.audits = append(t.audits, pendingRow{chain, &r})
	return nil
}

// audited notes a row for something that this transaction does. by is who the object says wrote it: what there is where no call is known.
func (t *tx) audited(ctx context.Context, chain, by string, r audit.Row) {
	r.At, r.Actor, r.Outcome = t.store.now(), by, audit.Done
	audit.Of(ctx).Fill(chain, &r)
	t.audits = append(t.audits, pendingRow{chain, &r})
}

// auditedObject notes the row of a revision. Where there was one before, its digest is that of the body stored.
func (t *tx) auditedObject(ctx context.Context, o *store.Object) error {
	r := audit.Row{Kind: string(o.Kind), ID: o.ID, Name: o.Name, Revision: int64(o.Revision), Reason: o.Reason}
	if !o.Deleted {
		r.After = audit.Digest(o.Body)
	}
	if o.Revision > 1 {
		var body string
		if _, err := t.one(ctx, `SELECT body FROM object_revisions WHERE org_id = $1 AND kind = $2 AND id = $3 AND revision = $4`,
			[]any{o.OrgID, string(o.Kind), o.ID, o.Revision - 1}, &body); err != nil {
			return err
		}
		r.Before = audit.Digest([]byte(body))
	}
	t.audited(ctx, o.OrgID, o.UpdatedBy, r)
	return nil
}

// appendAudit writes the rows of this transaction. They have no place in their chain yet.
func (t *tx) appendAudit(ctx context.Context) error {
	for _, p := range t.audits {
		p.row.Clip()
		text, err := p.row.Encode()
		if err != nil {
			return fault.Internalf(err, "write an audit row as JSON")
		}
		if _, err := t.write(ctx, fpAudit, `INSERT INTO audit_pending (chain, record) VALUES ($1, $2)`, p.chain, text); err != nil {
			return err
		}
	}
	return nil
}

// AuditChain implements store.Reader.
func (r *reader) AuditChain(ctx context.Context, chain string) (audit.Chain, error) {
	c := audit.Chain{Name: chain}
	_, err := r.one(ctx, `SELECT head_seq, head_hash, anchor_seq, anchor_hash FROM audit_chains WHERE chain = $1`, []any{chain},
		&c.Head.Seq, &c.Head.Hash, &c.Anchor.Seq, &c.Anchor.Hash)
	return c, err
}

// AuditChains implements store.Reader.
func (r *reader) AuditChains(ctx context.Context) ([]audit.Chain, error) {
	var all []audit.Chain
	err := r.each(ctx, func(rows *sql.Rows) error {
		var c audit.Chain
		err := rows.Scan(&c.Name, &c.Head.Seq, &c.Head.Hash, &c.Anchor.Seq, &c.Anchor.Hash)
		all = append(all, c)
		return err
	}, `SELECT chain, head_seq, head_hash, anchor_seq, anchor_hash FROM audit_chains ORDER BY chain`)
	return all, err
}

const sealedColumns = `seq, record, hash, at, actor, method, object_id, outcome`

func (r *reader) sealedRows(ctx context.Context, where string, args ...any) ([]audit.Sealed, error) {
	var all []audit.Sealed
	err := r.each(ctx, func(rows *sql.Rows) error {
		s := audit.Sealed{Index: &audit.Index{}}
		err := rows.Scan(&s.Seq, &s.Record, &s.Hash, &s.Index.At, &s.Index.Actor, &s.Index.Method, &s.Index.ObjectID, &s.Index.Outcome)
		all = append(all, s)
		return err
	}, `SELECT `+sealedColumns+` FROM audit_rows WHERE chain = $1 `+where, args...)
	return all, err
}

// AuditAfter implements store.Reader.
func (r *reader) AuditAfter(ctx context.Context, chain string, seq int64, n int) ([]audit.Sealed, error) {
	if err := checkPage(store.Page{Size: n}); err != nil {
		return nil, err
	}
	return r.sealedRows(ctx, `AND seq > $2 ORDER BY seq LIMIT $3`, chain, seq, n)
}

// maxAuditScan is how many rows one page of a filtered list looks at.
const maxAuditScan = 20_000

// AuditRows implements store.Reader.
func (r *reader) AuditRows(ctx context.Context, chain string, f store.AuditFilter, p store.Page) ([]audit.Sealed, string, error) {
	if err := checkPage(p); err != nil {
		return nil, "", err
	}
	c := checks{fault: fault.Invalidf(fault.ReasonFieldInvalid, "invalid filter of the audit")}
	c.times("since", f.Since)
	c.times("until", f.Until)
	if err := c.err(); err != nil {
		return nil, "", err
	}
	before := int64(1) << 62
	if p.After != "" {
		n, err := strconv.ParseInt(p.After, 10, 64)
		if err != nil || n < 1 || strconv.FormatInt(n, 10) != p.After {
			return nil, "", badPageKey()
		}
		before = n
	}
	// The window is what one page looks at: where filters let little through, a page is short and has a position to go on from.
	var floor int64
	if _, err := r.one(ctx, `SELECT coalesce(min(seq), 0) FROM (SELECT seq FROM audit_rows WHERE chain = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3) AS w`,
		[]any{chain, before, maxAuditScan}, &floor); err != nil {
		return nil, "", err
	}
	where, args := auditWhere(f, []any{chain, before, floor})
	args = append(args, p.Size+1)
	rows, err := r.sealedRows(ctx, `AND seq < $2 AND seq >= $3 `+where+` ORDER BY seq DESC LIMIT $`+strconv.Itoa(len(args)), args...)
	if err != nil {
		return nil, "", err
	}
	if len(rows) > p.Size {
		rows = rows[:p.Size]
		return rows, strconv.FormatInt(rows[p.Size-1].Seq, 10), nil
	}
	next, err := r.auditRest(ctx, chain, floor, f)
	return rows, next, err
}

// auditRest returns where a list goes on behind a window, "" where nothing is left that could be asked for.
func (r *reader) auditRest(ctx context.Context, chain string, floor int64, f store.AuditFilter) (string, error) {
	var left int64
	query, args := `SELECT coalesce(max(seq), 0) FROM audit_rows WHERE chain = $1 AND seq < $2`, []any{chain, floor}
	if !f.Since.IsZero() {
		query, args = query+` AND at >= $3`, append(args, nanos(f.Since))
	}
	if _, err := r.one(ctx, query, args, &left); err != nil || left == 0 {
		return "", err
	}
	return strconv.FormatInt(left+1, 10), nil
}

// auditWhere is the condition of a filter; its arguments follow those given.
func auditWhere(f store.AuditFilter, args []any) (string, []any) {
	var b strings.Builder
	add := func(condition string, value any) {
		args = append(args, value)
		b.WriteString(` AND ` + condition + ` $` + strconv.Itoa(len(args)))
	}
	if !f.Since.IsZero() {
		add(`at >=`, nanos(f.Since))
	}
	if !f.Until.IsZero() {
		add(`at <`, nanos(f.Until))
	}
	for column, value := range map[string]string{`actor`: f.Actor, `method`: f.Method, `object_id`: f.ObjectID, `outcome`: f.Outcome} {
		if value != "" {
			add(column+` =`, value)
		}
	}
	return b.String(), args
}
