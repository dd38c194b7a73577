package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func openTest(t *testing.T) (*Store, *sqliteEngine) {
	t.Helper()
	// Sealing of the audit would be a commit that a test did not arrange.
	s, err := Open(t.Context(), Config{DSN: "sqlite://" + filepath.Join(t.TempDir(), "berm.db"), SealPause: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, s.engine.(*sqliteEngine)
}

func testObject(id string, size int) *store.Object {
	at := time.Unix(1, 0)
	return &store.Object{
		Kind: store.KindZone, OrgID: "org", ID: id, Name: id, Body: json.RawMessage(`"` + strings.Repeat("x", size) + `"`), CreatedAt: at, UpdatedAt: at,
	}
}

// member is an update in a batch that a test arranges.
type member struct {
	fn  func(store.Tx) error
	err error
}

// batchOf runs updates in one transaction, in their order: the first holds the connection until the others wait. It
// returns how many transactions were committed.
func batchOf(t *testing.T, s *Store, e *sqliteEngine, members []*member) {
	t.Helper()
	waiting := func() int {
		e.group.mu.Lock()
		defer e.group.mu.Unlock()
		return len(e.group.waiting)
	}
	var all sync.WaitGroup
	holds, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	all.Go(func() {
		_ = s.Update(t.Context(), func(store.Tx) error {
			once.Do(func() { close(holds) })
			<-release
			return nil
		})
	})
	<-holds
	for i, m := range members {
		all.Go(func() { m.err = s.Update(t.Context(), m.fn) })
		for waiting() <= i {
			runtime.Gosched()
		}
	}
	close(release)
	all.Wait()
}

func insert(ctx context.Context, id string, size int) func(store.Tx) error {
	return func(tx store.Tx) error { return tx.Insert(ctx, testObject(id, size)) }
}

func has(t *testing.T, s *Store, id string) bool {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error {
		_, err := r.Object(t.Context(), store.KindZone, "org", id)
		return err
	})
	if err != nil && !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestConcurrentUpdatesShareCommits(t *testing.T) {
	s, e := openTest(t)
	commits := 0
	was := e.group.committed
	e.group.committed = func(n int, changed bool) { commits++; was(n, changed) }
	boom := errors.New("boom")
	members := make([]*member, 20)
	for i := range members {
		fn := insert(t.Context(), fmt.Sprint(i), 10)
		members[i] = &member{fn: func(tx store.Tx) error {
			err := fn(tx)
			if i%5 == 4 {
				return boom
			}
			return err
		}}
	}
	batchOf(t, s, e, members)
	if commits != 1 {
		t.Errorf("%d commits, want 1", commits)
	}
	for i, m := range members {
		if refused := i%5 == 4; errors.Is(m.err, boom) != refused || has(t, s, fmt.Sprint(i)) == refused {
			t.Errorf("update %d: %v", i, m.err)
		}
	}
}

// A statement that finds no space makes SQLite roll back the whole transaction: whoever shared it runs again.
func TestLostTransactionHarmsOnlyItsCause(t *testing.T) {
	s, e := openTest(t)
	var pages int64
	row := e.group.session.conn.QueryRowContext(t.Context(), `PRAGMA page_count`)
	if err := row.Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if err := e.group.exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+40)); err != nil {
		t.Fatal(err)
	}
	members := make([]*member, 7)
	for i := range members {
		size := 100
		if i == 3 {
			size = 1 << 19
		}
		members[i] = &member{fn: insert(t.Context(), fmt.Sprint(i), size)}
	}
	batchOf(t, s, e, members)
	for i, m := range members {
		switch {
		case i == 3 && !fault.HasReason(m.err, fault.ReasonStoreUnavailable):
			t.Errorf("the one that is too large: %v", m.err)
		case i != 3 && m.err != nil:
			t.Errorf("update %d: %v", i, m.err)
		}
		if has(t, s, fmt.Sprint(i)) == (i == 3) {
			t.Errorf("update %d: there is what should not, or the reverse", i)
		}
	}
}

