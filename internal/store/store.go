// Package store is the persistence contract. One implementation, sqlstore, speaks one SQL text to SQLite and PostgreSQL;
// storetest is the contract suite that both engines pass. There is no in-memory store: a SQLite file in a temporary
// directory is the fake.
package store

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/bermhq/berm/internal/core"
)

// Kind names a kind of configuration object. All kinds share one table and one code path.
type Kind string

// The kinds.
const (
	KindZone    Kind = "zone"
	KindProfile Kind = "profile"
	KindRunner  Kind = "runner"
)

// Limits of the store.
const (
	// MaxBody is the largest body of a configuration object, in bytes.
	MaxBody = 1 << 20
	// MaxPage is the largest page of a list.
	MaxPage = 1000
)

// Object is one configuration object at one revision. Body is canonical JSON, made and read by internal/control.
type Object struct {
	Kind  Kind
	OrgID string
	// ID is a UUID. Name is unique among the live objects of org and kind.
	ID, Name string
	// Unique is a second unique value among the live objects of org and kind, "" for none (a runner's cluster identity).
	Unique    string
	Revision  int32
	Body      json.RawMessage
	CreatedAt time.Time
	UpdatedAt time.Time
	UpdatedBy string
	Reason    string
	// Deleted marks the last revision of a deleted object. Revisions outlive the object.
	Deleted bool
}

// Ref is an object at the revision that a decision was made from.
type Ref struct {
	Kind     Kind
	OrgID    string
	ID       string
	Revision int32
}

// Page asks for a part of a list. Lists are ordered by name (configuration) or newest first (sandboxes).
type Page struct {
	// Size is 1 to MaxPage. After continues behind the element with this key ("" from the start).
	Size  int
	After string
}

// SandboxFilter selects sandboxes. Empty fields select all; lists within a field are alternatives, tags are all required.
type SandboxFilter struct {
	OrgID        string
	Tags         []string
	Statuses     []core.Status
	ProfileNames []string
	RunnerIDs    []string
	RunnerUUID   string
	// IncludeEnded also selects terminal sandboxes.
	IncludeEnded bool
}

// Usage counts launches for usage guardrails.
type Usage struct {
	Concurrent      int64
	StartsLastMin   int64
	VCPUMillisHours int64
}

// UsageSubject is whose usage is counted. Empty fields do not restrict.
type UsageSubject struct {
	OrgID, ProfileID, UserID string
}

// Reader reads one consistent state. Missing things are fault.NotFound; so are those of another organization.
type Reader interface {
	Object(ctx context.Context, kind Kind, orgID, id string) (*Object, error)
	ObjectByName(ctx context.Context, kind Kind, orgID, name string) (*Object, error)
	// Objects lists live objects by name; the second result is the key to continue after, "" at the end.
	Objects(ctx context.Context, kind Kind, orgID string, p Page) ([]*Object, string, error)
	// ObjectRevision returns one revision, also of a deleted object; Revisions lists them, newest first.
	ObjectRevision(ctx context.Context, kind Kind, orgID, id string, revision int32) (*Object, error)
	Revisions(ctx context.Context, kind Kind, orgID, id string, p Page) ([]*Object, string, error)

	Sandbox(ctx context.Context, orgID, id string) (*core.Sandbox, error)
	// Sandboxes lists by creation, newest first. Decision and Launch are not loaded.
	Sandboxes(ctx context.Context, f SandboxFilter, p Page) ([]*core.Sandbox, string, error)
	CountLive(ctx context.Context, runnerUUID string) (int64, error)
	// Reserved returns what the live sandboxes of a runner have reserved.
	Reserved(ctx context.Context, runnerUUID string) (core.Amounts, error)
	Usage(ctx context.Context, s UsageSubject, now time.Time) (Usage, error)
	// Unfinished lists the sandboxes of all organizations that have not ended on a runner, for recovery.
	Unfinished(ctx context.Context, runnerUUID string) ([]*core.Sandbox, error)

	Org(ctx context.Context, id string) (*core.Org, error)
	OrgByName(ctx context.Context, name string) (*core.Org, error)
	Orgs(ctx context.Context) ([]*core.Org, error)
	TokenByHash(ctx context.Context, hash string) (*core.Token, error)
	Tokens(ctx context.Context, orgID string) ([]*core.Token, error)
	// LastChange is the sequence number of the newest visible change, 0 for none.
	LastChange(ctx context.Context) (int64, error)
}

// Tx reads and writes in one transaction. Every write also appends to the change log.
type Tx interface {
	Reader
	// Insert writes revision 1. A live object with the same name: Exists; with the same Unique: Exists.
	Insert(ctx context.Context, o *Object) error
	// Update writes o as the revision after o.Revision (which it sets); another current revision: Conflict.
	Update(ctx context.Context, o *Object) error
	// Delete appends a deleted revision.
	Delete(ctx context.Context, o *Object) error
	// AssertCurrent fails with Conflict unless every ref is live at its revision. A Ref with revision 0 asserts that no live
	// object of that kind has the name in ID.
	AssertCurrent(ctx context.Context, refs []Ref) error

	// SetCapacity makes the capacity of a runner known. Reserve adds to what is used if it stays within it (false if not),
	// Release takes back.
	SetCapacity(ctx context.Context, runnerUUID string, capacity core.Amounts) error
	Reserve(ctx context.Context, runnerUUID string, a core.Amounts) (bool, error)
	Release(ctx context.Context, runnerUUID string, a core.Amounts) error

	InsertSandbox(ctx context.Context, s *core.Sandbox) error
	// UpdateSandbox writes the mutable part (status, reason, observation, exit code, times, timeline) if s.Revision is
	// current, else Conflict. A terminal row is never changed: Precondition.
	UpdateSandbox(ctx context.Context, s *core.Sandbox) error
	DeleteSandbox(ctx context.Context, orgID, id string) error

	InsertOrg(ctx context.Context, o *core.Org) error
	InsertToken(ctx context.Context, t *core.Token) error
	RevokeToken(ctx context.Context, orgID, id string, at time.Time) error
}

// Change is one entry of the change log, the source of truth for watches.
type Change struct {
	// Seq grows with every change; gaps mean nothing.
	Seq int64
	// Kind is a Kind or "sandbox".
	Kind, OrgID, ID string
	Revision        int64
	Deleted         bool
	At              time.Time
}

// Store is the port. Methods are safe for concurrent use. Driver errors come as faults: Unavailable (full, read-only, locked
// too long, connection lost: STORE_UNAVAILABLE) or Internal (corrupt).
type Store interface {
	// View runs fn on one consistent state.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn in a transaction and commits durably before it returns nil; fn may run again when the engine asks to
	// retry, so it must not have other effects. Concurrent updates may share one commit; an error of one never undoes another.
	Update(ctx context.Context, fn func(Tx) error) error
	// Changes yields committed changes after seq, in an order in which a reader who stores the last seq it saw loses none,
	// and waits for more until ctx ends.
	Changes(ctx context.Context, after int64) iter.Seq2[Change, error]
	// Ready reports whether reads and writes work.
	Ready(ctx context.Context) error
	Close() error
}
