package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func audits(t *testing.T, e *env) {
	t.Run("a row for every write", e.auditOfWrites)
	t.Run("nothing of what is rolled back", e.auditOfNothing)
	t.Run("rows of others", e.auditByHand)
	t.Run("the list", e.auditList)
	t.Run("many at once", e.auditAtOnce)
	t.Run("old rows", e.auditPruned)
}

// rows verifies a chain and returns its rows, oldest first.
func (e *env) rows(t *testing.T, chain string) []*audit.Row {
	t.Helper()
	if err := e.store.SealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out []*audit.Row
	e.view(t, func(ctx context.Context, r store.Reader) {
		c, err := r.AuditChain(ctx, chain)
		if err != nil {
			t.Fatal(err)
		}
		v := audit.NewVerifier(c, nil)
		for seq := c.Anchor.Seq; ; {
			page, err := r.AuditAfter(ctx, chain, seq, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range page {
				v.Add(s)
				row, err := audit.Decode(s.Record)
				if err != nil {
					t.Fatal(err)
				}
				out, seq = append(out, row), s.Seq
			}
			if len(page) == 0 {
				break
			}
		}
		if got := v.Result(); got.Bad != "" || got.Rows != int64(len(out)) {
			t.Fatalf("chain %q: %+v", chain, got)
		}
	})
	return out
}

// brief is what the tests look at.
func brief(r *audit.Row) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s %s %s/%s@%d %s", r.Seq, r.Actor, r.Method, r.Kind, r.ID, r.Revision, r.Outcome))
}

func (e *env) auditOfWrites(t *testing.T) {
	org := &core.Org{ID: e.id("org"), Name: e.id("org name"), CreatedAt: start}
	installation := len(e.rows(t, audit.Installation))
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertOrg(ctx, org) })
	all := e.rows(t, audit.Installation)
	if len(all) != installation+1 || all[installation].ID != org.ID || all[installation].Kind != store.ChangeOrg {
		t.Errorf("the installation: %+v", all)
	}

	call := &audit.Call{RequestID: "req-1", Address: "192.0.2.1:5", UserAgent: "berm/1"}
	call.Begin(core.Principal{OrgID: "another", TokenID: "tid", Actor: "token:ops", Role: core.RoleOperator}, "PutZone", audit.Target{Kind: "zone", Reason: "not this one"})
	o := e.object(store.KindZone, org.ID)
	first, second := audit.Digest(o.Body), audit.Digest([]byte(`{"n":2}`))
	if err := e.store.Update(audit.With(t.Context(), call), func(tx store.Tx) error { return tx.Insert(audit.With(t.Context(), call), o) }); err != nil {
		t.Fatal(err)
	}
	o.Body = []byte(`{"n":2}`)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Update(ctx, o) })
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, o) })
	token := &core.Token{ID: e.id("token"), OrgID: org.ID, Name: "ci", Role: core.RoleUser, Hash: e.id("hash"), CreatedAt: start, CreatedBy: "token:root"}
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertToken(ctx, token) })
	for range 2 { // the second revocation changes nothing
		e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.RevokeToken(ctx, org.ID, token.ID, start) })
	}
	sandbox := e.sandbox(org.ID)
	e.launched(t, sandbox)

	rows := e.rows(t, org.ID)
	var got []string
	for _, r := range rows {
		got = append(got, brief(r))
	}
	equal(t, "rows", got, []string{
		"1 token:ops PutZone zone/" + o.ID + "@1 done", "2 token:ci  zone/" + o.ID + "@2 done", "3 token:ci  zone/" + o.ID + "@3 done",
		"4 token:root  token/" + token.ID + "@0 done", "5   token/" + token.ID + "@2 done", "6 token:ci  sandbox/" + sandbox.ID + "@1 done",
	})
	equal(t, "digests", []string{rows[0].Before, rows[0].After, rows[1].Before, rows[1].After, rows[2].Before, rows[2].After}, []string{"", first, first, second, second, ""})
	r := rows[0]
	equal(t, "the call", []string{r.TokenID, r.Role, r.ActorOrg, r.Reason, r.RequestID, r.Address, r.UserAgent, r.Name},
		[]string{"tid", "operator", "another", "because", "req-1", "192.0.2.1:5", "berm/1", o.Name})
	equal(t, "the digest of a launch", rows[5].After, sandbox.Digest)
}

func (e *env) auditOfNothing(t *testing.T) {
	org := e.id("org")
	errBack := errors.New("back")
	if err := e.try(t, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.Insert(ctx, e.object(store.KindZone, org)), tx.Audit(ctx, org, audit.Row{Outcome: audit.Done}), errBack)
	}); !errors.Is(err, errBack) {
		t.Fatal(err)
	}
	e.update(t, func(ctx context.Context, tx store.Tx) error { // a refusal within a transaction that goes on
		o := e.object(store.KindZone, org)
		o.Revision = 4
		wantCode(t, tx.Update(ctx, o), fault.NotFound)
		return nil
	})
	if rows := e.rows(t, org); len(rows) > 0 {
		t.Errorf("%+v", rows)
	}
}

