package core

import (
	"encoding/json"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// Status is the state of a sandbox, named as on the v1beta2 wire. There is no unspecified status: it is never sent.
type Status string

// The statuses. Completed and Failed are terminal.
const (
	StatusPending     Status = "PENDING"
	StatusCreating    Status = "CREATING"
	StatusRunning     Status = "RUNNING"
	StatusPaused      Status = "PAUSED"
	StatusTerminating Status = "TERMINATING"
	StatusCompleted   Status = "COMPLETED"
	StatusFailed      Status = "FAILED"
)

// Terminal reports whether s is final.
func (s Status) Terminal() bool { return s == StatusCompleted || s == StatusFailed }

// Reasons of a sandbox's end or of its last transition (Sandbox.StatusReason starts with one of them).
const (
	EndExited            = "EXITED"
	EndStopped           = "STOPPED"
	EndDeleted           = "DELETED"
	EndLifetimeExceeded  = "MAX_LIFETIME_EXCEEDED"
	EndIdle              = "IDLE_TIMEOUT_EXCEEDED"
	EndLeaseExpired      = "LEASE_EXPIRED"
	EndLeaseReleased     = "LEASE_RELEASED"
	EndOutOfMemory       = "OUT_OF_MEMORY"
	EndStartFailed       = "START_FAILED"
	EndImageFailed       = "IMAGE_FAILED"
	EndKilled            = "KILLED"
	EndLost              = "LOST"
	ReasonRunnerLostNote = "RUNNER_UNREACHABLE"
	ReasonLeaseLostNote  = "LEASE_LOST"
)

// Observation says how far the status can be trusted.
type Observation string

// The observations.
const (
	// ObservationCurrent: the runner is in contact.
	ObservationCurrent Observation = "CURRENT"
	// ObservationUnknown: contact was lost; Status is the last one seen.
	ObservationUnknown Observation = "UNKNOWN"
)

// Sandbox is one sandbox with everything it was decided from.
type Sandbox struct {
	ID    string
	OrgID string
	// RunnerUUID and RunnerID name the runner, ProfileID, ProfileName and ProfileRevision what was bound.
	RunnerUUID, RunnerID   string
	RunnerRevision         int32
	ProfileID, ProfileName string
	ProfileRevision        int32
	ZoneName               string
	ZoneRevision           int32
	Status                 Status
	StatusReason           string
	Observation            Observation
	// ExitCode is nil unless it was observed.
	ExitCode *int32
	Tags     []string
	// Service is where its exposed ports are reached; nil while nothing is known of that, and when it has ended.
	Service *Service
	// ServerID is the server that hands the sandbox over to its runner. It says something while the sandbox is PENDING.
	ServerID string
	// CreatedBy is the actor, UserID the token's id.
	CreatedBy, UserID string
	CreatedAt         time.Time
	// StartedAt and EndedAt are zero until seen.
	StartedAt, EndedAt time.Time
	// ExpiresAt is when the lifetime ends; zero is never.
	ExpiresAt time.Time
	// Reserved is what the sandbox counts against the runner's capacity.
	Reserved Amounts
	// CPULimitMillis is the CPU limit in thousandths of a CPU, 0 for none. Usage guardrails count it per hour of running.
	CPULimitMillis int64
	// Digest identifies the resolved spec; the runner refuses another.
	Digest string
	// Decision is the plan as stored: layers, provenance, candidates (plan.Record as JSON).
	Decision json.RawMessage
	// Launch is the request.
	Launch *specpb.Launch
	// Timeline lists what happened, oldest first.
	Timeline []Event
	// Revision changes with every write of the row.
	Revision int64
}

// Amounts are resources in their smallest units.
type Amounts struct {
	// CPUMillis is in thousandths of a CPU, MemoryBytes in bytes, GPUs in devices, Sandboxes a count.
	CPUMillis   int64 `json:"cpuMillis,omitempty"`
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	GPUs        int64 `json:"gpus,omitempty"`
	Sandboxes   int64 `json:"sandboxes,omitempty"`
}

// Usage is what a sandbox uses, as its backend measured it. What a backend does not measure is 0.
type Usage struct {
	// CPUMillis is the average since the sample before, in thousandths of a CPU.
	CPUMillis int64
	// MemoryBytes is in use now, PIDs the processes and threads.
	MemoryBytes, PIDs, GPUs int64
	// DiskBytes is what the sandbox wrote to its file systems on disk and did not delete.
	DiskBytes int64
	// OutputBytes is what the main process printed so far, NetworkBytes what went in and out.
	OutputBytes, NetworkBytes int64
}

// Event is one entry of a timeline.
type Event struct {
	// Name is accepted, waited, planned, reserved, image, created, warm, started, first_byte, paused, resumed, forked, stopping, ended.
	Name    string            `json:"name"`
	At      time.Time         `json:"at"`
	Message string            `json:"message,omitempty"`
	Attrs   map[string]string `json:"attributes,omitempty"`
}
