package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bermhq/berm/internal/failpoint"
)

const (
	// maxAttempts is how often a transaction is run that PostgreSQL gives up for conflicts or deadlocks.
	maxAttempts = 10
	// postgresPoll is how long a watcher sleeps that nobody wakes, in case a notification was lost.
	postgresPoll = time.Second
	// attemptPause is the mean pause before a second attempt; it doubles with each.
	attemptPause = 2 * time.Millisecond
)

// postgresEngine is a database on a PostgreSQL server that several gateways share.
//
// Transactions run at READ COMMITTED, so that launches which reserve on the same runner wait for each other instead of
// failing. What must not change under a transaction is locked explicitly, by advisory locks that PostgreSQL releases at
// its end: the configuration of an organization (exclusively by everything that reads or writes it inside an Update,
// shared by AssertCurrent), and the usage of a subject. Locks are taken before the statement that reads, which therefore
// sees all that the lock's last holder has committed. Rows that are written protect themselves: every UPDATE names the
// revision it was decided from, or is a conditional increment.
//
// Views run at REPEATABLE READ, on one snapshot.
type postgresEngine struct {
	url     string
	cfg     engineConfig
	db      *sql.DB
	pgx     *pgx.ConnConfig
	closing chan struct{}
	done    chan struct{} // closed when the listener and the notifier have ended
	notify  chan struct{}
	// epoch is added to transaction ids; see changeSeq.
	epoch int64
}

// postgresTx is a transaction as a conn, with the connection that it runs on.
type postgresTx struct {
	conn *sql.Conn
	tx   *sql.Tx
}

// end rolls back what was not committed and gives the connection back. After a commit only the latter is left to do.
func (t postgresTx) end() {
	_ = t.tx.Rollback()
	_ = t.conn.Close()
}

func (t postgresTx) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(ctx, query, args...)
}

func (t postgresTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (e *postgresEngine) view(ctx context.Context, fn func(conn) error) error {
	tx, err := e.begin(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.end() // nothing was written; also when fn panics
	return fn(tx)
}

// begin begins a transaction that the caller's context does not end: its statements are ended by it, its commit is not.
func (e *postgresEngine) begin(ctx context.Context, opts *sql.TxOptions) (postgresTx, error) {
	select {
	case <-e.closing:
		return postgresTx{}, errClosed()
	default:
	}
	for stale := 0; ; stale++ {
		// The pool may be exhausted: this wait ends with the context.
		c, err := e.db.Conn(ctx)
		if err != nil {
			return postgresTx{}, driverFault(err)
		}
		tx, err := c.BeginTx(context.WithoutCancel(ctx), opts)
		if err == nil {
			return postgresTx{conn: c, tx: tx}, nil
		}
		_ = c.Close()
		// After a restart of the server every connection of the pool is dead. Nothing has been done yet: try the next.
		if !isDeadConnection(err) || stale == maxConns {
			return postgresTx{}, driverFault(err)
		}
	}
}

func (e *postgresEngine) update(ctx context.Context, w *work) error {
	for attempt := 1; ; attempt++ {
		again, err := e.attempt(ctx, w)
		if !again || attempt == maxAttempts {
			return err
		}
		if !pause(ctx, rand.N(attemptPause<<attempt)) {
			return contextFault(ctx.Err())
		}
	}
}

// attempt runs w once. again: PostgreSQL gave the transaction up, and it will do when it is run again.
func (e *postgresEngine) attempt(ctx context.Context, w *work) (again bool, err error) {
	tx, err := e.begin(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return false, err
	}
	defer tx.end()
	if err := w.run(ctx, tx); err != nil {
		return mustRetry(err), err
	}
	failpoint.Hit(fpBeforeCommit)
	if err := tx.tx.Commit(); err != nil {
		w.undo()
		return mustRetry(err), driverFault(err)
	}
	failpoint.Hit(fpAfterCommit)
	if w.changed() {
		e.cfg.committed()
		select {
		case e.notify <- struct{}{}:
		default: // one is on its way already
		}
	}
	return false, nil
}

func (e *postgresEngine) lockConfig(ctx context.Context, c conn, orgID string, exclusive bool) error {
	query := `SELECT pg_advisory_xact_lock_shared($1)`
	if exclusive {
		query = `SELECT pg_advisory_xact_lock($1)`
	}
	_, err := c.exec(ctx, query, lockKey("config", orgID))
	return err
}

func (e *postgresEngine) lockUsage(ctx context.Context, c conn, subject string) error {
	_, err := c.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey("usage", subject))
	return err
}

func (e *postgresEngine) lockAudit(ctx context.Context, c conn) error {
	_, err := c.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey("audit"))
	return err
}

func (e *postgresEngine) forUpdate() string { return " FOR UPDATE" }

// changeSeq makes sequence numbers of the transaction's id, so that the log's order is the order in which transactions
// began to write, and the visibility horizon is a number in it: below that of the oldest transaction that still runs,
// nothing is ever added. (A sequence would not do: a transaction can take a smaller number and commit after one with a
// larger, and nobody could tell that it is still to come.)
func (e *postgresEngine) changeSeq() string {
	return fmt.Sprintf("(((pg_current_xact_id()::text::bigint + %d) << %d) + $1)", e.epoch, changeBits)
}

func (e *postgresEngine) firstSeq(int) int64 { return 0 }

func (e *postgresEngine) horizon() string {
	return fmt.Sprintf("((pg_snapshot_xmin(pg_current_snapshot())::text::bigint + %d) << %d)", e.epoch, changeBits)
}

func (e *postgresEngine) pollInterval() time.Duration { return postgresPoll }

// ready asks for nothing that is written: the server knows whether it takes writes.
func (e *postgresEngine) ready(ctx context.Context) (probe bool, err error) {
	tx, err := e.begin(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.end()
	var readOnly string
	if err := tx.tx.QueryRowContext(ctx, `SELECT current_setting('transaction_read_only')`).Scan(&readOnly); err != nil {
		return false, driverFault(err)
	}
	if readOnly != "off" {
		return false, postgresFault("25006", nil)
	}
	return false, nil
}

func (e *postgresEngine) close() error {
	close(e.closing)
	<-e.done
	if err := e.db.Close(); err != nil {
		return driverFault(err)
	}
	return nil
}

// lockKey makes the number of an advisory lock. Two names with one number only wait for each other without need.
func lockKey(parts ...string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("berm"))
	for _, p := range parts {
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(p))
	}
	return int64(h.Sum64())
}

// pause waits and reports whether the context still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
