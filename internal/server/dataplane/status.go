package dataplane

import (
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// status returns a status on the wire. UNSPECIFIED and TERMINATED are never sent: a published client takes the first for
// success, and the second is an older word for an end.
func status(s core.Status) v1beta2pb.SandboxStatus {
	switch s {
	case core.StatusPending:
		return v1beta2pb.SandboxStatus_SANDBOX_STATUS_PENDING
	case core.StatusCreating:
		return v1beta2pb.SandboxStatus_SANDBOX_STATUS_CREATING
	case core.StatusRunning:
		return v1beta2pb.SandboxStatus_SANDBOX_STATUS_RUNNING
	case core.StatusPaused:
		return v1beta2pb.SandboxStatus_SANDBOX_STATUS_PAUSED
	case core.StatusTerminating:
		return v1beta2pb.SandboxStatus_SANDBOX_STATUS_TERMINATING
	case core.StatusCompleted:
		return v1beta2pb.SandboxStatus_SANDBOX_STATUS_COMPLETED
	case core.StatusFailed:
	}
	return v1beta2pb.SandboxStatus_SANDBOX_STATUS_FAILED
}

// statusFilter returns the statuses that a filter selects: nil for all. none says that no sandbox can have the status.
func statusFilter(s v1beta2pb.SandboxStatus) (selected []core.Status, none bool, err error) {
	if s == v1beta2pb.SandboxStatus_SANDBOX_STATUS_UNSPECIFIED {
		return nil, false, nil
	}
	if s == v1beta2pb.SandboxStatus_SANDBOX_STATUS_TERMINATED { //nolint:staticcheck // deprecated, and published clients may still ask for it
		return nil, true, nil
	}
	for _, st := range []core.Status{
		core.StatusPending, core.StatusCreating, core.StatusRunning, core.StatusPaused, core.StatusTerminating, core.StatusCompleted, core.StatusFailed,
	} {
		if status(st) == s {
			return []core.Status{st}, false, nil
		}
	}
	return nil, false, fault.Invalidf(fault.ReasonInvalidRequest, "invalid list request").WithField("status", "%d is no status", int32(s))
}
