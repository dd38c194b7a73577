// Package host is the shim process: one per sandbox, on the host, alive when the server is not. It starts the sandbox
// through the OCI runtime, waits for its process 1, records the end and cleans up. Requests for commands and files it
// passes on to the init inside, whose every frame it checks; the state it reports is only ever what it saw itself.
package host

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/fds"
	"github.com/bermhq/berm/internal/shim/oci"
	"github.com/bermhq/berm/internal/shim/reap"
	"github.com/bermhq/berm/internal/shim/spool"
	"github.com/bermhq/berm/internal/shim/wire"
)

// The shim is beside every sandbox: it stays small.
const (
	maxProcs  = 2
	gcPercent = 40
)

// Failpoints of the shim, in the order of a sandbox's life.
const (
	failBeforeCreated     = "shim.before-created-record"
	failBeforeRun         = "shim.before-run"
	failAfterRun          = "shim.after-run"
	failBeforeMain        = "shim.before-main"
	failBeforePrepared    = "shim.before-prepared-record"
	failAfterPrepared     = "shim.after-prepared-record"
	failBeforeBeginRecord = "shim.before-begin-record"
	failAfterBeginRecord  = "shim.after-begin-record"
	failAfterBinds        = "shim.after-begin-binds"
	failBeforeRunning     = "shim.before-running-record"
	failAfterRunning      = "shim.after-running-record"
	failBeforeStopRecord  = "shim.before-stopping-record"
	failAfterStopRecord   = "shim.after-stopping-record"
	failBeforeFreeze      = "shim.before-freeze"
	failAfterFreeze       = "shim.after-freeze"
	failAfterPauseRecord  = "shim.after-paused-record"
	failAfterThaw         = "shim.after-thaw"
	failBeforeExitRecord  = "shim.before-exit-record"
	failAfterExitRecord   = "shim.after-exit-record"
	failAfterRemove       = "shim.after-remove"
	failBeforeCheckpoint  = "shim.before-checkpoint"
	failAfterCheckpoint   = "shim.after-checkpoint"
	failAfterDiskCopied   = "shim.after-disk-copied"
	failAfterSuspend      = "shim.after-suspend-record"
	failBeforeRestore     = "shim.before-restore"
	failAfterRestore      = "shim.after-restore"
	failBeforeStartFailed = "shim.before-start-failed-record"
)

// Failpoints lists them.
func Failpoints() []string {
	return []string{
		failBeforeCreated, failBeforeRun, failAfterRun, failBeforeMain, failBeforePrepared,
		failAfterPrepared, failBeforeBeginRecord, failAfterBeginRecord, failAfterBinds, failBeforeRunning, failAfterRunning, failBeforeStopRecord,
		failAfterStopRecord, failBeforeFreeze, failAfterFreeze, failAfterPauseRecord, failAfterThaw, failBeforeExitRecord, failAfterExitRecord, failAfterRemove, failBeforeStartFailed,
	}
}

// CheckpointFailpoints lists those around the saving and restoring of a sandbox, which only a runtime that can passes.
func CheckpointFailpoints() []string {
	return []string{failBeforeCheckpoint, failAfterCheckpoint, failAfterDiskCopied, failAfterSuspend, failBeforeRestore, failAfterRestore}
}

// sandbox is what the shim is in charge of.
type sandbox struct {
	cfg    *shim.Config
	reaper *reap.Reaper
	spool  *spool.Writer
	lock   *os.File
	// startup holds what the runtime and the init said.
	startup *words
	// copies are the goroutines that read the main process's output.
	copies sync.WaitGroup

	// hurrying guards hurried, when the CPU limit was last put back.
	hurrying sync.Mutex
	hurried  time.Time

	// pausing lets one pause or resume at a time go on. It is taken before mu.
	pausing sync.Mutex

	// beginOnce gives a prepared sandbox its main process; prepared is closed when it waits for one.
	beginOnce sync.Once
	prepared  chan struct{}
	beginning beginning

	// mu guards the rest.
	mu       sync.Mutex
	record   shim.Record
	guest    *guest // nil until shim and init have met
	pid      int    // process 1; 0 until known
	stopping bool
	over     bool // process 1 has ended
	asked    bool // the init was told to end the main process
	doomed   bool // process 1 is to be killed as soon as it is known
	killed   bool // the shim sent SIGKILL
	// givenUp is why the shim sent it without a stop, "" when it did not.
	givenUp string
	// main is the main process's command, unstarted why a prepared sandbox could not start it. env and dir are what commands get unless
	// their request says otherwise.
	main      []string
	env       []string
	dir       string
	unstarted *wire.Error
	deadline  time.Time
	timer     *time.Timer

	// leaving says that process 1 is ending because the sandbox is being saved: left receives its status then, finales otherwise.
	leaving bool
	left    chan syscall.WaitStatus
	finales chan finale

	// Each is closed once: stop when one was asked for, running, ended when exit is set and recorded, removed when the
	// runtime and the kernel keep nothing more, forgotten when the shim may go.
	stop, running, ended, removed, forgotten chan struct{}
	stopOnce, forgetOnce                     sync.Once
	exit                                     shim.Exit
	// lasting bounds the requests that last.
	lasting chan struct{}
	// unattended is closed when the state directory is gone, and with it everybody who could ask.
	unattended chan struct{}
}

