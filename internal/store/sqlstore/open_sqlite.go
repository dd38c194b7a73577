package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// busyTimeout is how long a statement waits for another process, such as a backup, that holds the file.
	busyTimeout = 5 * time.Second
	// applicationID marks a database file as Berm's: "Berm" in ASCII.
	applicationID = 0x4265726d
	// Memory for pages, in KiB: of the connection that writes, and of each that reads.
	writerCacheKiB, readerCacheKiB = 8 << 10, 2 << 10
	// maxLogPages is the length of the log, in pages of 4 KiB, from which the connection that writes copies what is left
	// itself, so that the log can begin anew; maxLogBytes is what the log keeps of its length then.
	maxLogPages, maxLogBytes = 4000, 64 << 20
	// minReaders is how many connections read at once at least.
	minReaders = 4
)

// sqliteDSN is the driver's form of a path. busy_timeout comes first, so that the other pragmas wait too. A commit is
// flushed to disk before it is acknowledged: synchronous=FULL.
func sqliteDSN(path string, cacheKiB int, more ...string) string {
	q := url.Values{}
	q.Set("_busy_timeout", strconv.FormatInt(busyTimeout.Milliseconds(), 10))
	q.Set("_error_rc", "1")
	q.Set("_dqs", "0")
	for _, p := range append([]string{
		"journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(" + strconv.Itoa(maxLogPages) + ")",
		"journal_size_limit(" + strconv.Itoa(maxLogBytes) + ")", "temp_store(MEMORY)", "trusted_schema(OFF)", "cache_size(-" + strconv.Itoa(cacheKiB) + ")",
	}, more...) {
		q.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

func openSQLite(ctx context.Context, path string, cfg engineConfig) (engine, error) {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, fileFault(err)
	}
	lock, err := lockFile(path + lockSuffix)
	if err != nil {
		return nil, err
	}
	e := &sqliteEngine{path: path, cfg: cfg, lock: lock, closing: make(chan struct{}), checkpoint: make(chan struct{}, 1)}
	if err := e.open(ctx); err != nil {
		_ = e.close()
		return nil, diskCause(path, err)
	}
	return e, nil
}

// diskCause says more about a database that cannot be opened when its disk is the cause: SQLite knows but that something failed.
func diskCause(path string, err error) error {
	dir := filepath.Dir(path)
	if disk := diskFault(dir, dir); disk != nil && fault.HasReason(err, fault.ReasonStoreUnavailable) {
		return disk.WithCause(err)
	}
	return err
}

func (e *sqliteEngine) open(ctx context.Context) (err error) {
	if err := prepareFile(e.path); err != nil {
		return err
	}
	if err := e.inspect(ctx); err != nil {
		return err
	}
	if e.writer, err = sql.Open("sqlite", sqliteDSN(e.path, writerCacheKiB)); err != nil {
		return driverFault(err)
	}
	e.writer.SetMaxOpenConns(1)
	if err := e.claim(ctx); err != nil {
		return err
	}
	if err := migrate(ctx, e.writer, "sqlite", goose.DialectSQLite3); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(e.path)); err != nil {
		return err
	}
	s, err := newSession(ctx, e.writer)
	if err != nil {
		return driverFault(err)
	}
	e.group = newGroup(s, e.committed)
	if err := s.conn.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM changes`).Scan(&e.seq); err != nil {
		return driverFault(err)
	}
	n := max(minReaders, 2*runtime.GOMAXPROCS(0))
	if e.readers, err = sql.Open("sqlite", sqliteDSN(e.path, readerCacheKiB, "query_only(ON)")); err != nil {
		return driverFault(err)
	}
	e.readers.SetMaxOpenConns(n)
	e.pool = newSessions(e.readers, n)
	return e.startCheckpoints()
}

// inspect checks, before any setting is made, that the file is Berm's or empty.
func (e *sqliteEngine) inspect(ctx context.Context) error {
	db, err := openPlain(e.path, url.Values{"mode": {"rw"}})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := ours(ctx, db, e.path); err != nil {
		return err
	}
	_, err = schemaVersion(ctx, db, "sqlite", sqliteTables)
	return err
}

// ours refuses a database that another program made.
func ours(ctx context.Context, db *sql.DB, path string) error {
	var id, tables int64
	if err := db.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id); err != nil {
		return driverFault(err)
	}
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&tables); err != nil {
		return driverFault(err)
	}
	if id != applicationID && (id != 0 || tables > 0) {
		return foreign(path + " was made by another program")
	}
	return nil
}

// openPlain opens a file without any settings but those of SQLite's URIs in q.
func openPlain(path string, q url.Values) (*sql.DB, error) {
	q.Set("_error_rc", "1")
	q.Set("_busy_timeout", strconv.FormatInt(busyTimeout.Milliseconds(), 10))
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, driverFault(err)
	}
	return db, nil
}

// claim marks the file as Berm's, and checks that a commit will be durable.
func (e *sqliteEngine) claim(ctx context.Context) error {
	var (
		mode   string
		synced int64
	)
	if err := e.writer.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode); err != nil {
		return driverFault(err)
	}
	if err := e.writer.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&synced); err != nil {
		return driverFault(err)
	}
	if mode != "wal" || synced != 2 {
		return fault.Preconditionf(fault.ReasonStoreUnavailable, "the file system of %s does not support SQLite's write-ahead log (journal mode %s)", e.path, mode).
			WithHint("give a data directory on a local disk")
	}
	var id int64
	if err := e.writer.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id); err != nil {
		return driverFault(err)
	}
	if id == applicationID {
		return nil // a full disk can be opened, and read
	}
	if _, err := e.writer.ExecContext(ctx, `PRAGMA application_id = `+strconv.Itoa(applicationID)); err != nil {
		return driverFault(err)
	}
	return nil
}

// walSuffix is that of SQLite's log, which is there while a database is open, or was not closed.
const walSuffix = "-wal"

const sqliteTables = `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN (%s)`

// sqliteVersion reads the schema version of a file without changing it, and whether there is anything to read.
func sqliteVersion(ctx context.Context, path string) (version int64, exists bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fileFault(err)
	}
	exists, err = checkFile(f, path)
	_ = f.Close()
	if err != nil || !exists {
		return 0, false, err
	}
	q := url.Values{"mode": {"ro"}}
	if _, err := os.Stat(path + walSuffix); errors.Is(err, fs.ErrNotExist) {
		q.Set("immutable", "1") // Nobody has it open, and SQLite makes no log for a reader.
	}
	db, err := openPlain(path, q)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = db.Close() }()
	if err := ours(ctx, db, path); err != nil {
		return 0, false, err
	}
	version, err = schemaVersion(ctx, db, "sqlite", sqliteTables)
	return version, true, err
}
