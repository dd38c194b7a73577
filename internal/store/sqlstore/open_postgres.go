package sqlstore

import (
	"context"
	"database/sql"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// maxConns is how many connections a gateway opens, apart from the one that listens; idleConns how many it keeps.
	maxConns, idleConns = 32, 8
	// minVersion is the oldest server that will do: 13 has the 64-bit transaction ids that the change log is ordered by.
	minVersion = 130000
	// epochSetting is the setting that epoch is kept in.
	epochSetting = "change_epoch"
)

// sessionSettings end what would block others for ever: a wait for a lock, and a transaction whose gateway has gone to
// sleep in the middle (which would also hold up the change feed of all).
const sessionSettings = `SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'; SET client_encoding = 'UTF8'`

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
	defer func() { _ = db.Close() }()
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
