package core

import "time"

// Limits of leases.
const (
	// MinLeaseTTL and MaxLeaseTTL bound the time within which a lease has to be renewed, MaxLeaseGrace the time after that.
	MinLeaseTTL   = 10 * time.Second
	MaxLeaseTTL   = 24 * time.Hour
	MaxLeaseGrace = 24 * time.Hour
	// DefaultLeaseTTL and DefaultLeaseGrace are those of a lease that says nothing.
	DefaultLeaseTTL   = time.Minute
	DefaultLeaseGrace = time.Minute
	// MaxLeases is how many leases an organization has at a time that have not ended.
	MaxLeases = 10_000
	// MaxPurpose is the longest purpose of a lease or a sandbox, in bytes.
	MaxPurpose = 512
)

// LeaseState says how a lease stands.
type LeaseState string

// The states. LOST is never stored: it is what silence makes of ACTIVE, and a renewal ends it.
const (
	LeaseActive LeaseState = "ACTIVE"
	// LeaseLost: it was not renewed in time. When the grace is over, it has expired.
	LeaseLost LeaseState = "LOST"
	// LeaseExpired: it was not renewed within the grace either. Its sandboxes are stopped.
	LeaseExpired LeaseState = "EXPIRED"
	// LeaseReleased: its holder gave it back, and its sandboxes are stopped.
	LeaseReleased LeaseState = "RELEASED"
	// LeaseDropped: its holder gave it back, and its sandboxes go on without one.
	LeaseDropped LeaseState = "DROPPED"
)

// Ended reports whether s is final.
func (s LeaseState) Ended() bool {
	return s == LeaseExpired || s == LeaseReleased || s == LeaseDropped
}

// Lease is what keeps sandboxes alive for as long as somebody renews it.
type Lease struct {
	ID, OrgID string
	// Purpose is what the holder says it is for. CreatedBy is the actor, UserID the token's id.
	Purpose, CreatedBy, UserID string
	// TTL is within which time it is to be renewed, Grace how much longer its sandboxes stay when it is not.
	TTL, Grace time.Duration
	CreatedAt  time.Time
	// State is ACTIVE or a final one; EndedAt is zero until then.
	State   LeaseState
	EndedAt time.Time
	// Renewals counts the renewals that were written. Clocks of servers are not compared: who looks sees that it is another number.
	Renewals int64
}
