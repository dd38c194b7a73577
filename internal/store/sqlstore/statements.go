package sqlstore

import (
	"context"
	"database/sql"
	"sync"
)

// maxStatements bounds the cache. Texts are constants of this package, and lists with a handful of filters: far fewer.
const maxStatements = 512

// statements prepares each text once per pool: parsing costs more than most of the statements.
type statements struct {
	mu    sync.RWMutex
	cache map[statementKey]*sql.Stmt
}

type statementKey struct {
	db   *sql.DB
	text string
}

func newStatements() *statements { return &statements{cache: map[statementKey]*sql.Stmt{}} }

// get returns the prepared statement. It outlives ctx: the pool closes it.
func (s *statements) get(ctx context.Context, db *sql.DB, text string) (*sql.Stmt, error) {
	key := statementKey{db, text}
	s.mu.RLock()
	st := s.cache[key]
	s.mu.RUnlock()
	if st != nil {
		return st, nil
	}
	st, err := db.PrepareContext(context.WithoutCancel(ctx), text)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.cache[key]; old != nil {
		st.Close()
		return old, nil
	}
	if len(s.cache) < maxStatements {
		s.cache[key] = st
	}
	return st, nil
}
