package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

const (
	// maxConns is how many connections a gateway opens, apart from the one that listens; idleConns how many it keeps.
	maxConns, idleConns = 32, 8
	// maxAttempts is how often a transaction is run that PostgreSQL gives up for conflicts or deadlocks.
	maxAttempts = 10
	// minVersion is the oldest server that will do: 13 has the 64-bit transaction ids that the change log is ordered by.
	minVersion = 130000
	// postgresPoll is how long a watcher sleeps that nobody wakes, in case a notification was lost.
	postgresPoll = time.Second
	// attemptPause is the mean pause before a second attempt; it doubles with each.
	attemptPause = 2 * time.Millisecond
	// epochSetting is the setting that epoch is kept in.
	epochSetting = "change_epoch"
)

// sessionSettings end what would block others for ever: a wait for a lock, and a transaction whose gateway has gone to
// sleep in the middle (which would also hold up the change feed of all).
const sessionSettings = `SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'; SET client_encoding = 'UTF8'`

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
	// epoch is added to transaction ids; see nextSeq.
	epoch int64
}

func openPostgres(ctx context.Context, url string, cfg engineConfig) (engine, error) {
	pc, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, badDSN("is not a PostgreSQL URL").WithCause(err) // the error hides the password
	}
	e := &postgresEngine{
		url: url, cfg: cfg, pgx: pc, closing: make(chan struct{}), done: make(chan struct{}), notify: make(chan struct{}, 1),
		db: openPool(pc),
	}
	if err := e.prepare(ctx); err != nil {
		_ = e.db.Close()
		return nil, err
	}
	go e.background()
	return e, nil
}

func openPool(pc *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*pc, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.PgConn().Exec(ctx, sessionSettings).ReadAll()
		return err
	}))
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(idleConns)
	return db
}

// postgresTables counts tables in the schema that new tables go into.
const postgresTables = `SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename IN (%s)`

// postgresVersion reads the schema version of a database without changing it.
func postgresVersion(ctx context.Context, url string) (int64, error) {
	pc, err := pgx.ParseConfig(url)
	if err != nil {
		return 0, badDSN("is not a PostgreSQL URL").WithCause(err)
	}
	db := openPool(pc)
	defer db.Close()
	return schemaVersion(ctx, db, "postgres", postgresTables)
}

func (e *postgresEngine) prepare(ctx context.Context) error {
	var version, encoding string
	if err := e.db.QueryRowContext(ctx, `SELECT current_setting('server_version_num'), current_setting('server_encoding')`).Scan(&version, &encoding); err != nil {
		return driverFault(err)
	}
	if n, err := strconv.Atoi(version); err != nil || n < minVersion {
		return fault.Preconditionf(fault.ReasonStoreUnavailable, "the PostgreSQL server has version %s, Berm needs %d or newer", version, minVersion/10000)
	}
	if encoding != "UTF8" {
		return fault.Preconditionf(fault.ReasonStoreUnavailable, "the database has the encoding %s", encoding).WithHint("create it with ENCODING 'UTF8'")
	}
	if _, err := schemaVersion(ctx, e.db, "postgres", postgresTables); err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return fault.Internalf(err, "prepare the migrations")
	}
	if err := migrate(ctx, e.db, "postgres", goose.DialectPostgres, goose.WithSessionLocker(locker)); err != nil {
		return err
	}
	return e.setEpoch(ctx)
}

// setEpoch makes sure that new sequence numbers are above all that the log has. They are made of transaction ids, which
// begin anew when a database is restored into a fresh server; the epoch, kept in the database, is what they are ahead by.
func (e *postgresEngine) setEpoch(ctx context.Context) error {
	tx, err := e.db.BeginTx(ctx, nil)
	if err != nil {
		return driverFault(err)
	}
	defer func() { _ = tx.Rollback() }()
	var xid, last int64
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey("epoch")); err != nil {
		return driverFault(err)
	}
	if err := tx.QueryRowContext(ctx, `SELECT pg_current_xact_id()::text::bigint, (SELECT coalesce(max(seq), 0) FROM changes),
		coalesce((SELECT value FROM settings WHERE name = $1), 0)`, epochSetting).Scan(&xid, &last, &e.epoch); err != nil {
		return driverFault(err)
	}
	if ahead := last>>changeBits + 1; xid+e.epoch < ahead {
		e.epoch = ahead - xid
		if _, err := tx.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2`,
			epochSetting, e.epoch); err != nil {
			return driverFault(err)
		}
	}
	if err := tx.Commit(); err != nil {
		return driverFault(err)
	}
	return nil
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

func (e *postgresEngine) forUpdate() string { return " FOR UPDATE" }

// nextSeq makes sequence numbers of the transaction's id, so that the log's order is the order in which transactions
// began to write, and the visibility horizon is a number in it: below that of the oldest transaction that still runs,
// nothing is ever added. (A sequence would not do: a transaction can take a smaller number and commit after one with a
// larger, and nobody could tell that it is still to come.)
func (e *postgresEngine) nextSeq(ctx context.Context, c conn, _ int) (int64, error) {
	rows, err := c.query(ctx, `SELECT pg_current_xact_id()::text::bigint`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var xid int64
	for rows.Next() {
		if err := rows.Scan(&xid); err != nil {
			return 0, err
		}
	}
	return (xid + e.epoch) << changeBits, rows.Err()
}

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
