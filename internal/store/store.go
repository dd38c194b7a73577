// Package store is the persistence contract. One implementation, sqlstore, speaks one SQL text to SQLite and PostgreSQL;
// storetest is the contract suite that both engines pass. There is no in-memory store: a SQLite file in a temporary
// directory is the fake.
package store

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
)

// Kind names a kind of configuration object. All kinds share one table and one code path.
type Kind string

// The kinds.
const (
	KindZone    Kind = "zone"
	KindProfile Kind = "profile"
	KindRunner  Kind = "runner"
	// KindTests are the policy tests of a profile, by its name.
	KindTests Kind = "tests"
)

// What a Change is about, besides the kinds of configuration objects.
const (
	ChangeSandbox = "sandbox"
	ChangeOrg     = "org"
	ChangeToken   = "token"
	ChangeLease   = "lease"
)

// Kinds of rows of the audit that are in no change log: nobody keeps copies of what they tell of.
const (
	AuditSecretStore = "secret_store"
	AuditSecret      = "secret"
)

// Limits of the store.
const (
	// MaxBody is the largest body of a configuration object, in bytes.
	MaxBody = 1 << 20
	// MaxPage is the largest page of a list.
	MaxPage = 1000
	// MaxText is the longest id, name, tag or other text that is looked up, MaxNote the longest of another kind, such as
	// a reason, in bytes.
	MaxText = 512
	MaxNote = 16 << 10
	// MaxDecision is the largest decision kept with a sandbox, MaxTimeline the largest timeline as JSON, in bytes.
	MaxDecision = 8 << 20
	MaxTimeline = 256 << 10
	// MaxSubmitted is the largest object submitted that is kept with a sandbox, in bytes: what an API server would take.
	MaxSubmitted = 1 << 20
	// MaxTags is how many tags a sandbox has at most, MaxFilterTags how many a filter asks for, MaxAlternatives how many
	// values another field of a filter has.
	MaxTags         = 256
	MaxFilterTags   = 16
	MaxAlternatives = 64
	// MaxSecret is the largest secret as it is kept, encrypted, and MaxSecretFields the names of its fields together, in bytes.
	MaxSecret       = 1 << 20
	MaxSecretFields = 16 << 10
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

// Page asks for a part of a list. Lists are ordered by name (configuration) or newest first (sandboxes, revisions).
type Page struct {
	// Size is 1 to MaxPage. After continues behind the element with this key ("" from the start). A key is what a list
	// returned and only names a position: one of another organization reveals nothing, one that no list can have
	// returned is Invalid, PAGE_TOKEN_INVALID.
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
	// Concurrent is how many have not ended, StartsLastMin how many were created in the minute up to now.
	Concurrent    int64
	StartsLastMin int64
	// VCPUMillisHours is the CPU limit (one CPU where there is none) times the running time of the 24 hours up to now, in
	// thousandths of a vCPU hour, rounded down.
	VCPUMillisHours int64
}

// UsageSubject is whose usage is counted. Empty fields do not restrict.
type UsageSubject struct {
	OrgID, ProfileID, UserID string
}

// Server is one of the servers that share the store.
type Server struct {
	ID string
	// Address is the HOST:PORT where runners reach it and no other, "" for none.
	Address string
	// HeardAt is when it last said that it is there, by its own clock.
	HeardAt time.Time
}

// AuditFilter selects rows of an audit chain. Empty fields select all.
type AuditFilter struct {
	// Since is inclusive, Until is not.
	Since, Until time.Time
	// Actor, Method, ObjectID and Outcome are exact.
	Actor, Method, ObjectID, Outcome string
}

// Owner says which set of files an object of the configuration belongs to, and who gave it to that set. It is no part of the object: it
// has no revisions.
type Owner struct {
	Kind Kind
	ID   string
	// Owner is the name of the set.
	Owner string
	By    string
	At    time.Time
}

// SecretStore is a store of secrets. What it knows is nothing that opens one.
type SecretStore struct {
	ID, OrgID string
	// Name is unique in the organization.
	Name     string
	Provider string
	// KeyID names the key that WrappedKey, the store's own, is wrapped by.
	KeyID, WrappedKey    string
	CreatedAt, UpdatedAt time.Time
	CreatedBy            string
}

// Secret is what a store has at a path.
type Secret struct {
	OrgID, StoreID, Path string
	// Version is one of the store's, see Tx.NextSecretVersion.
	Version int64
	Fields  []string
	// Sealed is encrypted.
	Sealed               []byte
	CreatedAt, UpdatedAt time.Time
	UpdatedBy            string
}

// SecretKey counts the stores that are under a key.
type SecretKey struct {
	ID     string
	Stores int64
}

// Reader reads one consistent state. Missing things are fault.NotFound; so are those of another organization. What is
// returned belongs to the caller.
type Reader interface {
	Object(ctx context.Context, kind Kind, orgID, id string) (*Object, error)
	ObjectByName(ctx context.Context, kind Kind, orgID, name string) (*Object, error)
	// Objects lists live objects by name; the second result is the key to continue after, "" at the end.
	Objects(ctx context.Context, kind Kind, orgID string, p Page) ([]*Object, string, error)
	// ObjectRevision returns one revision, also of a deleted object; Revisions lists them, newest first.
	ObjectRevision(ctx context.Context, kind Kind, orgID, id string, revision int32) (*Object, error)
	Revisions(ctx context.Context, kind Kind, orgID, id string, p Page) ([]*Object, string, error)

	// Owners lists those that SetOwner wrote, of objects that are there, by kind and id.
	Owners(ctx context.Context, orgID string) ([]Owner, error)

	Sandbox(ctx context.Context, orgID, id string) (*core.Sandbox, error)
	// Sandboxes lists by creation, newest first. Decision and Launch are not loaded. An empty OrgID is Invalid. Where several
	// filters are large by themselves, a page may be short, even empty, and have a position to go on from.
	Sandboxes(ctx context.Context, f SandboxFilter, p Page) ([]*core.Sandbox, string, error)
	// Submitted returns what PutSubmitted wrote, nil when nothing was.
	Submitted(ctx context.Context, orgID, id string) (json.RawMessage, error)
	CountLive(ctx context.Context, runnerUUID string) (int64, error)
	// Reserved returns what is counted as used on a runner: Reserve minus Release, nothing for an unknown runner.
	Reserved(ctx context.Context, runnerUUID string) (core.Amounts, error)
	// HeardAt returns what Heard wrote last for a runner, zero for none.
	HeardAt(ctx context.Context, runnerUUID string) (time.Time, error)
	// BusyAt returns the latest times that Busy wrote for these sandboxes, without those that have none.
	BusyAt(ctx context.Context, sandboxIDs ...string) (map[string]time.Time, error)
	// Servers lists those that PutServer wrote and nobody removed, by id.
	Servers(ctx context.Context) ([]Server, error)
	// Pending lists the sandboxes of all organizations that are PENDING. Decision and Launch are not loaded.
	Pending(ctx context.Context) ([]*core.Sandbox, error)
	Usage(ctx context.Context, s UsageSubject, now time.Time) (Usage, error)
	// Unfinished lists the sandboxes of all organizations that have not ended on a runner, oldest first, for recovery.
	// Decision and Launch are not loaded.
	Unfinished(ctx context.Context, runnerUUID string) ([]*core.Sandbox, error)
	// EndedBefore lists at most MaxPage sandboxes of an organization whose end was written before a time, the first that ended
	// first, with everything but Decision and Launch.
	EndedBefore(ctx context.Context, orgID string, before time.Time) ([]*core.Sandbox, error)

	Org(ctx context.Context, id string) (*core.Org, error)
	OrgByName(ctx context.Context, name string) (*core.Org, error)
	// Orgs lists all by name.
	Orgs(ctx context.Context) ([]*core.Org, error)
	// TokenByHash returns the token also when it is revoked or has expired: the caller has the clock.
	TokenByHash(ctx context.Context, hash string) (*core.Token, error)
	// TokenByID is TokenByHash by id, of any organization.
	TokenByID(ctx context.Context, id string) (*core.Token, error)
	// Tokens lists those of an organization by name, also the revoked.
	Tokens(ctx context.Context, orgID string) ([]*core.Token, error)
	// SecretStore returns a store by name. SecretStores lists them by name.
	SecretStore(ctx context.Context, orgID, name string) (*SecretStore, error)
	SecretStores(ctx context.Context, orgID string, p Page) ([]*SecretStore, string, error)
	// Secret returns what is at a path, Secrets lists by path, without Sealed, and CountSecrets says how many there are.
	Secret(ctx context.Context, orgID, storeID, path string) (*Secret, error)
	Secrets(ctx context.Context, orgID, storeID string, p Page) ([]*Secret, string, error)
	CountSecrets(ctx context.Context, orgID, storeID string) (int64, error)
	// SecretKeys lists the keys that stores of any organization are under, SecretStoresUnder the stores of one.
	SecretKeys(ctx context.Context) ([]SecretKey, error)
	SecretStoresUnder(ctx context.Context, keyID string) ([]*SecretStore, error)
	// Lease returns a lease, also one that has ended.
	Lease(ctx context.Context, orgID, id string) (*core.Lease, error)
	// Leases lists the leases of an organization, or with an empty OrgID of all, that have not ended, by id.
	Leases(ctx context.Context, orgID string) ([]*core.Lease, error)
	// LastChange is a sequence number such that Changes after it yields every change that this state does not have. It may
	// yield some that it has. 0 is before the first change.
	LastChange(ctx context.Context) (int64, error)

	// AuditChain returns where a chain begins and ends: nothing for one that has no row. AuditChains lists all by name.
	AuditChain(ctx context.Context, chain string) (audit.Chain, error)
	AuditChains(ctx context.Context) ([]audit.Chain, error)
	// AuditRows lists rows of a chain, newest first. With a filter a page may be short, even empty, and have a position to go on from.
	AuditRows(ctx context.Context, chain string, f AuditFilter, p Page) ([]audit.Sealed, string, error)
	// AuditAfter returns the next n rows of a chain behind one, oldest first, n being 1 to MaxPage.
	AuditAfter(ctx context.Context, chain string, seq int64, n int) ([]audit.Sealed, error)
}

// Tx reads and writes in one transaction. Every write of an object, a sandbox, an organization, a token or a lease also appends to
// the change log; the counts of capacity, owners, secrets, Heard, Busy, renewals and what is of servers are not in it. Every write of an object, an
// organization, a token, a secret store, a secret and a lease, and every new sandbox, also appends a row to the audit, which says of the call what
// ctx knows (audit.Of).
//
// Transactions are serializable as far as they read configuration or Usage: what they read cannot change before they
// commit. A sandbox that was read is only written if its revision is still current. A refusal (a fault that is described
// here) leaves the transaction usable; any other error makes it fail as a whole.
//
// Where a method counts a revision of the value given, the value has the old one again if the transaction does not commit.
type Tx interface {
	Reader
	// Insert writes revision 1 (and sets it). A live object with the same name or the same Unique, or an object that ever
	// had the ID: Exists.
	Insert(ctx context.Context, o *Object) error
	// Update writes o as the revision after o.Revision (which it sets); another current revision: Conflict. Name, Unique and
	// CreatedAt never change: another Name or Unique is Invalid.
	Update(ctx context.Context, o *Object) error
	// Delete appends a deleted revision with the last body, and UpdatedAt, UpdatedBy and Reason of o. It sets o.Revision and
	// o.Deleted. Another current revision: Conflict. The name and Unique are free again.
	Delete(ctx context.Context, o *Object) error
	// SetOwner gives an object to a set, also one that belongs to another, and appends a row of kind "owner" to the audit. One that does
	// not exist: NotFound.
	SetOwner(ctx context.Context, orgID string, o Owner) error
	// AssertCurrent fails with Conflict unless every ref is live at its revision, and stays so until this transaction
	// commits. A Ref with revision 0 asserts that no live object of that kind has the name in ID.
	AssertCurrent(ctx context.Context, refs []Ref) error

	// SetCapacity makes the capacity of a runner known, and counts what is used anew from its live sandboxes. Reserve adds
	// to what is used if every amount that it adds stays within the capacity; else, or when the capacity is not known, it
	// changes nothing and returns false. Release takes back. Negative amounts are Invalid.
	SetCapacity(ctx context.Context, runnerUUID string, capacity core.Amounts) error
	Reserve(ctx context.Context, runnerUUID string, a core.Amounts) (bool, error)
	Release(ctx context.Context, runnerUUID string, a core.Amounts) error

	// Heard notes that somebody was in contact with runners at a time. One that is not later than what is there counts as just after that: who
	// looks sees that it is news, whoever's clock is behind.
	Heard(ctx context.Context, runnerUUIDs []string, at time.Time) error

	// ForgetContacts removes what Heard and HoldLine wrote of runners that are no more.
	ForgetContacts(ctx context.Context) error

	// Busy notes that there was traffic of a sandbox that has not ended; of another it notes nothing. An earlier time than the one that
	// is there changes nothing.
	Busy(ctx context.Context, sandboxID string, at time.Time) error
	// PutServer writes a server, also over what is there of it.
	PutServer(ctx context.Context, s Server) error
	// RemoveServer removes a server that did not say that it is there since, with its lines, and reports whether it did.
	RemoveServer(ctx context.Context, s Server) (bool, error)
	// HoldLine notes that a server has a line to a process of a runner. While another server has one to another process, it changes
	// nothing and returns that server and false. Two at once come one after the other.
	HoldLine(ctx context.Context, runnerUUID, serverID, instance string) (other string, held bool, err error)
	// DropLine notes that a server has no line to a runner any more.
	DropLine(ctx context.Context, runnerUUID, serverID string) error
	// DropLines notes that a server has no lines any more.
	DropLines(ctx context.Context, serverID string) error

	// InsertSandbox writes a sandbox with everything it was decided from, at revision 1 (which it sets). An id in use: Exists.
	InsertSandbox(ctx context.Context, s *core.Sandbox) error
	// UpdateSandbox writes the mutable part (status, reason, observation, exit code, times, timeline, server) if s.Revision is
	// current, and sets the next one; else Conflict. A terminal row is never changed: Precondition.
	UpdateSandbox(ctx context.Context, s *core.Sandbox) error
	// PutSubmitted keeps the JSON object that a backend gave to what runs the sandbox. The first one stays; a sandbox that is not
	// there has none. It is no change of the sandbox.
	PutSubmitted(ctx context.Context, orgID, id string, object json.RawMessage) error
	// DeleteSandbox removes a sandbox that has ended, with its record. One that has not: Precondition.
	DeleteSandbox(ctx context.Context, orgID, id string) error

	// InsertOrg: an id or name in use is Exists.
	InsertOrg(ctx context.Context, o *core.Org) error
	// InsertToken: an unknown organization is NotFound, an id or hash in use Exists.
	InsertToken(ctx context.Context, t *core.Token) error
	// RevokeToken sets when a token was revoked; the first time stays. A token of another organization is NotFound.
	RevokeToken(ctx context.Context, orgID, id string, at time.Time) error

	// InsertSecretStore: a name or id in use is Exists, and more than most stores in the organization are Exhausted.
	InsertSecretStore(ctx context.Context, s *SecretStore, most int64) error
	// DeleteSecretStore removes a store with its secrets, of which nothing can be read any more then: its key goes with it.
	DeleteSecretStore(ctx context.Context, orgID, name string) error
	// NextSecretVersion returns the next version of a store, which comes once, and keeps others from writing to it until this
	// transaction commits.
	NextSecretVersion(ctx context.Context, orgID, storeID string, at time.Time) (int64, error)
	// PutSecret writes a secret over what is at its path. CreatedAt stays, and is set.
	PutSecret(ctx context.Context, s *Secret, storeName string) error
	DeleteSecret(ctx context.Context, s *Secret, storeName string) error
	// RewrapSecretStore replaces the wrapped key of a store, and reports whether it was still the one that s has.
	RewrapSecretStore(ctx context.Context, s *SecretStore, keyID, wrapped string) (bool, error)

	// InsertLease writes a lease, with a row of the audit. More than core.MaxLeases that have not ended: Exhausted.
	InsertLease(ctx context.Context, l *core.Lease) error
	// RenewLease counts a renewal, and reports false, doing nothing, for a lease that has ended or never was. It is in no change log and
	// no audit.
	RenewLease(ctx context.Context, orgID, id string) (bool, error)
	// EndLease gives a lease a final state, with a row of the audit, unless it has one. With an expired one, l.Renewals must be current: who
	// ends a lease has seen the last renewal. It reports whether it did.
	EndLease(ctx context.Context, l *core.Lease, state core.LeaseState, at time.Time) (bool, error)
	// ForgetLeases removes leases that ended before a time.
	ForgetLeases(ctx context.Context, before time.Time) error

	// Audit appends a row that tells of something else to a chain.
	Audit(ctx context.Context, chain string, r audit.Row) error
}

// Change is one entry of the change log, the source of truth for watches.
type Change struct {
	// Seq grows with every change; gaps mean nothing.
	Seq int64
	// Kind is a Kind, ChangeSandbox, ChangeOrg, ChangeToken or ChangeLease. OrgID is that of the organization itself for ChangeOrg.
	Kind, OrgID, ID string
	Revision        int64
	Deleted         bool
	At              time.Time
}

// Store is the port. Methods are safe for concurrent use. Driver errors come as faults: Unavailable (full, read-only, locked
// too long, connection lost: STORE_UNAVAILABLE) or Internal (corrupt).
type Store interface {
	// View runs fn on one consistent state. The Reader is not for concurrent use, and not for use after fn.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn in a transaction and commits durably before it returns nil; fn may run again when the engine asks to
	// retry, so it must not have other effects. Concurrent updates may share one commit; an error or panic of one never
	// undoes another, and none returns before the commit of what it may have read. A ctx that ends before fn starts is
	// honoured; once all of fn has succeeded the commit is not abandoned. fn must not call Update: it would wait for itself.
	// An error at the commit itself (Unavailable) does not say whether it took effect.
	Update(ctx context.Context, fn func(Tx) error) error
	// Changes yields committed changes after seq, in an order in which a reader who stores the last seq it saw loses none,
	// and waits for more until ctx ends, which ends the sequence without an error. Any error ends it too. A seq that the
	// log has not reached is OutOfRange: it comes from another store.
	Changes(ctx context.Context, after int64) iter.Seq2[Change, error]
	// SealAudit gives the rows of the audit that were committed before it was called their place in their chains, which they also get by
	// themselves soon. Rows get their place in no other order than that in which the same object was written.
	SealAudit(ctx context.Context) error
	// PruneAudit drops the oldest rows of a chain: those from before a time up to the first that is not, and those that are more than
	// most. The last that was dropped becomes the chain's anchor, and a row of the chain says so. It returns how many it dropped.
	PruneAudit(ctx context.Context, chain string, before time.Time, most int64) (int64, error)
	// Ready reports whether reads and writes work.
	Ready(ctx context.Context) error
	Close() error
}
