package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func sandboxes(t *testing.T, e *env) {
	t.Run("read back as written", e.sandboxRoundTrip)
	t.Run("the mutable part, and no other", e.sandboxUpdate)
	t.Run("stale revision is a conflict", e.sandboxConflict)
	t.Run("terminal rows never change", e.sandboxTerminal)
	t.Run("another organization is like none", e.sandboxIsolation)
	t.Run("delete", e.sandboxDelete)
	t.Run("the object submitted", e.sandboxSubmitted)
	t.Run("unfinished of a runner", e.sandboxUnfinished)
	t.Run("ended before a time", e.sandboxEndedBefore)
	t.Run("what cannot be stored", e.sandboxRefused)
}

func (e *env) sandboxRoundTrip(t *testing.T) {
	org := e.id("org")
	code := int32(-1)
	full := e.sandbox(org)
	full.ExitCode, full.StartedAt, full.EndedAt, full.StatusReason = &code, start.Add(1), start.Add(2), "EXITED"
	full.Reserved = core.Amounts{CPUMillis: 1 << 60, MemoryBytes: 1 << 61, GPUs: 8, Sandboxes: 1}
	full.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/a", Content: []byte{0, 1, 0xff}}}
	least := &core.Sandbox{ID: e.id("sandbox"), OrgID: org, Status: core.StatusPending, Observation: core.ObservationCurrent, CreatedAt: start, Launch: &specpb.Launch{}}
	for _, s := range []*core.Sandbox{full, least} {
		e.launched(t, s)
		if s.Revision != 1 {
			t.Fatalf("revision %d after InsertSandbox, want 1", s.Revision)
		}
		e.view(t, func(ctx context.Context, r store.Reader) {
			got, err := r.Sandbox(ctx, org, s.ID)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "sandbox", got, s)
		})
		again := *s
		again.OrgID = e.id("org")
		err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertSandbox(ctx, &again) })
		wantCode(t, err, fault.Exists)
	}
}

func (e *env) sandboxUpdate(t *testing.T) {
	org := e.id("org")
	s := e.launched(t, e.sandbox(org))
	code := int32(137)
	next := *s
	next.Status, next.StatusReason, next.Observation, next.ExitCode = core.StatusCompleted, "EXITED: ü", core.ObservationUnknown, &code
	next.StartedAt, next.EndedAt, next.ExpiresAt = start.Add(time.Second), start.Add(time.Minute), time.Time{}
	next.Timeline = append(next.Timeline, core.Event{Name: "ended", At: start.Add(time.Minute)})
	next.Service = &core.Service{Mode: "public", Address: "ü.example", Ports: []core.ServicePort{{Name: "web", ContainerPort: 8080, Port: 30080, Protocol: "TCP"}}}
	want := next
	want.Revision = 2
	next.ProfileName, next.RunnerUUID, next.Digest, next.Tags, next.Decision, next.Launch = "x", "x", "x", []string{"x"}, nil, nil
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, &next) })
	if next.Revision != 2 {
		t.Fatalf("revision %d, want 2", next.Revision)
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.Sandbox(ctx, org, s.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "sandbox", got, &want)
	})
}

func (e *env) sandboxConflict(t *testing.T) {
	s := e.launched(t, e.sandbox(e.id("org")))
	stale := *s
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, s) })
	was := stale
	err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, &stale) })
	wantCode(t, err, fault.Conflict)
	equal(t, "the value given", &stale, &was)
	// The refusal leaves the transaction usable: it reads what is there and decides again.
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		if err := tx.UpdateSandbox(ctx, &stale); !fault.Is(err, fault.Conflict) {
			return err
		}
		current, err := tx.Sandbox(ctx, s.OrgID, s.ID)
		if err != nil {
			return err
		}
		return tx.UpdateSandbox(ctx, current)
	})
	missing := e.sandbox(s.OrgID)
	missing.Revision = 1
	err = e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, missing) })
	wantCode(t, err, fault.NotFound)
}

