package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// reader implements store.Reader inside one transaction.
type reader struct {
	conn   conn
	engine engine
	// tx is set inside an Update. Reads of configuration then take the lock that keeps it from changing.
	tx *tx
	// over is set when the function that the reader was made for has returned.
	over bool
}

var _ store.Reader = (*reader)(nil)

// each runs a query and calls scan for every row.
func (r *reader) each(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	if err := r.before(ctx, args); err != nil {
		return err
	}
	if err := eachRow(ctx, r.conn, scan, query, args...); err != nil {
		return r.fail(err)
	}
	return nil
}

// eachRow runs a query and calls scan for every row, until it returns an error.
func eachRow(ctx context.Context, c conn, scan func(*sql.Rows) error, query string, args ...any) (err error) {
	rows, err := c.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// one runs a query for at most one row and reports whether there was one.
func (r *reader) one(ctx context.Context, query string, args []any, dest ...any) (bool, error) {
	found := false
	err := r.each(ctx, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(dest...)
	}, query, args...)
	return found, err
}

// before refuses what must not reach a driver.
func (r *reader) before(ctx context.Context, args []any) error {
	switch {
	case r.over:
		return fault.Internalf(nil, "a transaction is used after its end")
	case r.tx != nil && r.tx.broken != nil:
		return r.tx.broken
	}
	if err := ctx.Err(); err != nil {
		return contextFault(err)
	}
	return checkArgs(args)
}

// fail makes a fault of what the driver said. Inside an Update nothing more is run: the engine may have undone what was
// written before.
func (r *reader) fail(err error) error {
	f := driverFault(err)
	if r.tx != nil && r.tx.broken == nil {
		r.tx.broken = f
	}
	return f
}

// lockConfig keeps the configuration of an organization from changing, inside an Update.
func (r *reader) lockConfig(ctx context.Context, orgID string, exclusive bool) error {
	if r.tx == nil {
		return nil
	}
	held, ok := r.tx.locked[orgID]
	if ok && (held || !exclusive) {
		return nil
	}
	if err := r.before(ctx, nil); err != nil {
		return err
	}
	if err := r.engine.lockConfig(ctx, r.conn, orgID, exclusive); err != nil {
		return r.fail(err)
	}
	r.tx.locked[orgID] = exclusive
	return nil
}

// checkPage refuses what no caller in this repository asks for.
func checkPage(p store.Page) error {
	if p.Size < 1 || p.Size > store.MaxPage {
		return fault.Invalidf(fault.ReasonFieldInvalid, "invalid page").WithField("page_size", "%d is not between 1 and %d", p.Size, store.MaxPage)
	}
	return nil
}

func badPageKey() error {
	return fault.Invalidf(fault.ReasonPageTokenInvalid, "the page key is not one of this list").
		WithField("page_token", "must be what the page before returned").WithHint("start again without it")
}

// nanos is the stored form of a time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
