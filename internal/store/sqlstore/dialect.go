package sqlstore

import (
	"context"
	"database/sql"
	"log/slog"
	"time"
)

// conn runs statements inside one transaction. Errors are what the driver says; the callers in this package make faults of
// them (errors.go).
type conn interface {
	query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	// exec returns the number of rows written.
	exec(ctx context.Context, query string, args ...any) (int64, error)
}

// engine is what SQLite and PostgreSQL do differently. Everything else is one text.
type engine interface {
	// view runs fn on one consistent state.
	view(ctx context.Context, fn func(conn) error) error
	// update runs and commits w, again if the engine says so.
	update(ctx context.Context, w *work) error

	// lockConfig makes the configuration of an organization stable until the transaction ends: shared against writers,
	// exclusively against everybody.
	lockConfig(ctx context.Context, c conn, orgID string, exclusive bool) error
	// lockUsage makes the transactions that count the usage of a subject run one after the other.
	lockUsage(ctx context.Context, c conn, subject string) error
	// lockAudit makes the transactions that extend chains of the audit run one after the other.
	lockAudit(ctx context.Context, c conn) error
	// forUpdate is appended to a SELECT whose row the transaction is about to write.
	forUpdate() string

	// changeSeq is an SQL expression for the sequence number of a change, made of $1: firstSeq for the first of the n changes
	// of a transaction, one more for each after it.
	changeSeq() string
	firstSeq(n int) int64
	// horizon is an SQL expression: changes with a smaller sequence number are final, and none will ever be added there.
	horizon() string
	// pollInterval is how long a watcher sleeps that nobody wakes.
	pollInterval() time.Duration

	// ready reports whether reads work, and whether it takes a write to know whether writes do.
	ready(ctx context.Context) (probe bool, err error)
	close() error
}

// engineConfig is what an engine gets from the store.
type engineConfig struct {
	now func() time.Time
	log *slog.Logger
	// committed is called after each commit that added changes, wake when another process may have.
	committed, wake func()
}

// maxChanges is how many changes one transaction makes at most. Sequence numbers of PostgreSQL have room for so many.
const maxChanges = 1 << changeBits

// changeBits is how many low bits of a sequence number count the changes of one transaction on PostgreSQL.
const changeBits = 20
