package sqlstore

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/store"
)

// TestPruneOfTwoServers: a server that decided what goes just before another dropped more says nothing that the chain does not bear.
func TestPruneOfTwoServers(t *testing.T) {
	for _, c := range []struct {
		name string
		// tells is whether the slower one says what goes before the other drops it.
		tells bool
	}{{"after the other is done", false}, {"in the middle of the other", true}} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			s, err := Open(ctx, Config{DSN: "sqlite://" + filepath.Join(t.TempDir(), "berm.db")})
			must(t, err)
			defer s.Close()
			for i := range 10 {
				must(t, s.Update(ctx, func(t store.Tx) error {
					return t.Audit(ctx, "org", audit.Row{At: time.Unix(int64(i+1), 0), Actor: "a", Outcome: audit.Done})
				}))
			}
			must(t, s.SealAudit(ctx))
			tell := func(last audit.Head) {
				must(t, s.Update(ctx, func(x store.Tx) error { return x.(*tx).tellPruned(ctx, "org", last) }))
			}
			drop := func(last audit.Head) {
				must(t, s.Update(ctx, func(x store.Tx) error { _, _, err := x.(*tx).prune(ctx, "org", last); return err }))
			}
			slower, err := s.lastToDrop(ctx, "org", time.Unix(5, 0), 1000)
			must(t, err)
			faster, err := s.lastToDrop(ctx, "org", time.Unix(6, 0), 1000) // one more row is old by then
			must(t, err)
			tell(faster)
			if c.tells {
				tell(slower)
				drop(faster)
			} else {
				drop(faster)
				tell(slower)
			}
			drop(slower)
			must(t, s.View(ctx, func(r store.Reader) error {
				chain, err := r.AuditChain(ctx, "org")
				must(t, err)
				rows, err := r.AuditAfter(ctx, "org", chain.Anchor.Seq, store.MaxPage)
				v := audit.NewVerifier(chain, nil)
				for _, row := range rows {
					v.Add(row)
				}
				if got := v.Result(); got.Bad != "" || chain.Anchor != faster {
					t.Errorf("nobody touched it: row %d: %s; it begins after %v, want %v", got.BadSeq, got.Bad, chain.Anchor, faster)
				}
				return err
			}))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
