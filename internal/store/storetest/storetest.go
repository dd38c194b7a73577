// Package storetest is the contract of the store as a test: what every comment in package store promises. Each engine runs
// it whole.
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { … })
//	}
package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// waitLimit is how long a test waits for something that another goroutine or process does.
const waitLimit = 60 * time.Second

// Run runs the contract. open returns an empty store, which the test closes.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, group := range []struct {
		name string
		run  func(t *testing.T, e *env)
	}{
		{"objects", objects},
		{"sandboxes", sandboxes},
		{"lists", lists},
		{"capacity", capacity},
		{"contact", contact},
		{"servers", servers},
		{"usage", usage},
		{"orgs", orgs},
		{"leases", leases},
		{"transactions", transactions},
		{"concurrency", concurrency},
		{"changes", changes},
		{"audit", audits},
		{"secrets", secrets},
	} {
		t.Run(group.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			group.run(t, &env{store: s})
		})
	}
}

// env is a store under test. The tests of a group share it; each works in organizations of its own.
type env struct {
	store store.Store
	ids   atomic.Int64
}

// id returns a text that was not used before.
func (e *env) id(prefix string) string { return fmt.Sprintf("%s-%06d", prefix, e.ids.Add(1)) }

// start is a time with nanoseconds, which must survive.
var start = time.Date(2026, 11, 23, 10, 11, 12, 131415161, time.UTC)

func (e *env) view(t testing.TB, fn func(ctx context.Context, r store.Reader)) {
	t.Helper()
	ctx := t.Context()
	if err := e.store.View(ctx, func(r store.Reader) error { fn(ctx, r); return nil }); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// update commits, or fails the test.
func (e *env) update(t testing.TB, fn func(ctx context.Context, tx store.Tx) error) {
	t.Helper()
	if err := e.try(t, fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func (e *env) try(t testing.TB, fn func(ctx context.Context, tx store.Tx) error) error {
	t.Helper()
	ctx := t.Context()
	return e.store.Update(ctx, func(tx store.Tx) error { return fn(ctx, tx) })
}

func wantCode(t testing.TB, err error, code fault.Code) {
	t.Helper()
	if !fault.Is(err, code) {
		t.Fatalf("got %v, want a fault %v", err, code)
	}
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func (e *env) object(kind store.Kind, org string) *store.Object {
	id := e.id("object")
	return &store.Object{
		Kind: kind, OrgID: org, ID: id, Name: "name of " + id, Body: json.RawMessage(`{"n":1,"s":"ä\u0000\"' $1 ?"}`),
		CreatedAt: start, UpdatedAt: start, UpdatedBy: "token:ci", Reason: "because",
	}
}

func (e *env) inserted(t testing.TB, o *store.Object) *store.Object {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Insert(ctx, o) })
	return o
}

func (e *env) sandbox(org string) *core.Sandbox {
	id := e.id("sandbox")
	return &core.Sandbox{
		ID: id, OrgID: org, RunnerUUID: "uuid-r1", RunnerID: "r1", RunnerRevision: 3, ProfileID: "uuid-p1", ProfileName: "agent", ProfileRevision: 4,
		ZoneName: "us-east", ZoneRevision: 5, Status: core.StatusPending, Observation: core.ObservationCurrent, Tags: []string{"team", "ci"},
		CreatedBy: "token:ci", UserID: "user-1", CreatedAt: start, ExpiresAt: start.Add(time.Hour),
		Reserved: core.Amounts{CPUMillis: 500, MemoryBytes: 1 << 30, Sandboxes: 1}, CPULimitMillis: 2000, Digest: "sha256:ab",
		Decision: json.RawMessage(`{"layers":[1,2,3],"text":"ü$1"}`),
		Service:  &core.Service{Mode: "internal", Ports: []core.ServicePort{{ContainerPort: 53, Protocol: "UDP"}}},
		Launch:   &specpb.Launch{ContainerImage: "python:3.11", Command: "sleep", Args: []string{"1", ""}, EnvironmentVariables: map[string]string{"A": "b", "C": ""}},
		Timeline: []core.Event{{Name: "accepted", At: start, Attrs: map[string]string{"k": "v"}}, {Name: "planned", At: start.Add(time.Nanosecond), Message: "m"}},
	}
}

func (e *env) launched(t testing.TB, s *core.Sandbox) *core.Sandbox {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertSandbox(ctx, s) })
	return s
}

// within fails the test when fn does not return in time.
func within(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(waitLimit):
		t.Fatalf("%s: not within %v", what, waitLimit)
	}
}
