package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/bermhq/berm/internal/core/fault"
)

// retryAfter is when it is worth asking again a store that could not answer.
const retryAfter = time.Second

// driverFault makes a fault of what a driver, or the file system under it, said. The driver's text is its cause, for the
// log. A fault stays what it is.
func driverFault(err error) *fault.Error {
	var (
		f     *fault.Error
		lite  *sqlite.Error
		pg    *pgconn.PgError
		begin *pgconn.ConnectError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return contextFault(err)
	case errors.As(err, &lite):
		return sqliteFault(lite.Code(), err)
	case errors.As(err, &pg):
		return postgresFault(pg.Code, err)
	case errors.As(err, &begin):
		return unavailable(err, "PostgreSQL cannot be reached", "check that it runs, and the host, port and password of the store's address")
	case isConnectionLost(err):
		return unavailable(err, "the connection to the database is lost", "check that the database runs")
	case isFileProblem(err):
		return fileFault(err)
	}
	return fault.Internalf(err, "the store failed")
}

func unavailable(err error, message, hint string) *fault.Error {
	return fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "%s", message).WithHint("%s", hint).WithCause(err).WithRetry(retryAfter)
}

func corrupt(err error, message string) *fault.Error {
	return fault.New(fault.Internal, fault.ReasonStoreCorrupt, "%s", message).WithCause(err).
		WithHint("restore the newest backup; keep the damaged files for a look at what can be saved")
}

func contextFault(err error) *fault.Error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "the store did not answer in time").WithCause(err)
	}
	return fault.New(fault.Canceled, "CANCELED", "the call was canceled").WithCause(err)
}

// sqliteFault knows SQLite's result codes: the low byte is the kind of error.
func sqliteFault(code int, err error) *fault.Error {
	switch code & 0xff {
	case sqlite3.SQLITE_FULL:
		return unavailable(err, "the disk of the store is full", "free space on the file system of the data directory")
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return unavailable(err, "the database file cannot be written", "check the owner and mode of the data directory and its files, and that the file system is not mounted read-only")
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH:
		return unavailable(err, "the database file cannot be opened", "check the owner and mode of the data directory and its files")
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return unavailable(err, "the database is locked by another process", "end what else has the database file open, such as a backup or the sqlite3 shell")
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return corrupt(err, "the database file is corrupt")
	case sqlite3.SQLITE_IOERR:
		if errors.Is(err, syscall.ENOSPC) {
			return unavailable(err, "the disk of the store is full", "free space on the file system of the data directory")
		}
		return unavailable(err, "the disk of the store fails", "see that the file system of the data directory has free space, and look for disk errors in the kernel log")
	case sqlite3.SQLITE_NOMEM:
		return unavailable(err, "the store is out of memory", "give the server more memory")
	case sqlite3.SQLITE_INTERRUPT:
		return contextFault(context.Canceled)
	case sqlite3.SQLITE_TOOBIG:
		return fault.Invalidf(fault.ReasonLimitExceeded, "a value is too large for the store").WithCause(err)
	case sqlite3.SQLITE_CONSTRAINT:
		if code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
			return fault.New(fault.Exists, reasonObjectExists, "it exists already").WithCause(err)
		}
	}
	return fault.Internalf(err, "the store failed")
}

// postgresFault knows PostgreSQL's error codes, whose first two characters are the class.
func postgresFault(code string, err error) *fault.Error {
	switch code {
	case "53100":
		return unavailable(err, "the disk of the database server is full", "free space on the database server")
	case "25006":
		return unavailable(err, "the database is read-only", "connect to the primary server, not to a standby")
	case "40001", "40P01":
		return unavailable(err, "the database is too busy with conflicting changes", "ask again")
	case "55P03":
		return unavailable(err, "the database is locked by another process", "look for long transactions in pg_stat_activity")
	case "57014":
		return contextFault(context.Canceled)
	case "23505":
		return fault.New(fault.Exists, reasonObjectExists, "it exists already").WithCause(err)
	case "22021", "22P05":
		return fault.Invalidf(fault.ReasonFieldInvalid, "a text is not valid UTF-8 or contains a NUL byte").WithCause(err)
	case "54000":
		return fault.Invalidf(fault.ReasonLimitExceeded, "a value is too large for the store").WithCause(err)
	case "42501":
		return unavailable(err, "the database user lacks a permission", "grant it all on the database of Berm")
	case "XX001", "XX002":
		return corrupt(err, "the database is corrupt")
	}
	switch {
	case len(code) < 2:
	case code[:2] == "28", code[:2] == "3D":
		return unavailable(err, "PostgreSQL refuses the connection", "check the user, password and database of the store's address")
	case code[:2] == "08", code[:2] == "57", code[:2] == "53", code[:2] == "58":
		return unavailable(err, "the database server cannot answer", "look at its log")
	}
	return fault.Internalf(err, "the store failed")
}

// mustRetry reports whether PostgreSQL gave up a transaction that will do when it is run again.
func mustRetry(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

func isConnectionLost(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "conn busy")
}

// isDeadConnection reports whether a statement failed because its connection was dead already: the server had ended it.
func isDeadConnection(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "57P01" || pg.Code == "57P02"
	}
	return isConnectionLost(err)
}

func isFileProblem(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path)
}

// fileFault is for what is done to the database's directory before SQLite sees it.
func fileFault(err error) *fault.Error {
	var path *fs.PathError
	errors.As(err, &path)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return unavailable(err, "no space for "+path.Path, "free space on its file system")
	case errors.Is(err, syscall.EROFS):
		return unavailable(err, path.Path+" is on a read-only file system", "give a data directory that can be written")
	case errors.Is(err, fs.ErrPermission):
		return unavailable(err, path.Path+" cannot be written", "check the owner and mode of the data directory, or give another one")
	case errors.Is(err, syscall.ENOTDIR):
		return unavailable(err, path.Path+" is below a file, not a directory", "give another path")
	}
	return unavailable(err, path.Path+" cannot be used", "give a data directory that can be written")
}