// A commit that fails is lost to all that share it, and each is told only what became of its own second run.
func TestLostCommit(t *testing.T) {
	s, e := openTest(t)
	// A deferred foreign key is violated at the commit, not before.
	for _, q := range []string{
		`CREATE TABLE parent (id INTEGER PRIMARY KEY)`, `CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)`,
		`PRAGMA foreign_keys = ON`,
	} {
		if err := e.group.exec(q); err != nil {
			t.Fatal(err)
		}
	}
	members := make([]*member, 5)
	objects := make([]*store.Object, len(members))
	for i := range members {
		o := testObject(fmt.Sprint(i), 10)
		objects[i] = o
		members[i] = &member{fn: func(tx store.Tx) error {
			if i == 2 {
				if _, err := e.group.session.exec(t.Context(), `INSERT INTO child VALUES (7)`); err != nil {
					return err
				}
			}
			return tx.Insert(t.Context(), o)
		}}
	}
	batchOf(t, s, e, members)
	for i, m := range members {
		if (m.err == nil) == (i == 2) || has(t, s, fmt.Sprint(i)) == (i == 2) {
			t.Errorf("update %d: %v", i, m.err)
		}
		if want := int32(1); objects[i].Revision != want && i != 2 || i == 2 && objects[i].Revision != 0 {
			t.Errorf("object %d has revision %d", i, objects[i].Revision)
		}
	}
	if err := s.Update(t.Context(), insert(t.Context(), "after", 10)); err != nil {
		t.Errorf("the next update: %v", err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	s, e := openTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	holds, release := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { _ = s.Update(t.Context(), func(store.Tx) error { close(holds); <-release; return nil }) })
	<-holds
	ran := false
	for range maxWaiting {
		all.Go(func() { _ = s.Update(ctx, func(store.Tx) error { ran = true; return nil }) })
	}
	for full := false; !full; runtime.Gosched() {
		e.group.mu.Lock()
		full = len(e.group.waiting) == maxWaiting
		e.group.mu.Unlock()
	}
	if err := s.Update(t.Context(), func(store.Tx) error { return nil }); !fault.HasReason(err, fault.ReasonStoreUnavailable) {
		t.Errorf("got %v, want STORE_UNAVAILABLE", err)
	}
	cancel() // all that wait leave the queue
	for empty := false; !empty; runtime.Gosched() {
		e.group.mu.Lock()
		empty = len(e.group.waiting) == 0
		e.group.mu.Unlock()
	}
	close(release)
	all.Wait()
	if ran {
		t.Error("an update ran whose context had ended while it waited")
	}
}

func TestCloseWaitsForUpdates(t *testing.T) {
	s, e := openTest(t)
	path := e.path
	holds, release, closed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	updated := make(chan error, 1)
	go func() {
		updated <- s.Update(t.Context(), func(tx store.Tx) error { close(holds); <-release; return insert(t.Context(), "a", 1)(tx) })
	}()
	<-holds
	go func() { closed <- s.Close() }()
	for refused := false; !refused; runtime.Gosched() {
		e.group.mu.Lock()
		refused = e.group.closed
		e.group.mu.Unlock()
	}
	if err := s.Update(t.Context(), func(store.Tx) error { return nil }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("update while it closes: %v", err)
	}
	close(release)
	if err := errors.Join(<-updated, <-closed); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"update": s.Update(t.Context(), func(store.Tx) error { return nil }),
		"view":   s.View(t.Context(), func(store.Reader) error { return nil }),
		"ready":  s.Ready(t.Context()),
	} {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	for _, err := range s.Changes(t.Context(), 0) {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("changes after Close: %v", err)
		}
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM objects`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d objects, %v; want 1", n, err)
	}
}

// After a commit has failed, Ready writes to find out whether writes work again.
func TestReadyProbesAfterFailure(t *testing.T) {
	s, e := openTest(t)
	if err := e.group.exec(`PRAGMA query_only = ON`); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Fatalf("ready before anything failed: %v", err)
	}
	e.group.lastFailed = true
	if err := s.Ready(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("ready while nothing can be written: %v", err)
	}
	if err := e.group.exec(`PRAGMA query_only = OFF`); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("ready again: %v", err)
	}
	if e.group.failing() {
		t.Error("the failure is not forgotten")
	}
}

// Every commit is flushed to disk before it is acknowledged.
func TestSynchronous(t *testing.T) {
	_, e := openTest(t)
	var mode string
	var synced int
	if err := e.group.session.conn.QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&synced); err != nil || synced != 2 {
		t.Errorf("synchronous = %d, %v; want 2, FULL", synced, err)
	}
	if err := e.group.session.conn.QueryRowContext(t.Context(), `PRAGMA journal_mode`).Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal_mode = %s, %v; want wal", mode, err)
	}
}
