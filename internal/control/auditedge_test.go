package control_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// TestTamperedChainIsTold: whatever was done to one chain on disk, verify names a row of it, and the audit of others goes on.
func TestTamperedChainIsTold(t *testing.T) {
	for name, change := range map[string]string{
		"a head that is set back": `UPDATE audit_chains SET head_seq = head_seq - 1 WHERE chain = $1`,
		"a head that is gone":     `DELETE FROM audit_chains WHERE chain = $1`,
		// Nothing can follow this one: its chain is not sealed any more.
		"a row at the last place": `INSERT INTO audit_rows SELECT chain, 9223372036854775807, at, actor, method, object_id, outcome, record, hash FROM audit_rows WHERE chain = $1 AND seq = 1`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.svc.CreateOrg(w.ctx(), w.operator, "other")
			w.must(err)
			last := w.auditOf(control.AuditChain{})
			w.close()
			w.tamper(change, w.admin.OrgID)
			w.open()
			w.must(w.svc.Recover(w.ctx()))
			w.newProfile("next", `{}`) // life goes on
			_, _, err = w.svc.CreateToken(w.ctx(), w.operator, control.TokenInput{Org: "other", Name: "root", Role: core.RoleAdmin})
			w.must(err)
			got, err := w.svc.VerifyAudit(w.ctx(), w.operator, control.AuditChain{}, nil)
			if want := last[len(last)-1].Seq + 1; err != nil || got.BadSeq != want {
				t.Errorf("verify: %+v, %v; want row %d", got, err, want)
			}
			w.wantLines(w.auditOf(control.AuditChain{Org: "other"}), "token root done")
		})
	}
}

// tamper changes the file of a server that is down.
func (w *world) tamper(statement string, args ...any) {
	w.Helper()
	db, err := sql.Open("sqlite", strings.TrimPrefix(w.dsn, "sqlite://"))
	w.must(err)
	_, err = db.ExecContext(w.ctx(), statement, args...)
	w.must(err)
	w.must(db.Close())
}

// TestDrainHasRow: also that of a runner that is cordoned already, which writes no revision.
func TestDrainHasRow(t *testing.T) {
	w := newWorld(t)
	sb := w.running(nil)
	st := control.EditState{Reason: "maintenance"}
	w.must(w.called(func(ctx context.Context) error { _, err := w.svc.CordonRunner(ctx, w.admin, "r1", st); return err }))
	before := len(w.auditOf(control.AuditChain{}))
	w.must(w.called(func(ctx context.Context) error {
		_, err := w.svc.DrainRunner(ctx, w.admin, "r1", time.Second, st)
		return err
	}))
	w.ended(sb.ID)
	rows := w.auditOf(control.AuditChain{})[before:]
	w.wantLines(rows, "DrainRunner runner r1 done")
	if rows[0].Reason != "maintenance" {
		t.Errorf("%+v", rows[0])
	}
}

// TestNoTokenInRows: a token that a caller takes for the name of something, or gives as a reason, does not stay in the audit.
func TestNoTokenInRows(t *testing.T) {
	w := newWorld(t)
	_, secret, err := w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "ci", Role: core.RoleAdmin})
	w.must(err)
	before := len(w.auditOf(control.AuditChain{}))
	for _, call := range []func(ctx context.Context) error{
		func(ctx context.Context) error { return w.svc.RevokeToken(ctx, w.admin, "", secret) },
		func(ctx context.Context) error { return w.svc.Stop(ctx, w.admin, "x-"+secret+"y", 0) },
		func(ctx context.Context) error {
			_, err := w.svc.CordonRunner(ctx, w.admin, "none", control.EditState{Reason: "was " + secret})
			return err
		},
	} {
		if err := w.called(call); err == nil {
			t.Error("no error")
		}
		w.auditOf(control.AuditChain{})
	}
	rows := w.auditOf(control.AuditChain{})[before:]
	w.wantLines(rows, "RevokeToken token (a token) refused NOT_FOUND", "Stop sandbox - refused NOT_FOUND", "CordonRunner runner none refused NOT_FOUND")
	w.svc.AuditCall(newCall(), "DELETE /tokens/"+secret, fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "no"))
	for _, r := range append(rows, w.auditOf(control.AuditChain{Installation: true})...) {
		if strings.Contains(r.Record, secret) {
			t.Errorf("a valid token is in a row: %s", r.Record)
		}
	}
}

// TestAuditOfFarTimes: times that have no stored form are refused, not turned into others.
func TestAuditOfFarTimes(t *testing.T) {
	w := newWorld(t)
	far := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, f := range map[string]store.AuditFilter{"since": {Since: far}, "until": {Until: far}, "since the beginning": {Since: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)}} {
		if rows, _, err := w.svc.ListAudit(w.ctx(), w.admin, control.AuditChain{}, f, control.Page{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
		}
	}
}
