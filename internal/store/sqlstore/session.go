package sqlstore

import (
	"context"
	"database/sql"
	"errors"
)

// maxStatements is how many statements a session keeps prepared. Lists have a text for every combination of filters; what
// does not fit is prepared anew each time.
const maxStatements = 200

// session is one connection to SQLite with its prepared statements. It is not for concurrent use.
type session struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

func newSession(ctx context.Context, db *sql.DB) (*session, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &session{conn: c, statements: map[string]*sql.Stmt{}}, nil
}

// statement returns the prepared form of a query, nil when there is no room for it. It is closed with the session.
func (s *session) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := s.statements[query]; ok {
		return st, nil
	}
	if len(s.statements) >= maxStatements {
		return nil, nil
	}
	st, err := s.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.statements[query] = st
	return st, nil
}

// query implements conn. The caller's context only matters before a statement, not while it runs: interrupting a write
// would roll back what others wrote in the same transaction, and no statement here runs for long. (The driver also starts
// a goroutine for every statement whose context can end.)
func (s *session) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx = context.WithoutCancel(ctx)
	st, err := s.statement(ctx, query) //nolint:sqlclosecheck // kept for the next time, closed with the session
	if err != nil {
		return nil, err
	}
	if st == nil {
		return s.conn.QueryContext(ctx, query, args...)
	}
	return st.QueryContext(ctx, args...)
}

func (s *session) exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx = context.WithoutCancel(ctx)
	st, err := s.statement(ctx, query) //nolint:sqlclosecheck // kept for the next time, closed with the session
	if err != nil {
		return 0, err
	}
	var res sql.Result
	if st == nil {
		res, err = s.conn.ExecContext(ctx, query, args...)
	} else {
		res, err = st.ExecContext(ctx, args...)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (s *session) close() error {
	var all []error
	for _, st := range s.statements {
		all = append(all, st.Close())
	}
	return errors.Join(append(all, s.conn.Close())...)
}

// sessions are the connections that read. They are made when they are needed and kept.
type sessions struct {
	db *sql.DB
	// free holds one place for each session there may be: a session that is not in use, or nil for one not made yet.
	free chan *session
}

func newSessions(db *sql.DB, n int) *sessions {
	p := &sessions{db: db, free: make(chan *session, n)}
	for range n {
		p.free <- nil
	}
	return p
}

func (p *sessions) get(ctx context.Context, closing <-chan struct{}) (*session, error) {
	select {
	case <-closing:
		return nil, errClosed()
	default:
	}
	select {
	case s := <-p.free:
		if s != nil {
			return s, nil
		}
		s, err := newSession(context.WithoutCancel(ctx), p.db)
		if err != nil {
			p.free <- nil
			return nil, driverFault(err)
		}
		return s, nil
	case <-ctx.Done():
		return nil, contextFault(ctx.Err())
	case <-closing:
		return nil, errClosed()
	}
}

// put gives a session back. A broken one is thrown away.
func (p *sessions) put(s *session, broken bool) {
	if broken {
		_ = s.close()
		s = nil
	}
	p.free <- s
}

// close waits for the sessions in use.
func (p *sessions) close() error {
	var all []error
	for range cap(p.free) {
		if s := <-p.free; s != nil {
			all = append(all, s.close())
		}
	}
	return errors.Join(all...)
}
