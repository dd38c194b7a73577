// Package plan decides one launch: which runner, which binding, what the layers resolve to, and why nothing else. It
// composes resolve, guard and place over a snapshot, and it is pure: dry run, explain and the launch itself are the same
// function, and the launch transaction only asserts that the revisions it was made from are still current.
//
// How a binding is chosen: names in the order given, then ids; per runner the first that admits wins. A request that names
// none gets the runner's default binding and never another one; its refusal says which others would have admitted it. What
// "admits" means does not depend on how full a runner is: a full one is no reason to give a sandbox another profile.
//
// A profile name that no runner binds is passed over while another one is bound, because a list of names is an order of
// preference and profiles are moved from runner to runner. A runner id that does not exist is always refused: a list of
// runners restricts, and a mistake in it would silently restrict further.
package plan

import (
	"encoding/json"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/place"
	"github.com/bermhq/berm/internal/core/resolve"
)

// Limits of a plan.
const (
	// MaxCandidates is how many candidates a plan or a refusal lists.
	MaxCandidates = 256
	// MaxRecorded is how many of them are stored with a sandbox.
	MaxRecorded = 24
)

// Reason is why a candidate is not the chosen one.
type Reason = place.Reason

// Candidate is one runner and binding that was considered. A runner that is out whatever the binding has one candidate
// without a profile name.
type Candidate struct {
	RunnerID, ProfileName string
	Chosen                bool
	// Score is comparable within one decision; 0 for a candidate that cannot run the sandbox.
	Score float64
	// Reasons is empty exactly for the chosen one.
	Reasons []Reason
}

// Ref is an object at the revision that a plan was made from.
type Ref struct {
	// Kind is "zone", "profile" or "runner".
	Kind string `json:"kind"`
	// ID is a UUID. With Revision 0 it is a name, and the plan relies on no object having it.
	ID       string `json:"id"`
	Revision int32  `json:"revision"`
}

// Plan is a decision to run a sandbox. It is immutable.
type Plan struct {
	Runner  *Runner
	Binding *Binding
	// Launch is the request, RequestLayer its layer 4.
	Launch       *specpb.Launch
	RequestLayer resolve.Input
	// Resolved is the fold of all layers; Resolved.Inputs lists them. Digest identifies it.
	Resolved *resolve.Resolved
	Digest   string
	// Candidates lists everything that was considered: the chosen one, then those that could have run it, the best first,
	// then the others by runner. Omitted counts what is beyond MaxCandidates.
	Candidates []Candidate
	Omitted    int
	// Steps are the runner groups in the order of the profile, empty when it has none. Hold is set while a group before that of the
	// chosen runner lacks only room and the launch may wait for some.
	Steps []Step
	Hold  *Hold
	// Reserve is what the sandbox counts against the capacity of the runner.
	Reserve core.Amounts
	// Refs are the revisions that must still be current when the launch commits.
	Refs []Ref
	// LifetimeSeconds is when the sandbox is stopped, 0 for never.
	LifetimeSeconds int32
	// IdleSeconds is after how long without traffic it is stopped, 0 for never.
	IdleSeconds int32
	// EgressMode and IngressMode are the modes in force; no ingress mode means no service.
	EgressMode, IngressMode string
	// UsageChecks must hold for the counters that the launch transaction reads.
	UsageChecks []UsageCheck

	stack    *stack
	specJSON []byte
}

// Layers returns the inputs of the fold, lowest first, the request's last.
func (p *Plan) Layers() []resolve.Input { return p.Resolved.Inputs() }

// Refusal is why a launch is not admitted: the Detail of the fault that Make returns.
type Refusal struct {
	// Reason and Message are those of the fault.
	Reason, Message string
	Candidates      []Candidate
	Omitted         int
	// Nearest is the nearest request that the same snapshot admits, nil when there is none. Changes leads to it, and
	// undoing any one of them is refused.
	Nearest *specpb.Launch
	Changes []launch.Change
	// Admitting names the bound profiles that would have admitted a request that named none.
	Admitting []string
}

// MarshalLaunch returns the canonical JSON of a launch, see launch.Marshal.
func MarshalLaunch(l *specpb.Launch) (json.RawMessage, error) { return launch.Marshal(l) }

// UnmarshalLaunch reads what MarshalLaunch wrote, see launch.Unmarshal.
func UnmarshalLaunch(text []byte) (*specpb.Launch, error) { return launch.Unmarshal(text) }