// finale is how process 1 ended, or that there was none: the sandbox was on disk.
type finale struct {
	status syscall.WaitStatus
	onDisk bool
	// lost is why it could not be brought back from disk.
	lost string
}

// Run is the shim. It returns the process's exit code, which means nothing: what counts is on disk.
func Run(dir string) int {
	report := os.NewFile(shim.StatusFD, "report")
	s, err := newSandbox(dir)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s shim: %v\n", time.Now().UTC().Format(time.RFC3339Nano), err)
		_ = wire.WriteJSON(report, wire.TypeError, wire.Errorf(wire.CodeInternal, "shim: %v", err))
		return 1
	}
	s.live(report)
	return 0
}

func newSandbox(dir string) (*sandbox, error) {
	lock := os.NewFile(shim.LockFD, "lock")
	cfg, err := shim.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	secrets, err := cfg.InheritedSecrets()
	if err != nil {
		return nil, err
	}
	cfg.Env = append(cfg.Env, secrets...)
	if err := settle(cfg); err != nil {
		return nil, err
	}
	cfg = cfg.Defaults()
	session, err := newSession()
	if err != nil {
		return nil, err
	}
	boot, err := shim.BootID()
	if err != nil {
		return nil, err
	}
	out, err := spool.Create(shim.OutputDir(dir), session, cfg.OutputLimit, time.Now)
	if err != nil {
		return nil, err
	}
	s := &sandbox{
		cfg: cfg, reaper: reap.New(syscall.ForkExec), spool: out, lock: lock, startup: &words{ended: make(chan struct{})},
		record: shim.Record{
			ID: cfg.ID, Phase: shim.PhaseCreated, Boot: boot, ShimPID: os.Getpid(), CreatedAt: time.Now().UTC(), Session: session,
		},
		main: cfg.Main, env: cfg.Env, dir: cfg.WorkDir, prepared: make(chan struct{}), beginning: beginning{done: make(chan struct{})},
		left: make(chan syscall.WaitStatus, 1), finales: make(chan finale, 1),
		stop: make(chan struct{}), running: make(chan struct{}), ended: make(chan struct{}), removed: make(chan struct{}),
		forgotten: make(chan struct{}), unattended: make(chan struct{}), lasting: make(chan struct{}, MaxConns),
	}
	s.reaper.KeepStrangers()
	go s.reaper.Run()
	failpoint.Hit(failBeforeCreated)
	go s.watch()
	return s, shim.WriteRecord(dir, s.record)
}

// settle makes the process a shim: nothing inherited but what Start passed, orphans of the sandbox become our children.
func settle(cfg *shim.Config) (err error) {
	if cfg.Sealed {
		if cfg.Program, err = oci.HoldProgram(shim.ProgramFD); err != nil {
			return fmt.Errorf("the runtime's sealed program: %w", err)
		}
	}
	for _, fd := range []int{shim.StatusFD, shim.LockFD} {
		unix.CloseOnExec(fd)
	}
	if err := fds.CloseInherited(shim.LockFD + 1); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	unix.Umask(0o022) // What is not for others is made with its own mode; runtimes make mount points for others.
	runtime.GOMAXPROCS(maxProcs)
	debug.SetGCPercent(gcPercent)
	return nil
}

func newSession() (string, error) {
	var b [spool.SessionSize / 2]byte
	if _, err := unix.Getrandom(b[:], 0); err != nil {
		return "", fmt.Errorf("session name: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// live takes the sandbox from start to end. It returns when the shim is no longer needed.
func (s *sandbox) live(report *os.File) {
	go s.signals()
	listener, err := listen(s.cfg.Dir)
	if err == nil {
		go s.serve(listener)
	} else {
		err = fmt.Errorf("listen: %w", err)
	}
	reserve, reserveErr := shim.ReserveExit(s.cfg.Dir)
	if reserveErr != nil {
		err = errors.Join(err, fmt.Errorf("no room to record the end: %w", reserveErr))
	}
	werr := s.start(err)
	if werr != nil {
		s.startFailed(reserve, werr)
		_ = wire.WriteJSON(report, wire.TypeError, werr)
		s.closeSocket()
		return
	}
	_ = wire.Write(report, wire.TypeOK, nil)
	_ = report.Close()
	s.finish(reserve, <-s.finales)
	s.linger()
	s.closeSocket()
}

// linger stays for those who come to ask, though all there is to know is on disk.
func (s *sandbox) linger() {
	t := time.NewTimer(s.cfg.Linger)
	defer t.Stop()
	select {
	case <-s.forgotten:
	case <-s.unattended:
	case <-t.C:
	}
}

func (s *sandbox) closeSocket() { _ = os.Remove(shim.SocketFile(s.cfg.Dir)) }

// signals lets a person, or a machine that shuts down, end the sandbox by ending its shim.
func (s *sandbox) signals() {
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	for sig := range c {
		if sig == syscall.SIGTERM || sig == syscall.SIGINT {
			s.logf("%v: stopping the sandbox", sig)
			s.requestStop(s.cfg.StopGrace)
		}
	}
}

// logf writes to shim.log.
func (s *sandbox) logf(format string, args ...any) {
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().UTC().Format(time.RFC3339Nano), line)
}
