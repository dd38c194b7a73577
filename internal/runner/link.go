// Package runner is the agent that converges one runner: it verifies what a gateway asks for, hands it to a backend and
// reports what it observes. A gateway talks to it through Link, in process for the embedded runner.
package runner

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/rollout"
)

// Assignment is a launch as decided by a gateway. The runner folds the layers again with the same code and refuses when
// the digest differs, so that a gateway alone cannot make it run anything else.
type Assignment struct {
	Work backend.Work
	// Layers are the inputs of the fold, lowest first, the request's last.
	Layers []resolve.Input
}

// Link is how a gateway reaches a runner. Errors are faults; Unavailable means that the runner could not be asked.
type Link interface {
	// Info returns what the runner can do.
	Info() backend.Info
	// InfoChanged is that of a backend.
	InfoChanged() <-chan struct{}
	// Guardrails returns those of the cluster's owner, nil for none. The runner holds launches to them whatever a gateway
	// says; they are told so that refusals come early and with a reason. The result never changes.
	Guardrails() *resolve.Input
	// Images returns what the runner lets its owner do with its images, nil when it keeps none itself.
	Images() backend.Images
	// Check reports what the runner's backend would refuse, without side effects.
	Check(w *backend.Work) error
	// Apply starts a sandbox, once per id. Layers that do not give the digest: Precondition, DIGEST_MISMATCH; a spec outside
	// the owner's guardrails: Precondition, GUARDRAIL_VIOLATED. Unavailable leaves open whether the runner has it.
	Apply(ctx context.Context, a *Assignment) error
	Stop(ctx context.Context, id string, grace time.Duration, why string) error
	Pause(ctx context.Context, id string) error
	Suspend(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Delete(ctx context.Context, id string) error
	Exec(ctx context.Context, id string, e backend.Exec) (backend.Process, error)
	Dial(ctx context.Context, id string, port uint16) (backend.Conn, error)
	ReadFile(ctx context.Context, id, path string, limit int64) (io.ReadCloser, int64, error)
	WriteFile(ctx context.Context, id, path string, mode uint32, r io.Reader) error
	ReadArchive(ctx context.Context, id, path string, part backend.ArchivePart) (io.ReadCloser, error)
	WriteArchive(ctx context.Context, id, path, name string, r io.Reader) error
	backend.Transfers
	backend.Execs
	Logs(ctx context.Context, id string, q backend.LogQuery) (backend.LogReader, error)
	// SetPools replaces the pools of prepared sandboxes. A pool whose layers do not give its digest: Precondition, DIGEST_MISMATCH,
	// and nothing changes.
	SetPools(ctx context.Context, pools []Pool) error
	// Pools returns the status of each pool.
	Pools() []backend.PoolStatus
	// Deployment returns what the process says of its deployment.
	Deployment() rollout.State
	// SetDeployment says which deployment is wanted. It returns when the runner has taken note; what comes of it is in Deployment. A
	// runner that does not change its own deployment: Precondition, UPDATE_BY_HAND; what its owner does not allow: Precondition,
	// UPDATE_REFUSED.
	SetDeployment(ctx context.Context, w rollout.Wanted) error
	Observe(ctx context.Context) iter.Seq[*backend.Observation]
	// Network tells what the backend does; the id "" is the machine alone.
	Network(ctx context.Context, id string, target egress.Target) (*backend.Network, error)
	// Drift tells what the backend does.
	Drift(ctx context.Context, id string, submitted json.RawMessage) (*backend.Drift, error)
	Usage(ctx context.Context, id string) (core.Usage, error)
}
