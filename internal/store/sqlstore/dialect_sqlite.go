package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"time"
)

const (
	// sqlitePoll is how long a watcher sleeps that nobody wakes. Every write of a SQLite store wakes the watchers, all of
	// which are in this process; the poll is for nothing but doubt.
	sqlitePoll = 30 * time.Second
	// checkpointAfter is how many updates are copied from the log into the database at a time, beside the writes.
	checkpointAfter = 250
)

// sqliteEngine is a database file. One connection writes, through group; it needs no locks between transactions, since
// there is only ever one that writes.
type sqliteEngine struct {
	path    string
	cfg     engineConfig
	lock    *os.File
	writer  *sql.DB
	readers *sql.DB
	group   *group
	pool    *sessions
	closing chan struct{}
	// checkpoint wakes the goroutine that copies the log, checkpoints has ended when it has; uncopied counts updates and
	// belongs, as seq does, to whoever has the group's connection.
	checkpoint  chan struct{}
	checkpoints chan struct{}
	uncopied    int
	// seq is the last sequence number of the change log.
	seq int64
}

// committed follows every commit, with the group's connection in hand.
func (e *sqliteEngine) committed(updates int, changed bool) {
	if changed {
		e.cfg.committed()
	}
	if e.uncopied += updates; e.uncopied < checkpointAfter {
		return
	}
	e.uncopied = 0
	select {
	case e.checkpoint <- struct{}{}:
	default: // it has not come to the last one yet
	}
}

// startCheckpoints copies the log into the database beside the writes, on a connection of its own: a commit that did it
// would wait for two more flushes to disk.
func (e *sqliteEngine) startCheckpoints() error {
	db, err := sql.Open("sqlite", sqliteDSN(e.path, readerCacheKiB))
	if err != nil {
		return driverFault(err)
	}
	db.SetMaxOpenConns(1)
	e.checkpoints = make(chan struct{})
	go func() {
		defer close(e.checkpoints)
		defer func() { _ = db.Close() }()
		for {
			select {
			case <-e.closing:
				return
			case <-e.checkpoint:
			}
			ctx := context.Background()
			if _, err := db.ExecContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`); err != nil {
				e.cfg.log.WarnContext(ctx, "the database log was not copied; it grows until it is", "path", e.path, "error", err)
			}
		}
	}()
	return nil
}

func (e *sqliteEngine) view(ctx context.Context, fn func(conn) error) (err error) {
	if err := ctx.Err(); err != nil {
		return contextFault(err)
	}
	s, err := e.pool.get(ctx, e.closing)
	if err != nil {
		return err
	}
	broken := true
	defer func() { e.pool.put(s, broken) }()
	if _, err := s.exec(ctx, "BEGIN"); err != nil {
		return driverFault(err)
	}
	// Also when fn panics: the session is used again.
	defer func() {
		_, end := s.exec(ctx, "COMMIT")
		broken = end != nil
	}()
	return fn(s)
}

func (e *sqliteEngine) update(ctx context.Context, w *work) error { return e.group.update(ctx, w) }

func (e *sqliteEngine) lockConfig(context.Context, conn, string, bool) error { return nil }

func (e *sqliteEngine) lockUsage(context.Context, conn, string) error { return nil }

func (e *sqliteEngine) lockAudit(context.Context, conn) error { return nil }

func (e *sqliteEngine) forUpdate() string { return "" }

func (e *sqliteEngine) changeSeq() string { return "$1" }

// firstSeq counts: changes are committed in the order in which they are numbered. Numbers of a transaction that is rolled
// back are not used again.
func (e *sqliteEngine) firstSeq(n int) int64 {
	first := e.seq + 1
	e.seq += int64(n)
	return first
}

// horizon is above every number: what can be read is final.
func (e *sqliteEngine) horizon() string { return "9223372036854775807" }

func (e *sqliteEngine) pollInterval() time.Duration { return sqlitePoll }

// ready reads, and looks at the disk. Only after a commit has failed does it ask for a write, to find out whether that has
// passed: being asked every second shall not wear out a disk.
func (e *sqliteEngine) ready(ctx context.Context) (probe bool, err error) {
	err = e.view(ctx, func(c conn) error {
		err := eachRow(ctx, c, func(*sql.Rows) error { return nil }, `SELECT 1 FROM settings LIMIT 1`)
		if err != nil {
			return driverFault(err)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if full := diskFault(filepath.Dir(e.path), "the store"); full != nil {
		return false, full // anybody may ask: no path
	}
	return e.group.failing(), nil
}

// close lets the updates finish that have come.
func (e *sqliteEngine) close() error {
	close(e.closing)
	var all []error
	if e.group != nil {
		e.group.close()
		all = append(all, e.group.session.close())
	}
	if e.pool != nil {
		all = append(all, e.pool.close())
	}
	if e.checkpoints != nil {
		<-e.checkpoints
	}
	for _, db := range []*sql.DB{e.readers, e.writer} {
		if db != nil {
			all = append(all, db.Close())
		}
	}
	all = append(all, e.lock.Close())
	if err := errors.Join(all...); err != nil {
		return driverFault(err)
	}
	return nil
}