func (e *env) auditByHand(t *testing.T) {
	org := e.id("org")
	long := audit.Row{At: start, Outcome: audit.Refused, Reason: strings.Repeat("ä", 5000), UserAgent: "a\x00\xff" + strings.Repeat("x", 500)}
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Audit(ctx, org, long) })
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Audit(ctx, org, audit.Row{}) }), fault.Invalid)
	rows := e.rows(t, org)
	if len(rows) != 1 || len(rows[0].Reason) > audit.MaxReason || len(rows[0].UserAgent) > audit.MaxText || !rows[0].At.Equal(start) {
		t.Errorf("%+v", rows)
	}
}

func (e *env) auditList(t *testing.T) {
	org := e.id("org")
	for i := range 25 {
		e.update(t, func(ctx context.Context, tx store.Tx) error {
			return tx.Audit(ctx, org, audit.Row{
				At: start.Add(time.Duration(i) * time.Second), Actor: fmt.Sprintf("token:%d", i%2), Method: fmt.Sprintf("M%d", i%3), ID: fmt.Sprint(i % 5), Outcome: audit.Done,
			})
		})
	}
	e.rows(t, org)
	list := func(f store.AuditFilter, size int) (seqs []int64) {
		t.Helper()
		e.view(t, func(ctx context.Context, r store.Reader) {
			for p := (store.Page{Size: size}); ; {
				rows, next, err := r.AuditRows(ctx, org, f, p)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range rows {
					seqs = append(seqs, s.Seq)
				}
				if p.After = next; next == "" {
					return
				}
			}
		})
		return seqs
	}
	all := list(store.AuditFilter{}, 10)
	if len(all) != 25 || all[0] != 25 || !slices.IsSortedFunc(all, func(a, b int64) int { return int(b - a) }) {
		t.Errorf("%v", all)
	}
	for _, c := range []struct {
		f    store.AuditFilter
		want []int64
	}{
		{store.AuditFilter{Actor: "token:1", Method: "M0"}, []int64{22, 16, 10, 4}},
		{store.AuditFilter{ObjectID: "3", Outcome: audit.Done}, []int64{24, 19, 14, 9, 4}},
		{store.AuditFilter{Since: start.Add(22 * time.Second)}, []int64{25, 24, 23}},
		{store.AuditFilter{Until: start.Add(2 * time.Second)}, []int64{2, 1}},
		{store.AuditFilter{Outcome: audit.Refused}, nil},
	} {
		equal(t, fmt.Sprintf("%+v", c.f), list(c.f, 2), c.want)
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		for _, key := range []string{"x", "-1", "0", "007"} {
			_, _, err := r.AuditRows(ctx, org, store.AuditFilter{}, store.Page{Size: 1, After: key})
			wantCode(t, err, fault.Invalid)
		}
	})
}

// auditAtOnce writes from many goroutines while others seal: no row is lost, none twice, the chains hold.
func (e *env) auditAtOnce(t *testing.T) {
	orgs := []string{e.id("org"), e.id("org"), e.id("org")}
	const each = 20
	var group sync.WaitGroup
	for w := range 30 {
		group.Go(func() {
			for i := range each {
				if err := e.store.Update(t.Context(), func(tx store.Tx) error {
					return tx.Audit(t.Context(), orgs[w%3], audit.Row{At: start, Actor: fmt.Sprint(w), Name: fmt.Sprint(i), Outcome: audit.Done})
				}); err != nil {
					t.Error(err)
				}
				if i%5 == 0 {
					if err := e.store.SealAudit(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	for _, org := range orgs {
		next := map[string]int{}
		rows := e.rows(t, org)
		for _, r := range rows {
			if r.Name != fmt.Sprint(next[r.Actor]) {
				t.Errorf("actor %s: row %s after %d others", r.Actor, r.Name, next[r.Actor])
			}
			next[r.Actor]++
		}
		if len(rows) != 10*each {
			t.Errorf("%d rows", len(rows))
		}
	}
}

func (e *env) auditPruned(t *testing.T) {
	org := e.id("org")
	for i := range 10 {
		e.update(t, func(ctx context.Context, tx store.Tx) error {
			return tx.Audit(ctx, org, audit.Row{At: start.Add(time.Duration(i) * time.Hour), Outcome: audit.Done})
		})
	}
	e.rows(t, org)
	prune := func(before time.Time, most, want int64) {
		t.Helper()
		n, err := e.store.PruneAudit(t.Context(), org, before, most)
		if err != nil || n != want {
			t.Errorf("dropped %d, %v; want %d", n, err, want)
		}
	}
	seqs := func() (out []int64) {
		for _, r := range e.rows(t, org) {
			out = append(out, r.Seq)
		}
		return out
	}
	prune(start, 100, 0)
	prune(start.Add(3*time.Hour), 100, 3)
	equal(t, "rows", seqs(), []int64{4, 5, 6, 7, 8, 9, 10, 11})
	prune(start, 5, 3) // of 11 the last five stay, and one more says so
	equal(t, "rows", seqs(), []int64{7, 8, 9, 10, 11, 12})
	prune(time.Now().Add(time.Hour), 100, 6)
	rows := e.rows(t, org)
	if len(rows) != 1 || rows[0].Outcome != audit.Pruned || rows[0].Count != 12 || rows[0].Seq != 13 {
		t.Errorf("%+v", rows)
	}
	prune(start, 100, 0)
}
