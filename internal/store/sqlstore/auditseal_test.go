package sqlstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// TestSealingOfTamperedChains: a chain that somebody changed is sealed on, names a row, and holds up no other.
func TestSealingOfTamperedChains(t *testing.T) {
	// A row that is chained as Berm does it, by somebody who knows how.
	forged := `{"seq":11,"at":"2026-01-01T00:00:00Z","actor":"token:me","outcome":"done"}`
	for name, c := range map[string]struct {
		sql   string
		seq   int64
		stuck bool
	}{
		"a row put behind":                    {`INSERT INTO audit_rows SELECT chain, 11, at, actor, method, object_id, outcome, replace(record, '"seq":10', '"seq":11'), hash FROM audit_rows WHERE seq = 10`, 11, false},
		"a row put behind, and hashed":        {`INSERT INTO audit_rows SELECT chain, 11, 1767225600000000000, 'token:me', '', '', 'done', '` + forged + `', 'HASH' FROM audit_rows WHERE seq = 10`, 12, false},
		"a row put far behind":                {`INSERT INTO audit_rows SELECT chain, 20, at, actor, method, object_id, outcome, record, hash FROM audit_rows WHERE seq = 10`, 11, false},
		"a row put at the last place":         {`INSERT INTO audit_rows SELECT chain, 9223372036854775807, at, actor, method, object_id, outcome, record, hash FROM audit_rows WHERE seq = 10`, 11, true},
		"the head put back":                   {`UPDATE audit_chains SET head_seq = 9, head_hash = (SELECT hash FROM audit_rows WHERE seq = 9)`, 11, false},
		"the head put back, but for its hash": {`UPDATE audit_chains SET head_seq = 9`, 11, false},
		"the head gone":                       {`DELETE FROM audit_chains`, 11, false},
	} {
		t.Run(name, func(t *testing.T) {
			dsn, head := audited(t)
			tamper(t, dsn, strings.Replace(c.sql, "HASH", audit.Hash("org", head.Hash, forged), 1))
			s := open(t, dsn)
			defer s.Close()
			for range 3 {
				for _, chain := range []string{"org", "another"} {
					if err := s.Update(t.Context(), func(tx store.Tx) error {
						return tx.Audit(t.Context(), chain, audit.Row{At: time.Unix(100, 0), Actor: "a", Outcome: audit.Done})
					}); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.SealAudit(t.Context()); c.stuck != fault.HasReason(err, fault.ReasonStoreCorrupt) || !c.stuck && err != nil {
					t.Errorf("sealing: %v; it is stuck %v", err, c.stuck)
				}
			}
			if got := verified(t, s, nil); got.BadSeq != c.seq || got.Bad == "" {
				t.Errorf("row %d: %s; want row %d", got.BadSeq, got.Bad, c.seq)
			}
			if err := s.View(t.Context(), func(r store.Reader) error {
				c, err := r.AuditChain(t.Context(), "another")
				if c.Head.Seq != 3 {
					t.Errorf("another chain has %d rows, want 3", c.Head.Seq)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}
