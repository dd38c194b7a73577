package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// StatusFD is the descriptor on which a shim tells how the start went.
	StatusFD = 3
	// LockFD is the lock that a shim is born with.
	LockFD = 4
	// ProgramFD is the sealed copy of the runtime, where Config.Sealed says that there is one.
	ProgramFD = 5
	// logTail is how much of a log goes into an error message, in bytes.
	logTail = 2 << 10
)

// Failpoints of the server's side. The shim's own are listed by package host.
const (
	failBeforeFork = "shim-start.before-fork"
	failAfterFork  = "shim-start.after-fork"
	failStarted    = "shim-start.started"
)

// Failpoints lists the failpoints of this package: places in the server, around the life of a shim.
func Failpoints() []string {
	return []string{failBeforeFork, failAfterFork, failStarted, failBeginWritten, failBegun, failBeforeDelete, failAfterDelete}
}

// ErrDied is the cause of a Start whose shim died before it said how the start went. If it left a record, the main process may
// have run.
var ErrDied = errors.New("it died without a word")

// Start forks a shim, detached from this process, and returns once the main process runs, or the sandbox is prepared for one. binary is the host's path of
// berm-shim. When the sandbox cannot start, the error says why (START_FAILED with the runtime's words, or
// CWSANDBOX_COMMAND_NOT_FOUND and the like for the main command), exit.json has the same, and nothing is left running. When
// ctx ends first, the start goes on without the caller, who can Connect, Stop or Inspect.
func Start(ctx context.Context, binary string, cfg Config) (*Client, error) {
	cfg.Version, cfg.Sealed, cfg.HasSecrets = ConfigVersion, cfg.Program != nil, len(cfg.Secrets) > 0
	if err := checkStart(&cfg); err != nil {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "shim configuration: %v", err)
	}
	lock, err := acquire(cfg.Dir)
	if err != nil {
		return nil, unstarted(err)
	}
	defer lock.Close()
	if err := replace(cfg.Dir, configName, cfg); err != nil {
		return nil, unstarted(err)
	}
	status, err := fork(binary, &cfg, lock)
	if err != nil {
		return nil, unstarted(err)
	}
	defer status.Close()
	lock.Close() // The shim has it now; ours must not outlive it.
	if err := awaitStart(ctx, cfg.Dir, status); err != nil {
		return nil, err
	}
	failpoint.Hit(failStarted)
	return &Client{dir: cfg.Dir}, nil
}

func checkStart(cfg *Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	info, err := os.Stat(cfg.Dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir() || info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("state directory %s must be a directory of mode 0700, it is %v", cfg.Dir, info.Mode())
	case hasConfig(cfg.Dir):
		return fmt.Errorf("state directory %s was used before", cfg.Dir)
	}
	return nil
}

func unstarted(err error) error {
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the shim could not be started: %v", err)
}

// fork starts the shim in a session of its own, holding a copy of the lock, and returns the pipe that it reports on.
func fork(binary string, cfg *Config, lock *os.File) (*os.File, error) {
	status, report, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer report.Close()
	log, err := os.OpenFile(filepath.Join(cfg.Dir, shimLogName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		status.Close()
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(binary, "shim", "--state", cfg.Dir)
	cmd.Dir = "/"
	cmd.Env = shimEnv()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{report, lock}
	if cfg.Sealed {
		cmd.ExtraFiles = append(cmd.ExtraFiles, cfg.Program)
	}
	if cfg.HasSecrets {
		secrets, err := secretFile(cfg.Secrets)
		if err != nil {
			status.Close()
			return nil, err
		}
		defer secrets.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, secrets)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	failpoint.Hit(failBeforeFork)
	if err := cmd.Start(); err != nil {
		status.Close()
		return nil, err
	}
	failpoint.Hit(failAfterFork)
	go func() { _ = cmd.Wait() }() // It is our child until one of us dies; its exit status means nothing.
	return status, nil
}

// shimEnv is all that a shim inherits: a server's environment may hold secrets, and runtimes look at many variables.
func shimEnv() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return append(env, failpoint.Environ()...)
}

// awaitStart reads the one frame of the shim's report.
func awaitStart(ctx context.Context, dir string, status *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = status.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	f, err := wire.NewReader(status).Read()
	switch {
	case err == nil && f.Type == wire.TypeOK:
		return nil
	case err == nil && f.Type == wire.TypeError:
		return errorFrame(f)
	case ctx.Err() != nil:
		return contextFault(ctx.Err())
	}
	if errors.Is(err, io.EOF) {
		err = ErrDied
	}
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the shim did not start the sandbox: %v%s", err,
		tail(filepath.Join(dir, shimLogName))).WithCause(err)
}

// tail returns the end of a log for an error message, with a separator before it; "" when there is none.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > logTail {
		_, _ = f.Seek(-logTail, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, logTail))
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return ""
	}
	return ": " + string(b)
}
