package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/bermhq/berm/internal/core/fault"
)

// fromDriver is the only place that knows what drivers say. Faults and contexts that ended pass unchanged.
func fromDriver(err error) error {
	var f *fault.Error
	if err == nil || errors.As(err, &f) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return fromSQLite(lite)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fromPostgres(pg)
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || pgconn.SafeToRetry(err) {
		return unavailable(err, "the connection to the database was lost")
	}
	return fault.Internalf(err, "database error")
}

func unavailable(err error, text string) *fault.Error {
	return fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "%s; nothing was changed", text).WithCause(err)
}

func fromSQLite(err *sqlite.Error) error {
	switch err.Code() & 0xff { // the low byte is the class
	case sqlite3.SQLITE_FULL:
		return unavailable(err, "the disk with the database is full").WithHint("Free space; the server goes on by itself.")
	case sqlite3.SQLITE_READONLY:
		return unavailable(err, "the database is read-only").WithHint("Make the data directory writable and start the server again.")
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return unavailable(err, "another process holds the database locked")
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		return unavailable(err, "the database file cannot be read or written").WithHint("Is the disk full, or the data directory gone?")
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fault.Internalf(err, "the database file is damaged or not a database").
			WithHint("Keep the file, restore a copy of the data directory, and start the server again.")
	}
	return fault.Internalf(err, "database error")
}

func fromPostgres(err *pgconn.PgError) error {
	switch {
	case err.Code == "53100":
		return unavailable(err, "the disk of the database is full")
	case err.Code == "25006":
		return unavailable(err, "the database is read-only")
	case err.Code == "40001", err.Code == "40P01":
		return unavailable(err, "too many writers at once")
	case err.Code == "XX001", err.Code == "XX002":
		return fault.Internalf(err, "the database is damaged")
	case strings.HasPrefix(err.Code, "08"), strings.HasPrefix(err.Code, "57P"), strings.HasPrefix(err.Code, "53"):
		return unavailable(err, "the database does not serve at the moment")
	}
	return fault.Internalf(err, "database error")
}

// isUnique reports a violated unique constraint.
func isUnique(err error) bool {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505"
}

// isRetry reports that the engine asks for the transaction to be run again.
func isRetry(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}
