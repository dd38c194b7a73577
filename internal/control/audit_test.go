package control_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// called makes a call as the edge does, and returns its error.
func (w *world) called(fn func(ctx context.Context) error) error {
	c := newCall()
	err := fn(audit.With(w.ctx(), c))
	w.svc.AuditCall(c, "POST /x", err)
	return err
}

func newCall() *audit.Call {
	return &audit.Call{RequestID: "req", Address: "192.0.2.7:1", UserAgent: "test"}
}

// auditOf returns the rows of a chain, oldest first, and holds the chain.
func (w *world) auditOf(c control.AuditChain) (out []control.AuditEntry) {
	w.Helper()
	got, err := w.svc.VerifyAudit(w.ctx(), w.operator, c, nil)
	w.must(err)
	if got.Bad != "" {
		w.Errorf("row %d: %s", got.BadSeq, got.Bad)
	}
	for page := (control.Page{Size: 3}); ; {
		rows, next, err := w.svc.ListAudit(w.ctx(), w.operator, c, store.AuditFilter{}, page)
		w.must(err)
		out = append(out, rows...)
		if page.Token = next; next == "" {
			break
		}
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	if got.Rows != int64(len(out)) {
		w.Errorf("%d rows listed, %d verified", len(out), got.Rows)
	}
	return out
}

// auditLines are rows in short: METHOD KIND NAME-OR-ID OUTCOME CODE.
func auditLines(rows []control.AuditEntry) (out []string) {
	for _, r := range rows {
		name := r.Name
		if r.Kind == store.ChangeSandbox {
			name = "-"
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", r.Method, r.Kind, name, r.Outcome, r.Code)))
	}
	return out
}

func (w *world) wantLines(rows []control.AuditEntry, want ...string) {
	w.Helper()
	if got := auditLines(rows); strings.Join(got, "\n") != strings.Join(want, "\n") {
		w.Errorf("rows:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestAuditOfCalls: what is done has a row, in the store and beyond it; so has what is refused; what only looks has none.
func TestAuditOfCalls(t *testing.T) {
	w := newWorld(t)
	before := len(w.auditOf(control.AuditChain{}))
	var sandbox *core.Sandbox
	calls := []func(ctx context.Context) error{
		func(ctx context.Context) error {
			_, err := w.svc.CreateProfile(ctx, w.admin, control.ProfileInput{DisplayName: "agent", Spec: w.layer(`{}`), Reason: "ticket 7"})
			return err
		},
		func(ctx context.Context) error {
			_, err := w.svc.CreateProfile(ctx, w.admin, control.ProfileInput{DisplayName: "agent", Spec: w.layer(`{}`)})
			return err
		},
		func(ctx context.Context) error {
			return w.svc.DeleteProfile(ctx, w.user, "agent", control.DeleteOptions{})
		},
		func(ctx context.Context) error {
			return w.svc.DeleteProfile(ctx, w.admin, "agent", control.DeleteOptions{Etag: "stale"})
		},
		func(ctx context.Context) error { _, err := w.svc.GetProfile(ctx, w.user, "none"); return err },
		func(ctx context.Context) error {
			_, err := w.svc.Preview(ctx, w.admin, 1, func(ctx context.Context) error {
				return w.svc.DeleteProfile(ctx, w.admin, "none", control.DeleteOptions{})
			})
			return err
		},
		func(ctx context.Context) (err error) {
			sandbox, _, err = w.svc.Launch(ctx, w.user, &specpb.Launch{Command: "sleep", EnvironmentVariables: map[string]string{"KEY": "s3cret"}})
			return err
		},
		func(ctx context.Context) error {
			if _, err := w.svc.Wait(ctx, w.user, sandbox.ID, func(sb *core.Sandbox) bool { return sb.Status == core.StatusRunning }); err != nil {
				return err
			}
			return w.svc.Stop(ctx, w.user, sandbox.ID, 0)
		},
		func(ctx context.Context) error {
			_, err := w.svc.Exec(ctx, w.user, "00000000-0000-4000-8000-000000000000", backend.Exec{Argv: []string{"true"}})
			return err
		},
	}
	for _, fn := range calls {
		_ = w.called(fn)
		w.auditOf(control.AuditChain{}) // so that rows nobody waits for do not come after those of the next call
	}
	rows := w.auditOf(control.AuditChain{})[before:]
	w.wantLines(rows[:4],
		"CreateProfile profile agent done", "CreateProfile profile agent refused EXISTS", "DeleteProfile profile agent refused DENIED", "DeleteProfile profile agent refused CONFLICT")
	if r := rows[0]; r.Reason != "ticket 7" || r.Revision != 1 || r.After == "" || r.Before != "" || r.RequestID != "req" || r.Address != "192.0.2.7:1" || r.UserAgent != "test" || r.TokenID != w.admin.TokenID {
		t.Errorf("%+v", r)
	}
	w.wantLines(rows[4:], "Launch sandbox - done", "Stop sandbox - done", "Exec sandbox - refused NOT_FOUND")
	if r := rows[4]; r.ID != sandbox.ID || r.After != sandbox.Digest {
		t.Errorf("%+v", r)
	}
	for _, r := range rows {
		if strings.Contains(r.Record, "s3cret") {
			t.Errorf("a row has what was in the environment: %s", r.Record)
		}
	}
	installation := w.auditOf(control.AuditChain{Installation: true})
	w.wantLines(installation, "org default done")
	w.must(w.called(func(ctx context.Context) error { _, err := w.svc.CreateOrg(ctx, w.operator, "other"); return err }))
	if err := w.called(func(context.Context) error { return fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "no") }); err == nil {
		t.Error("no error")
	}
	w.wantLines(w.auditOf(control.AuditChain{Installation: true})[1:], "CreateOrg org other done", "call POST /x refused UNAUTHENTICATED")
}

// TestAuditOfOrganizations: each sees its own, operators see all.
func TestAuditOfOrganizations(t *testing.T) {
	w := newWorld(t)
	_, err := w.svc.CreateOrg(w.ctx(), w.operator, "other")
	w.must(err)
	_, _, err = w.svc.CreateToken(w.ctx(), w.operator, control.TokenInput{Org: "other", Name: "root", Role: core.RoleAdmin})
	w.must(err)
	theirs := w.auditOf(control.AuditChain{Org: "other"})
	if len(theirs) != 1 || theirs[0].Kind != store.ChangeToken {
		t.Errorf("%+v", theirs)
	}
	for name, c := range map[string]control.AuditChain{"of another": {Org: "other"}, "of the installation": {Installation: true}, "of none": {Org: "none"}} {
		_, _, listed := w.svc.ListAudit(w.ctx(), w.admin, c, store.AuditFilter{}, control.Page{})
		_, verified := w.svc.VerifyAudit(w.ctx(), w.admin, c, nil)
		exported := w.svc.ExportAudit(w.ctx(), w.admin, c, func(audit.Chain) error { t.Error("it begins"); return nil }, func(audit.Sealed) error { return nil })
		for _, err := range []error{listed, verified, exported} {
			if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Denied) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	_, err = w.svc.VerifyAudit(w.ctx(), w.operator, control.AuditChain{Org: "other", Installation: true}, nil)
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("two chains: %v", err)
	}
}

// TestAuditOfFloods: refused attempts beyond the limits are counted, in a row at the end of the minute.
func TestAuditOfFloods(t *testing.T) {
	if overLine {
		t.SkipNow() // nothing here reaches a runner
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{}, fake.Config{})
		before := len(w.auditOf(control.AuditChain{}))
		refused := func(p core.Principal) {
			if err := w.called(func(ctx context.Context) error { return w.svc.DeleteProfile(ctx, p, "none", control.DeleteOptions{}) }); err == nil {
				t.Error("no error")
			}
		}
		for range control.MaxRefusals + 5 {
			refused(w.admin)
		}
		for i := range control.MaxChainRefusals {
			p := w.admin
			p.Actor = fmt.Sprintf("token:%d", i)
			refused(p)
		}
		rows := w.auditOf(control.AuditChain{})[before:]
		if len(rows) != control.MaxChainRefusals {
			t.Errorf("%d rows of refused attempts, want %d", len(rows), control.MaxChainRefusals)
		}
		ofOne := 0
		for _, r := range rows {
			if r.Actor == w.admin.Actor {
				ofOne++
			}
		}
		if ofOne != control.MaxRefusals {
			t.Errorf("%d rows of one actor, want %d", ofOne, control.MaxRefusals)
		}
		time.Sleep(control.RefusalWindow)
		synctest.Wait()
		rows = w.auditOf(control.AuditChain{})[before+control.MaxChainRefusals:]
		omitted := int64(0)
		for _, r := range rows {
			if r.Outcome != audit.Omitted {
				t.Errorf("%+v", r)
			}
			if omitted += r.Count; r.Actor == w.admin.Actor && r.Count != 5 {
				t.Errorf("%d of one actor, want 5", r.Count)
			}
		}
		if omitted != control.MaxRefusals+5 {
			t.Errorf("%d attempts were counted, want %d", omitted, control.MaxRefusals+5)
		}
		refused(w.admin) // a new window
		if last := w.auditOf(control.AuditChain{}); last[len(last)-1].Outcome != audit.Refused {
			t.Errorf("%+v", last[len(last)-1])
		}
	})
}

// TestRetentionOfAudit: rows are kept for the time named, and then dropped; the rest says so and holds.
func TestRetentionOfAudit(t *testing.T) {
	if overLine {
		t.SkipNow() // nothing here reaches a runner
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{AuditRetention: 48 * time.Hour}, fake.Config{})
		w.newProfile("old", `{}`)
		time.Sleep(24 * time.Hour)
		w.newProfile("new", `{}`)
		before := w.auditOf(control.AuditChain{})
		time.Sleep(24*time.Hour + 2*time.Hour)
		synctest.Wait()
		after := w.auditOf(control.AuditChain{})
		if len(after) != 2 || after[0].Name != "new" || after[1].Outcome != audit.Pruned || after[1].Count != int64(len(before)-1) {
			t.Errorf("%v, of %d", auditLines(after), len(before))
		}
	})
}
