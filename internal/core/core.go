// Package core holds the nouns of the product: zones, profiles, runners with their bindings, sandboxes, organizations and
// tokens. They are plain values. The packages below decide about them: spec (what a spec is), resolve (which value wins
// and why), guard (what may not be), place (where it could run), plan (all of it for one launch).
//
// Nothing under core does I/O, reads a clock, draws random numbers or logs; arch_test.go proves it.
package core

import (
	"time"

	"github.com/bermhq/berm/internal/core/spec"
)

// Meta is what every configuration object carries. Its revisions are append-only: Revision counts from 1 and names one
// immutable state of the object.
type Meta struct {
	// ID is a UUID made by the server.
	ID string
	// OrgID owns the object. An object of another organization behaves exactly like a missing one.
	OrgID string
	// Revision is that of this state.
	Revision int32
	// CreatedAt is when revision 1 was written, UpdatedAt when this one was.
	CreatedAt, UpdatedAt time.Time
	// UpdatedBy is the actor who wrote this revision, Reason what they gave as the reason.
	UpdatedBy, Reason string
}

// Zone carries the zone defaults, layer 1.
type Zone struct {
	Meta
	// Name is unique in the organization.
	Name string
	// Defaults is a partial spec; nil is none.
	Defaults *spec.Layer
}

// Profile says what a sandbox may be. It has no effect until bound.
type Profile struct {
	Meta
	// DisplayName is unique in the organization, immutable and not UUID-shaped.
	DisplayName string
	Description string
	Labels      map[string]string
	// Spec is layer 2; never nil, may be empty.
	Spec *spec.Layer
}

// Binding attaches a profile to the runner that holds it.
type Binding struct {
	// ProfileID is the UUID of the profile.
	ProfileID string
	// Alias is the profile_name given, "" when the profile's display name serves.
	Alias string
	// Default says that a launch which names no profile gets this binding. Exactly one binding of a runner has it.
	Default bool
	// Overrides is layer 3; nil when the binding has none, which is not the same as an empty object.
	Overrides *spec.Layer
	// Warm is how many sandboxes are kept prepared for launches from it, at most MaxWarmSize.
	Warm int32
}

// Runner runs sandboxes on one cluster, or on this machine.
type Runner struct {
	Meta
	// RunnerID is the operator's name, unique in the organization, immutable.
	RunnerID    string
	DisplayName string
	// Zone names the zone whose defaults are layer 1; a name without a zone object has the built-in defaults.
	Zone string
	// ClusterID and ClusterName identify the cluster; exactly one was given. Immutable.
	ClusterID, ClusterName string
	GroupID                string
	// Managed is the rest of the managed spec.
	Managed ManagedSpec
	// Deployment is what is wanted of its process besides the overrides.
	Deployment Deployment
	// Bindings is never empty; order is kept for display and means nothing.
	Bindings []Binding
	// Cordon, when not nil, keeps new sandboxes away. Those that run go on.
	Cordon *Cordon
	// DeletingSince is set once deletion began.
	DeletingSince *time.Time
}

// Cordon says who keeps new sandboxes away from a runner, since when and why.
type Cordon struct {
	By string
	At time.Time
	// Reason may be empty.
	Reason string
}

// String says it in words, for the reason of a refusal.
func (c *Cordon) String() string {
	text := "cordoned by " + c.By + " at " + c.At.UTC().Format(time.RFC3339)
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}

// ManagedSpec is the operator's configuration of a runner. CPURuntimeClass and GPURuntimeClass belong to layer 1.
type ManagedSpec struct {
	ReleaseChannel                   string
	AllowPrivilegedProfileAnnotation bool
	EnforceResourceLimits            bool
	CPURuntimeClass, GPURuntimeClass string
	// MaintenancePolicy and Overrides are the canonical JSON of their wire messages, which package rollout reads.
	MaintenancePolicyJSON, OverridesJSON string
}

// Deployment is what is wanted of the process of a runner, besides the overrides. It is no part of the managed spec: it counts what that
// and the releases applied have come to.
type Deployment struct {
	// Revision counts what was wanted; 0 stands for 1, the deployment as it was installed.
	Revision int32
	// Version and Image are those of the release that was applied last, empty for what was installed.
	Version, Image string
	// ByPolicy says that the maintenance policy applied it, and not a person: it is rolled out when the policy lets it.
	ByPolicy bool
}

// Target returns the revision that is wanted.
func (d Deployment) Target() int32 { return max(d.Revision, 1) }

// BindingName returns the name that a binding of p is selected by.
func (b Binding) BindingName(p *Profile) string {
	if b.Alias != "" {
		return b.Alias
	}
	return p.DisplayName
}

// Role says what a token may do. RoleAdmin implies RoleUser.
type Role string

// The roles.
const (
	// RoleUser reads runners and profiles and runs sandboxes.
	RoleUser Role = "user"
	// RoleAdmin also changes configuration and tokens of its organization.
	RoleAdmin Role = "admin"
	// RoleOperator also makes organizations. Only the token of the data directory has it.
	RoleOperator Role = "operator"
	// RoleEnrol is that of a token which a runner exchanges, once, for a credential. It allows nothing else.
	RoleEnrol Role = "enrol"
	// RoleRunner is that of a runner's credential: it opens its line, and allows nothing else.
	RoleRunner Role = "runner"
)

// Org is an organization, which owns everything else.
type Org struct {
	ID        string
	Name      string
	CreatedAt time.Time
}

// Token is an API token. The secret itself is never stored.
type Token struct {
	ID    string
	OrgID string
	Name  string
	Role  Role
	// Hash is SHA-256 of the secret, in hex.
	Hash      string
	CreatedAt time.Time
	CreatedBy string
	// ExpiresAt and RevokedAt are zero when not set.
	ExpiresAt, RevokedAt time.Time
	// RunnerUUID is the runner that a token with the roles enrol and runner is for, Identity the cluster or machine that got a
	// credential. Both are empty otherwise.
	RunnerUUID, Identity string
}

// Principal is who calls.
type Principal struct {
	OrgID   string
	TokenID string
	// Actor names the caller in revisions and audit: "token:NAME".
	Actor string
	Role  Role
	// LeaseID is the lease that the caller's launches live under unless they name another, "" for none.
	LeaseID string
}

// Allows reports whether the principal has at least the role.
func (p Principal) Allows(r Role) bool {
	rank := map[Role]int{RoleUser: 1, RoleAdmin: 2, RoleOperator: 3}
	return rank[p.Role] >= rank[r] && rank[r] > 0
}
