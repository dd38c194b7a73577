// Package backend is the execution contract: what a runner asks of the thing that really runs sandboxes. There are three
// implementations, local (OCI runtimes on this machine), kube (pods) and fake (in memory, with injectable failures), and
// one contract suite, backendtest, that each of them passes.
package backend

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
)

// Limits of the port.
const (
	// MaxExecChunk is the largest output or input chunk, in bytes.
	MaxExecChunk = 64 << 10
	// MaxUnaryFile is the largest file of a unary file call, in bytes (the published client's assumption).
	MaxUnaryFile = 32 << 20
)

// Work is one sandbox to run. It is immutable.
type Work struct {
	SandboxID string
	OrgID     string
	UserID    string
	// RunnerID, ProfileName and ZoneName are for labels and messages.
	RunnerID, ProfileName, ZoneName string
	// Spec is the resolved spec, Digest identifies it.
	Spec   *specpb.ProfileSpec
	Digest string
	// Launch holds what concerns the sandbox alone: command, environment, mounted files.
	Launch *specpb.Launch
	// Secrets are environment variables beside those of the launch, one for each name in its secret_stores. Whoever creates the sandbox
	// passes them to it, and neither keeps nor shows them; where the launch is only looked at there are none.
	Secrets []core.Secret
	// LifetimeSeconds is how long the sandbox may live, by the request and the guardrails of all layers; 0 is for ever.
	LifetimeSeconds int32
	// Privileged is the runner's allow_privileged_profile_annotations: the gateway's word that what layers 1 to 3 carry may exceed what
	// a sandbox has by default. On Kubernetes the owner of the cluster must have said so, too; elsewhere it means nothing.
	Privileged bool
}

// FeatureSecrets is the feature of a runner that takes Work.Secrets. One without it must not be given a launch that has some.
const FeatureSecrets = "launch:secrets"

// FeaturePorts is the feature of a runner to whose exposed ports the gateway leads, so that it is known before anything runs where they
// are reached: Expose says it.
const FeaturePorts = "launch:ports"

// KindKube is the kind of backends that make pods.
const KindKube = "kube"

// Phase is how far a sandbox is, as its backend sees it.
type Phase string

// The phases. An ended sandbox stays known until Delete.
const (
	PhaseCreating Phase = "CREATING"
	PhaseRunning  Phase = "RUNNING"
	// PhasePaused: every process stands still. It is left by Resume, and by a stop, which lets the sandbox go on to end.
	PhasePaused   Phase = "PAUSED"
	PhaseStopping Phase = "STOPPING"
	PhaseEnded    Phase = "ENDED"
)

// Observation is what a backend saw of one sandbox. Later observations of a sandbox replace earlier ones.
type Observation struct {
	SandboxID string
	Phase     Phase
	At        time.Time
	// StartedAt is set from PhaseRunning on.
	StartedAt time.Time
	// Service is where its exposed ports are reached, in every observation once that is known; nil before, and without such ports.
	Service *core.Service
	// The rest is for PhaseEnded. ExitCode is nil unless the exit was observed.
	ExitCode *int32
	// Failed: the sandbox could not start, ran out of memory, was evicted or lost. Reason is one of core.End….
	Failed  bool
	Reason  string
	Message string
	// Events are what happened since the previous observation, for the timeline.
	Events []core.Event
	// Submitted is the object that was given to what runs the sandbox, a pod or an OCI runtime configuration, as JSON: in every
	// observation from then on, nil before. Values of the request's environment and contents of its files are not in it.
	Submitted json.RawMessage
}

// Info says what a backend can do here. It is probed, not assumed.
type Info struct {
	// Kind is "local", "kube" or "fake": the name that field enforcement is declared under.
	Kind string
	// Architecture is a GOARCH value.
	Architecture string
	// RuntimeClasses are those that ran something when probed; DefaultRuntimeClass is used when a spec names none.
	RuntimeClasses      []string
	DefaultRuntimeClass string
	// Runtimes says what each of RuntimeClasses does, in the same order. Nil: they do not differ.
	Runtimes []Runtime
	// Isolation says in words what separates a sandbox of the default class from the machine.
	Isolation string
	// Capacity is what may be reserved in total.
	Capacity core.Amounts
	// NodeLabels, when not nil, are the labels that node selectors are matched with.
	NodeLabels map[string]string
	// Unenforced are fields that the kind declares as enforced and that are only recorded here, each with the reason.
	Unenforced map[string]string
	// Features are named abilities that work here: "egress:none", "image:host", "image:oci-layout", "cgroup:limits", …
	// "pause": sandboxes can be paused.
	Features []string
	// Refusal, when not empty, is why this backend can run nothing here ("needs root"), since when where that is known. RefusalReason is a
	// reason of package fault or core, RefusalHints say what to do.
	Refusal       string
	RefusalReason string
	RefusalHints  []string
	RefusedSince  time.Time
}