func (e *env) sandboxTerminal(t *testing.T) {
	for _, status := range []core.Status{core.StatusCompleted, core.StatusFailed} {
		s := e.launched(t, e.sandbox(e.id("org")))
		s.Status = status // and no EndedAt: the end was not observed
		e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, s) })
		for _, to := range []core.Status{core.StatusRunning, core.StatusFailed, core.StatusCompleted} {
			again := *s
			again.Status, again.ExitCode = to, new(int32)
			err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, &again) })
			wantCode(t, err, fault.Precondition)
			again.Revision--
			err = e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, &again) })
			wantCode(t, err, fault.Precondition)
		}
		e.view(t, func(ctx context.Context, r store.Reader) {
			got, err := r.Sandbox(ctx, s.OrgID, s.ID)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "sandbox", got, s)
		})
	}
}

func (e *env) sandboxIsolation(t *testing.T) {
	mine := e.id("org")
	s := e.launched(t, e.sandbox(e.id("org")))
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, err := r.Sandbox(ctx, mine, s.ID)
		wantCode(t, err, fault.NotFound)
		all, next, err := r.Sandboxes(ctx, store.SandboxFilter{OrgID: mine, IncludeEnded: true}, store.Page{Size: 10})
		if len(all) != 0 || next != "" || err != nil {
			t.Errorf("got %d sandboxes, %q, %v", len(all), next, err)
		}
	})
	c := *s
	c.OrgID = mine
	err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, &c) })
	wantCode(t, err, fault.NotFound)
	err = e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSandbox(ctx, mine, s.ID) })
	wantCode(t, err, fault.NotFound)
}

func (e *env) sandboxDelete(t *testing.T) {
	org := e.id("org")
	s, kept := e.launched(t, e.sandbox(org)), e.launched(t, e.sandbox(org))
	remove := func() error {
		return e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSandbox(ctx, org, s.ID) })
	}
	wantCode(t, remove(), fault.Precondition)
	s.Status = core.StatusCompleted
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, s) })
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, remove(), fault.NotFound)
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, err := r.Sandbox(ctx, org, s.ID)
		wantCode(t, err, fault.NotFound)
		for _, f := range []store.SandboxFilter{{OrgID: org, IncludeEnded: true}, {OrgID: org, IncludeEnded: true, Tags: s.Tags}} {
			all, _, err := r.Sandboxes(ctx, f, store.Page{Size: 10})
			if err != nil || len(all) != 1 || all[0].ID != kept.ID {
				t.Errorf("%+v: got %d, %v", f, len(all), err)
			}
		}
	})
}

func (e *env) sandboxSubmitted(t *testing.T) {
	mine, org := e.id("org"), e.id("org")
	s, other := e.launched(t, e.sandbox(org)), e.launched(t, e.sandbox(org))
	object := json.RawMessage(`{"kind":"Pod","text":"\u0000 'quoted' $1 ü"}`)
	put := func(orgID, id string, object json.RawMessage) error {
		return e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.PutSubmitted(ctx, orgID, id, object) })
	}
	kept := func(orgID, id string) (got json.RawMessage, err error) {
		e.view(t, func(ctx context.Context, r store.Reader) { got, err = r.Submitted(ctx, orgID, id) })
		return got, err
	}
	if err := put(mine, s.ID, json.RawMessage(`{"kind":"forged"}`)); err != nil { // nothing is there for another organization
		t.Fatal(err)
	}
	if got, err := kept(org, s.ID); got != nil || err != nil {
		t.Fatalf("before: %s, %v", got, err)
	}
	for _, o := range []json.RawMessage{object, json.RawMessage(`{"kind":"second"}`)} {
		if err := put(org, s.ID, o); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := kept(org, s.ID); string(got) != string(object) || err != nil {
		t.Errorf("kept %s, %v; want the first", got, err)
	}
	if got, err := kept(org, other.ID); got != nil || err != nil {
		t.Errorf("of another sandbox: %s, %v", got, err)
	}
	_, err := kept(mine, s.ID)
	wantCode(t, err, fault.NotFound)
	wantCode(t, put(org, other.ID, make(json.RawMessage, store.MaxSubmitted+1)), fault.Invalid)

	// It goes with the sandbox: a later one of the same id has its own.
	s.Status = core.StatusCompleted
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.UpdateSandbox(ctx, s), tx.DeleteSandbox(ctx, org, s.ID))
	})
	again := e.sandbox(org)
	again.ID = s.ID
	e.launched(t, again)
	if got, err := kept(org, s.ID); got != nil || err != nil {
		t.Errorf("after: %s, %v", got, err)
	}
}

