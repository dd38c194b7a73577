package sqlstore_test

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/store"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

// verified verifies the chain of "org".
func verified(t *testing.T, s store.Store, want *audit.Head) audit.Result {
	t.Helper()
	var out audit.Result
	err := s.View(t.Context(), func(r store.Reader) error {
		c, err := r.AuditChain(t.Context(), "org")
		if err != nil {
			return err
		}
		rows, err := r.AuditAfter(t.Context(), "org", c.Anchor.Seq, store.MaxPage)
		v := audit.NewVerifier(c, want)
		for _, row := range rows {
			v.Add(row)
		}
		out = v.Result()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// audited returns the path of a database with ten rows in the chain of "org", and its head.
func audited(t *testing.T) (dsn string, head audit.Head) {
	t.Helper()
	dsn = sqliteDSN(t)
	s := open(t, dsn)
	for i := range 10 {
		if err := s.Update(t.Context(), func(tx store.Tx) error {
			return tx.Audit(t.Context(), "org", audit.Row{At: time.Unix(int64(i), 0), Actor: "token:ci", Method: "PutZone", ID: fmt.Sprint(i), Outcome: audit.Done})
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := verified(t, s, nil)
	if got.Bad != "" || got.Rows != 10 {
		t.Fatalf("%+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dsn, got.Head
}

// TestTamperedAudit: whatever is changed in the file, the first row that is not as it was written is named, with what is wrong.
func TestTamperedAudit(t *testing.T) {
	const swap = `CREATE TEMP TABLE x AS SELECT seq, record FROM audit_rows;
		UPDATE audit_rows SET record = (SELECT record FROM x WHERE x.seq = 11 - audit_rows.seq) WHERE seq IN (4, 7)`
	for _, c := range []struct {
		name, sql string
		seq       int64
		says      string
	}{
		{"a text", `UPDATE audit_rows SET record = replace(record, 'token:ci', 'token:me') WHERE seq = 4`, 4, "hash mismatch"},
		{"a text and its hash", `UPDATE audit_rows SET record = replace(record, 'token:ci', 'token:me'), hash = '` + audit.Hash("org", "", "x") + `' WHERE seq = 4`, 4, "hash mismatch"},
		{"a text that is none any more", `UPDATE audit_rows SET record = 'x' WHERE seq = 4`, 4, "not a row"},
		{"a hash", `UPDATE audit_rows SET hash = 'x' WHERE seq = 4`, 4, "hash mismatch"},
		{"what it is found by", `UPDATE audit_rows SET actor = 'token:me' WHERE seq = 4`, 4, "found by"},
		{"when it is found", `UPDATE audit_rows SET at = 0 WHERE seq = 4`, 4, "found by"},
		{"a row that is gone", `DELETE FROM audit_rows WHERE seq = 4`, 4, "row 4 is missing"},
		{"rows that are gone, and the rest moved up", `DELETE FROM audit_rows WHERE seq = 4; UPDATE audit_rows SET seq = seq - 1 WHERE seq > 4`, 4, "order: its text is that of row 5"},
		{"texts that changed places", swap, 4, "order: its text is that of row 7"},
		{"rows that changed places", `UPDATE audit_rows SET seq = -4 WHERE seq = 4; UPDATE audit_rows SET seq = 4 WHERE seq = 7; UPDATE audit_rows SET seq = 7 WHERE seq = -4`, 4, "order: its text is that of row 7"},
		{"a row put in", `UPDATE audit_rows SET seq = -seq - 1 WHERE seq > 4; UPDATE audit_rows SET seq = -seq WHERE seq < 0;
			INSERT INTO audit_rows SELECT chain, 5, at, actor, method, object_id, outcome, record, hash FROM audit_rows WHERE seq = 4`, 5, "order: its text is that of row 4"},
		{"a row put behind", `INSERT INTO audit_rows SELECT chain, 11, at, actor, method, object_id, outcome, replace(record, '"seq":10', '"seq":11'), hash FROM audit_rows WHERE seq = 10`, 11, "hash mismatch"},
		{"a row of another chain", `UPDATE audit_rows SET chain = 'other' WHERE seq = 4`, 4, "row 4 is missing"},
		{"the beginning cut", `DELETE FROM audit_rows WHERE seq < 4`, 1, "row 1 is missing"},
		{"the beginning cut, and said to be dropped", `DELETE FROM audit_rows WHERE seq < 4; UPDATE audit_chains SET anchor_seq = 3, anchor_hash = 'x'`, 4, "hash mismatch"},
		{"the beginning cut, with its hash", `UPDATE audit_chains SET anchor_seq = 3, anchor_hash = (SELECT hash FROM audit_rows WHERE seq = 3); DELETE FROM audit_rows WHERE seq < 4`, 3, "no row says"},
		{"the end cut", `DELETE FROM audit_rows WHERE seq > 8`, 9, "cut off its end"},
		{"the head", `UPDATE audit_chains SET head_hash = 'x'`, 11, "the head was changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dsn, head := audited(t)
			tamper(t, dsn, c.sql)
			s, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: dsn})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			got := verified(t, s, nil)
			if got.BadSeq != c.seq || !strings.Contains(got.Bad, c.says) {
				t.Errorf("row %d: %s; want row %d: %s", got.BadSeq, got.Bad, c.seq, c.says)
			}
			if got := verified(t, s, &head); got.Bad == "" {
				t.Error("with the head nothing is wrong")
			}
		})
	}
}

// TestAuditMadeAnew: what a chain cannot tell by itself, a head that was kept does.
func TestAuditMadeAnew(t *testing.T) {
	for _, c := range []struct{ name, sql, says string }{
		{"the end cut with the head", `DELETE FROM audit_rows WHERE seq > 8; UPDATE audit_chains SET head_seq = 8, head_hash = (SELECT hash FROM audit_rows WHERE seq = 8)`, "cut off its end"},
		{"all of it gone", `DELETE FROM audit_rows; DELETE FROM audit_chains`, "cut off its end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dsn, head := audited(t)
			tamper(t, dsn, c.sql)
			s := open(t, dsn)
			defer s.Close()
			if got := verified(t, s, nil); got.Bad != "" {
				t.Errorf("without a head: %+v", got)
			}
			if got := verified(t, s, &head); !strings.Contains(got.Bad, c.says) {
				t.Errorf("%+v", got)
			}
			for i := range 5 { // other rows in their place, up to beyond the head
				if err := s.Update(t.Context(), func(tx store.Tx) error {
					return tx.Audit(t.Context(), "org", audit.Row{At: time.Unix(int64(i), 0), Actor: "token:me", Outcome: audit.Done})
				}); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.SealAudit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := verified(t, s, &head); got.Bad == "" {
				t.Errorf("with others in their place: %+v", got)
			}
		})
	}
}

// tamper changes the file without the store.
func tamper(t *testing.T, dsn, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", strings.TrimPrefix(dsn, "sqlite://"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

// TestAuditOfTwoServers: 100 writers on two servers that share a database, each of which seals, and one chain.
func TestAuditOfTwoServers(t *testing.T) {
	dsn := postgres.Database(t)
	servers := []store.Store{open(t, dsn), open(t, dsn)}
	var group sync.WaitGroup
	for w := range 100 {
		group.Go(func() {
			for i := range 5 {
				if err := servers[w%2].Update(t.Context(), func(tx store.Tx) error {
					return tx.Audit(t.Context(), "org", audit.Row{At: time.Unix(int64(i), 0), Actor: fmt.Sprint(w), Outcome: audit.Done})
				}); err != nil {
					t.Error(err)
				}
				if w%10 == 0 {
					if err := servers[(w/10)%2].SealAudit(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	if err := servers[0].SealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := verified(t, servers[1], nil); got.Bad != "" || got.Rows != 500 {
		t.Errorf("%+v", got)
	}
	for _, s := range servers {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
