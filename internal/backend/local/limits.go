package local

import (
	"time"

	"github.com/bermhq/berm/internal/backend/local/bundle"
)

// Limits of this backend. Those of images are in package image, those of commands and files in the shim's protocol.
const (
	// DefaultMaxSandboxes is how many sandboxes a runner takes unless told otherwise.
	DefaultMaxSandboxes = 1000
	// MaxSandboxes is how many ranges of ids there are.
	MaxSandboxes = (lastID - firstID) / bundle.IDsPerSandbox
	// MaxIDLength is the longest sandbox id, in bytes: it becomes file, control group and container name.
	MaxIDLength = 100
	// MaxHostname is the longest host name that the kernel takes, in bytes.
	MaxHostname = 64
	// startsPerCPU is how many sandboxes per CPU are started at a time; the others wait.
	startsPerCPU = 2

	// DefaultPIDs is how many processes and threads a sandbox may have unless its spec says otherwise.
	DefaultPIDs = 4096
	// DefaultDiskBytes is how much a sandbox may write to its own file systems unless its spec says otherwise. It is taken from
	// the disk of the state directory as it is written.
	DefaultDiskBytes = 10 << 30
	// diskReserve is the part of that disk that sandboxes do not start on any more, one in so many, and maxDiskReserve the most.
	diskReserve, maxDiskReserve = 20, 1 << 30
	// MaxTotalPIDs bounds all sandboxes of a runner together, so that they cannot use up the machine's.
	MaxTotalPIDs = 1 << 20
	// MaxOpenFiles is how many descriptors a process may have; less where the server itself may have less.
	MaxOpenFiles = 1 << 16
	// MinMemoryBytes is the smallest memory limit: runtime and init need some themselves before a sandbox can start.
	MinMemoryBytes = 16 << 20

	// MaxTmpfsBytes is, where sandboxes have no disk, the size of each private file system of the image "host" (/tmp, /home,
	// /root, /workspace, …), and of what can be written over another image. A sandbox with a memory limit gets half of that, if that is less. What is
	// written counts as memory of the sandbox.
	MaxTmpfsBytes = 4 << 30
	// runDirBytes and runDirInodes bound RunDir: shim, skeletons, bundles.
	runDirBytes, runDirInodes = 256 << 20, 1 << 20

	// MaxMountedFiles is how many files a sandbox may be given.
	MaxMountedFiles = 256
	// MaxMountedBytes is what they may have together, in bytes.
	MaxMountedBytes = 32 << 20
	// MaxPath is the longest path of a mounted file, in bytes.
	MaxPath = 1024
	// MaxEnvEntries is how many variables a launch may set, and a command.
	MaxEnvEntries = 1024
	// MaxEnvBytes is how long they may be together, in bytes.
	MaxEnvBytes = 256 << 10
	// MaxArgs is how many arguments the main command may have, itself included.
	MaxArgs = 1024
	// MaxArgBytes is how long they may be together, in bytes.
	MaxArgBytes = 256 << 10
	// MaxString is what the kernel refuses as a single argument or variable, in bytes.
	MaxString = 128 << 10
	// maxWorkBytes is the largest work.json, in bytes.
	maxWorkBytes = 8 << 20

	// memoryReserve is the part of the machine's memory that is not offered: one tenth.
	memoryReserve = 10
	// lockPatience is how long the lock of the state directory is tried for, lockPoll how often.
	lockPatience, lockPoll = time.Second, 10 * time.Millisecond
	// closePatience is how long a server that stops goes on to free what ended sandboxes held.
	closePatience = 5 * time.Second
	// probeTimeout bounds the probe of one runtime.
	probeTimeout = 20 * time.Second
	// startTimeout bounds the time from the shim's start to the main process's.
	startTimeout = 60 * time.Second
	// startPoll is how often a start under an earlier server's shim is looked at.
	startPoll = 20 * time.Millisecond
	// adoptPatience is how long a server that starts waits for the shim of one sandbox, which may be saving it, before it goes on
	// with the others.
	adoptPatience = 2 * time.Second
	// cleanTimeout bounds one attempt to remove what a dead shim left.
	cleanTimeout = 30 * time.Second
	// minPrepareRetry and maxPrepareRetry bound the pause after preparing a sandbox failed; it doubles each time.
	minPrepareRetry, maxPrepareRetry = time.Second, time.Minute
	// maxDeaths is how many prepared sandboxes may die in a row before that counts as a failure to prepare them.
	maxDeaths = 3
	// quietPoll is how often a preparation looks whether launches are under way, quietPatience how long it waits for them.
	quietPoll, quietPatience = 2 * time.Millisecond, 2 * time.Second
	// removersAtOnce is how many prepared sandboxes of an earlier server are removed at a time.
	removersAtOnce = 8
	// usageWindow is the least time between two samples that CPU usage is computed from.
	usageWindow = 100 * time.Millisecond
)