// Backend runs sandboxes. Methods are safe for concurrent use. Errors are faults: NotFound for a sandbox that it does not
// know, Precondition (CWSANDBOX_SANDBOX_NOT_RUNNING) for one in the wrong phase, Unavailable when it cannot tell.
type Backend interface {
	// Info returns what was found out last.
	Info() Info
	// InfoChanged returns a channel that is closed when Info says something else; nil where it never does. Take it before the Info
	// that it is about.
	InfoChanged() <-chan struct{}
	// Check reports, without side effects, every field of w that this backend refuses (Precondition, BACKEND_UNSUPPORTED, one
	// field violation each), or nil.
	Check(w *Work) error
	// Create makes the sandbox exist, once per id however often it is called, and returns when the work is safely
	// accepted; progress and failure come as observations.
	Create(ctx context.Context, w *Work) error
	// Stop asks the main process to end and kills everything after the grace. It returns once stopping began and is
	// idempotent; a later call with a shorter grace shortens the wait, and the first why stays. why is one of core.End….
	Stop(ctx context.Context, id string, grace time.Duration, why string) error
	// Pause makes every process of a running sandbox stand still where it is, and returns when all do. Nothing is lost: memory,
	// open files and commands that run stay. One that is paused already is fine. A paused sandbox refuses commands and files
	// (Precondition, CWSANDBOX_SANDBOX_NOT_RUNNING, status PAUSED in the metadata). Where nothing can be paused: Precondition,
	// BACKEND_UNSUPPORTED.
	Pause(ctx context.Context, id string) error
	// Suspend is Pause without using memory meanwhile: the sandbox is saved on disk and its processes end, until Resume brings
	// them back where they were. Commands that run are ended, and their callers get an error. One that is paused otherwise is
	// refused. Where nothing can be saved: Precondition, BACKEND_UNSUPPORTED.
	//
	// A Work whose Launch has fork_of begins as that sandbox is, with the same conditions; Check says why it cannot.
	Suspend(ctx context.Context, id string) error
	// Resume lets a paused sandbox go on. One that runs is fine.
	Resume(ctx context.Context, id string) error
	// Delete removes an ended sandbox and everything of it. Unknown ids succeed. A live one: Precondition.
	Delete(ctx context.Context, id string) error
	// Exec starts a command. While the sandbox is being created it waits for it, within ctx. The process is killed when ctx
	// ends or Close is called.
	Exec(ctx context.Context, id string, e Exec) (Process, error)
	// Dial connects to a TCP port inside the sandbox, on its loopback interface (127.0.0.1, else ::1), whatever its network lets in or
	// out. While the sandbox is being created it waits for it, within ctx. Where nothing listens: Precondition, PORT_CLOSED. The
	// connection is cut when ctx ends, and when the sandbox does.
	Dial(ctx context.Context, id string, port uint16) (Conn, error)
	// ReadFile opens a regular file for reading. Size is what the file had at open; the reader ends after at most limit
	// bytes. Larger: FailedPrecondition, CWSANDBOX_FILE_TOO_LARGE with size_bytes and max_size_bytes.
	ReadFile(ctx context.Context, id, path string, limit int64) (io.ReadCloser, int64, error)
	// WriteFile creates or replaces a file with all of r, or leaves what was there.
	WriteFile(ctx context.Context, id, path string, mode uint32, r io.Reader) error
	// ReadArchive packs a directory or a regular file, as package archive does; what is neither is left out. The reader fails
	// when anything else could not be packed whole.
	ReadArchive(ctx context.Context, id, path string, part ArchivePart) (io.ReadCloser, error)
	// WriteArchive unpacks an archive: below path under name where path is a directory (itself when name is empty), else as
	// path. Each file is written whole or not at all. A stream that is none, or unsafe: Invalid.
	WriteArchive(ctx context.Context, id, path, name string, r io.Reader) error
	Transfers
	Execs
	// Logs reads what the main process printed, from its first byte on: of a sandbox that is being created (within ctx it waits),
	// runs, or has ended, also for a time after Delete that the backend chooses. It ends with ctx. Unknown, or not kept any more:
	// NotFound.
	Logs(ctx context.Context, id string, q LogQuery) (LogReader, error)
	// Observe yields the last observation of every sandbox known and then each new one, until ctx ends. After a restart it
	// yields what survived and what ended meanwhile. A sandbox that was created but is not yielded in the first pass is gone.
	// The element nil marks the end of the first pass.
	Observe(ctx context.Context) iter.Seq[*Observation]
	// Network returns what is known now of the network of a running sandbox, and around it of a target; a zero target is none. With
	// the id "" only the machine is told of, as it is around a sandbox that may come. Unimplemented where networks are not known.
	Network(ctx context.Context, id string, target egress.Target) (*Network, error)
	// Drift compares what was submitted of a sandbox (Observation.Submitted) with what is held of it now. What is left out of the one
	// is not compared. Unimplemented where nobody but Berm holds an object.
	Drift(ctx context.Context, id string, submitted json.RawMessage) (*Drift, error)
	// Usage samples what a sandbox that runs or is paused uses now.
	Usage(ctx context.Context, id string) (core.Usage, error)
	Pools
	// Close releases this process's handles. Sandboxes go on where the backend can keep them.
	Close() error
}

// Exec is a command to run in a sandbox.
type Exec struct {
	// Argv is program and arguments; looked up in the sandbox's PATH.
	Argv []string
	Env  map[string]string
	Dir  string
	// TTY gives the command a terminal of Width × Height characters; all output is then stdout.
	TTY           bool
	Width, Height uint16
	// Stdin false means that standard input is empty.
	Stdin bool
}

// FrameKind is the kind of a Frame.
type FrameKind int

// The frame kinds. A process yields outputs and then exactly one exit.
const (
	FrameStdout FrameKind = iota + 1
	FrameStderr
	FrameExit
)

// Frame is a piece of what a process said.
type Frame struct {
	Kind FrameKind
	Data []byte
	// ExitCode is the process's own code, 128+n when signal n ended it.
	ExitCode int32
	Signal   int
	At       time.Time
}

// Process is a running command. Recv and the senders may be used from different goroutines.
type Process interface {
	// Recv returns the next frame. After the exit frame it returns io.EOF. An end that was not observed is an error, never
	// an exit frame.
	Recv() (Frame, error)
	// Send writes standard input and blocks while the process does not read.
	Send(data []byte) error
	// CloseSend ends standard input (EOF on a terminal).
	CloseSend() error
	Resize(width, height uint16) error
	// Close kills the process group if it still runs.
	Close() error
}