func (e *env) sandboxUnfinished(t *testing.T) {
	runner := e.id("runner")
	var live []*core.Sandbox
	for i := range 3 {
		s := e.sandbox(e.id("org"))
		s.RunnerUUID, s.CreatedAt = runner, start.Add(time.Duration(i))
		live = append(live, e.launched(t, s))
		ended := e.sandbox(s.OrgID)
		ended.RunnerUUID, ended.Status = runner, core.StatusFailed
		e.launched(t, ended)
		elsewhere := e.sandbox(s.OrgID)
		elsewhere.RunnerUUID = e.id("runner")
		e.launched(t, elsewhere)
	}
	want := make([]*core.Sandbox, len(live))
	for i, s := range live {
		c := *s
		c.Decision, c.Launch = nil, nil
		want[i] = &c
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.Unfinished(ctx, runner)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "unfinished", got, want)
		n, err := r.CountLive(ctx, runner)
		if n != 3 || err != nil {
			t.Fatalf("%d live, %v; want 3", n, err)
		}
		if n, err := r.CountLive(ctx, "nothing"); n != 0 || err != nil {
			t.Fatalf("%d live, %v; want 0", n, err)
		}
	})
}

func (e *env) sandboxEndedBefore(t *testing.T) {
	org := e.id("org")
	var ended []*core.Sandbox
	for _, status := range []core.Status{core.StatusCompleted, core.StatusRunning, core.StatusFailed} {
		s := e.launched(t, e.sandbox(org))
		s.Status = status
		if err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, s) }); err != nil {
			t.Fatal(err)
		}
		if status.Terminal() {
			ended = append(ended, s)
		}
	}
	e.launched(t, e.sandbox(e.id("org")))
	for before, want := range map[time.Time]int{start.Add(-time.Hour): 0, time.Now().Add(1000 * time.Hour): 2} {
		e.view(t, func(ctx context.Context, r store.Reader) {
			got, err := r.EndedBefore(ctx, org, before)
			if err != nil || len(got) != want {
				t.Fatalf("before %v: %d, %v; want %d", before, len(got), err, want)
			}
			for i, s := range got {
				if s.ID != ended[i].ID || s.Status != ended[i].Status {
					t.Errorf("%d: %s %s", i, s.ID, s.Status)
				}
			}
		})
	}
}

func (e *env) sandboxRefused(t *testing.T) {
	org := e.id("org")
	long := strings.Repeat("x", store.MaxText+1)
	many := make([]string, store.MaxTags+1)
	for i := range many {
		many[i] = e.id("tag")
	}
	for name, change := range map[string]func(*core.Sandbox){
		"no id":              func(s *core.Sandbox) { s.ID = "" },
		"no org":             func(s *core.Sandbox) { s.OrgID = "" },
		"no status":          func(s *core.Sandbox) { s.Status = "" },
		"long tag":           func(s *core.Sandbox) { s.Tags = []string{long} },
		"empty tag":          func(s *core.Sandbox) { s.Tags = []string{""} },
		"many tags":          func(s *core.Sandbox) { s.Tags = many },
		"NUL in tag":         func(s *core.Sandbox) { s.Tags = []string{"a\x00"} },
		"long profile name":  func(s *core.Sandbox) { s.ProfileName = long },
		"negative CPU":       func(s *core.Sandbox) { s.Reserved.CPUMillis = -1 },
		"large decision":     func(s *core.Sandbox) { s.Decision = []byte(strings.Repeat(" ", store.MaxDecision+1)) },
		"large timeline":     func(s *core.Sandbox) { s.Timeline = []core.Event{{Message: strings.Repeat("x", store.MaxTimeline)}} },
		"reason no UTF-8":    func(s *core.Sandbox) { s.StatusReason = "\xff" },
		"long reason":        func(s *core.Sandbox) { s.StatusReason = strings.Repeat("x", store.MaxNote+1) },
		"expires in 4000 AD": func(s *core.Sandbox) { s.ExpiresAt = time.Date(4000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		s := e.sandbox(org)
		change(s)
		err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertSandbox(ctx, s) })
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
	s := e.launched(t, e.sandbox(org))
	s.StatusReason = strings.Repeat("x", store.MaxNote+1)
	err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, s) })
	wantCode(t, err, fault.Invalid)
}
