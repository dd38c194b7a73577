package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

func raw(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func mustExec(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func openPostgres(t *testing.T) (store.Store, string) {
	t.Helper()
	dsn := postgres.Database(t)
	s := open(t, dsn)
	t.Cleanup(func() { _ = s.Close() })
	return s, dsn
}

// follow collects the ids of changes until all are there.
func follow(t *testing.T, s store.Store, after int64, want ...string) <-chan []string {
	t.Helper()
	out := make(chan []string, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() {
		defer cancel()
		var got []string
		for c, err := range s.Changes(ctx, after) {
			if err != nil {
				t.Errorf("changes: %v", err)
				break
			}
			if got = append(got, c.ID); len(got) == len(want) {
				break
			}
		}
		out <- got
	}()
	return out
}

// Two transactions commit in the reverse of the order in which they began to write. A reader who looks between the commits
// must not step over the one that is still to come.
func TestReverseCommitOrder(t *testing.T) {
	s, dsn := openPostgres(t)
	other := open(t, dsn) // another gateway reads
	defer other.Close()
	ctx := t.Context()
	sandbox := func(id string) func(tx store.Tx) error {
		return func(tx store.Tx) error { x := crashSandbox(id); x.OrgID = "org-" + id; return tx.InsertSandbox(ctx, x) }
	}
	if err := s.Update(ctx, sandbox("0")); err != nil {
		t.Fatal(err)
	}
	feeds := []<-chan []string{follow(t, s, 0, "0", "slow", "quick"), follow(t, other, 0, "0", "slow", "quick")}

	wrote, finish, slow := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		slow <- s.Update(ctx, func(tx store.Tx) error {
			err := sandbox("slow")(tx)
			close(wrote)
			<-finish
			return err
		})
	}()
	<-wrote
	if err := s.Update(ctx, sandbox("quick")); err != nil {
		t.Fatal(err)
	}
	// A view between the commits: what it reads and what follows its LastChange is everything.
	var last int64
	if err := other.View(ctx, func(r store.Reader) (err error) {
		if _, err := r.Sandbox(ctx, "org-quick", "sandbox-quick"); err != nil {
			return err
		}
		last, err = r.LastChange(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	late := follow(t, other, last, "slow", "quick")
	close(finish)
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	want := "[sandbox-0 sandbox-slow sandbox-quick]"
	for i, f := range feeds {
		if got := fmt.Sprint(<-f); got != want {
			t.Errorf("reader %d saw %s, want %s", i, got, want)
		}
	}
	if got := fmt.Sprint(<-late); got != "[sandbox-slow sandbox-quick]" {
		t.Errorf("from the view between: %s", got)
	}
}

// The connection that hears of changes is cut: watchers still see everything, and a new one is made.
func TestListenerCut(t *testing.T) {
	s, dsn := openPostgres(t)
	db := raw(t, dsn)
	listeners := func() (n int) {
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN berm_changes'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	await := func(n int) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(time.Minute); listeners() != n; <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("%d listeners, want %d", listeners(), n)
			}
		}
	}
	await(1)
	feed := follow(t, s, 0, "a", "b")
	mustExec(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN berm_changes'`)
	if err := insertZone(t.Context(), s, "a"); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `INSERT INTO changes SELECT seq + 1, kind, org_id, 'b', revision, deleted, at FROM changes`) // no notification at all
	if got := fmt.Sprint(<-feed); got != "[a b]" {
		t.Errorf("got %s", got)
	}
	await(1)
}

// All connections of the pool die, as when the server restarts: the next calls work.
func TestConnectionsCut(t *testing.T) {
	s, dsn := openPostgres(t)
	var all sync.WaitGroup
	ready := make(chan struct{}, 6)
	release := make(chan struct{})
	for range cap(ready) {
		all.Go(func() {
			_ = s.View(t.Context(), func(r store.Reader) error { _, err := r.Orgs(t.Context()); ready <- struct{}{}; <-release; return err })
		})
	}
	for range cap(ready) {
		<-ready
	}
	close(release)
	all.Wait()
	db := raw(t, dsn)
	mustExec(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	if err := insertZone(t.Context(), s, "a"); err != nil {
		t.Errorf("update: %v", err)
	}
	if err := hasZone(t.Context(), s, "a"); err != nil {
		t.Errorf("view: %v", err)
	}

	// One that dies in the middle of a transaction is an error, and a clear one: nobody knows what fn has seen.
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.Insert(t.Context(), zone("b")); err != nil {
			return err
		}
		mustExec(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		return tx.Insert(t.Context(), zone("c"))
	})
	if !fault.HasReason(err, fault.ReasonStoreUnavailable) {
		t.Errorf("got %v, want STORE_UNAVAILABLE", err)
	}
	if err := hasZone(t.Context(), s, "b"); !fault.Is(err, fault.NotFound) {
		t.Errorf("half of a transaction: %v", err)
	}
}

// Two transactions wait for each other: PostgreSQL gives one up, and it is run again.
func TestDeadlockIsRunAgain(t *testing.T) {
	s, _ := openPostgres(t)
	var meet sync.WaitGroup
	meet.Add(2)
	runs := make(chan int, 100)
	update := func(first, second string) error {
		met := false
		return s.Update(t.Context(), func(tx store.Tx) error {
			runs <- 1
			_, err := tx.Usage(t.Context(), store.UsageSubject{OrgID: first}, time.Now())
			if !met { // the second run of the victim does not wait for a partner
				met = true
				meet.Done()
				meet.Wait()
			}
			if err == nil {
				_, err = tx.Usage(t.Context(), store.UsageSubject{OrgID: second}, time.Now())
			}
			if err == nil {
				err = tx.Insert(t.Context(), zone(first))
			}
			return err
		})
	}
	other := make(chan error, 1)
	go func() { other <- update("a", "b") }()
	if err := errors.Join(update("b", "a"), <-other); err != nil {
		t.Error(err)
	}
	if len(runs) < 3 {
		t.Errorf("%d runs: there was no deadlock", len(runs))
	}
}

func TestForeignDatabase(t *testing.T) {
	dsn := postgres.Database(t)
	mustExec(t, raw(t, dsn), `CREATE TABLE tokens (a INT)`)
	if f := refused(t, dsn); f.Reason != "STORE_FOREIGN" {
		t.Errorf("got %v, want STORE_FOREIGN", f)
	}
}

func TestNewerSchemaPostgres(t *testing.T) {
	s, dsn := openPostgres(t)
	_ = s.Close()
	mustExec(t, raw(t, dsn), `INSERT INTO berm_schema (version_id, is_applied) VALUES (999, true)`)
	if f := refused(t, dsn); f.Reason != "SCHEMA_NEWER" {
		t.Errorf("got %v, want SCHEMA_NEWER", f)
	}
}

// A database that was restored into a fresh server has changes of transactions that this server has yet to reach.
func TestRestoredDatabase(t *testing.T) {
	s, dsn := openPostgres(t)
	if err := insertZone(t.Context(), s, "old"); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	mustExec(t, raw(t, dsn), `UPDATE changes SET seq = seq + (1000000::bigint << 20)`)
	for _, id := range []string{"new", "newer"} {
		s = open(t, dsn)
		if err := insertZone(t.Context(), s, id); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	}
	s = open(t, dsn)
	defer s.Close()
	if got := fmt.Sprint(<-follow(t, s, 0, "old", "new", "newer")); got != "[old new newer]" {
		t.Errorf("got %s", got)
	}
}

func TestReadOnlyDatabase(t *testing.T) {
	s, dsn := openPostgres(t)
	db := raw(t, dsn)
	var name string
	if err := db.QueryRowContext(t.Context(), `SELECT current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `ALTER DATABASE `+name+` SET default_transaction_read_only = on`)
	mustExec(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	for what, err := range map[string]error{"ready": s.Ready(t.Context()), "update": insertZone(t.Context(), s, "a")} {
		if f := fault.From(err); f == nil || f.Code != fault.Unavailable || !strings.Contains(f.Message, "read-only") {
			t.Errorf("%s: got %v, want Unavailable, read-only", what, err)
		}
	}
	if err := s.View(t.Context(), func(r store.Reader) error { _, err := r.Orgs(t.Context()); return err }); err != nil {
		t.Errorf("a read: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	u, err := url.Parse(postgres.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	wrong, missing, nobody := *u, *u, *u
	wrong.User = url.UserPassword("postgres", "wrong-"+password)
	missing.Path = "/nothing"
	nobody.Host = "127.0.0.1:1"
	for name, u := range map[string]url.URL{"wrong password": wrong, "missing database": missing, "no server": nobody} {
		f := refused(t, u.String())
		if f.Code != fault.Unavailable || f.Reason != fault.ReasonStoreUnavailable {
			t.Errorf("%s: got %v, want STORE_UNAVAILABLE", name, f)
		}
		if text := f.Error() + f.Hint; strings.Contains(text, password) {
			t.Errorf("%s: the password is in %s", name, text)
		}
	}
}

// Several gateways start at once on an empty database.
func TestMigrateTogether(t *testing.T) {
	dsn := postgres.Database(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			s, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: dsn})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			_ = s.Close()
		})
	}
	all.Wait()
}
