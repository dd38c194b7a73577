package initd

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/fds"
	"github.com/bermhq/berm/internal/shim/kept"
	"github.com/bermhq/berm/internal/shim/reap"
	"github.com/bermhq/berm/internal/shim/wire"
)

// Limits.
const (
	// RestGrace is how long processes that outlive the main process, or a sandbox without its shim, have between SIGTERM
	// and SIGKILL.
	RestGrace = time.Second
	// flushTimeout is how long requests may take to send their last frames when everything else is over.
	flushTimeout = time.Second
	// maxProcs and gcPercent keep the init small: it is in every sandbox and counts against its memory limit.
	maxProcs  = 2
	gcPercent = 40
	// mainStdout and mainStderr are where the main process's output is inherited.
	mainStdout = 4
	mainStderr = 5
	// exitOrphaned is the code after the shim went away. Nobody sees it.
	exitOrphaned = 255
)

// daemon is the state of process 1.
type daemon struct {
	reaper   *reap.Reaper
	contact  Contact
	oomScore []byte
	// endsInput: see endsTerminalInput.
	endsInput bool
	empty     int // what commands without input read
	// printed are our ends of the main process's output where the init made the pipes itself, by stream; nil otherwise.
	printed map[wire.Stream]*os.File
	// mainFiles are the main process's ends of its output.
	mainFiles [2]int
	files     files
	archives  chan struct{}
	partials  partials
	digests   chan struct{}
	dials     chan struct{}
	// spawning orders what the start of a process needs of the file system.
	spawning sync.Mutex

	// handlersMu guards ending, and that no handler begins after it was set.
	handlersMu sync.Mutex
	ending     bool
	handlers   sync.WaitGroup
	// leaving is the token with which the init will come back, while it lets go of its shim; commands are the executions and
	// connections that end then, errands all requests that must be over, and bringing those that bring output, which end last.
	leaving  string
	commands map[saveable]struct{}
	errands  tally
	bringing tally

	// What commands get unless their request says otherwise.
	defaultsMu sync.Mutex
	env        []string
	dir        string

	mainMu sync.Mutex
	main   *child
	// mainOver is closed when mainStatus is how the main process ended.
	mainOver   chan struct{}
	mainStatus syscall.WaitStatus
	// orphaned is closed when there is no shim any more.
	orphaned chan struct{}

	// mainEnded receives the main process's status, stopped is closed when a sandbox without one is to end.
	mainEnded chan syscall.WaitStatus
	stopped   chan struct{}
	stopOnce  sync.Once
	lingering chan struct{}
	// kept has the commands that go on without who started them.
	kept *kept.Keeper
}

// Run is the init. It returns the exit code of the process.
func Run(c Contact, l Limits) int {
	if c.dial == "" {
		if err := l.set(); err != nil {
			fmt.Fprintf(os.Stderr, "berm init: limits: %v\n", err)
			return 1
		}
	}
	if err := harden(c.inherited()); err != nil {
		fmt.Fprintf(os.Stderr, "berm init: %v\n", err)
		return 1
	}
	conn, err := c.connect()
	if err != nil {
		fmt.Fprintf(os.Stderr, "berm init: %v: %v\n", c, err)
		return 1
	}
	session, err := yamux.Server(conn, wire.MuxConfig())
	if err != nil {
		fmt.Fprintf(os.Stderr, "berm init: %v\n", err)
		return 1
	}
	d := &daemon{
		reaper: reap.New(newForker().fork), contact: c, oomScore: childScore(), endsInput: c.dial == "" || endsTerminalInput(), empty: emptyInput(), dir: "/", files: make(files, maxFileCalls), archives: make(chan struct{}, maxArchives), digests: make(chan struct{}, maxDigests), dials: make(chan struct{}, maxDials), env: mergeEnv(nil, nil),
		mainEnded: make(chan syscall.WaitStatus, 1), stopped: make(chan struct{}), mainOver: make(chan struct{}), orphaned: make(chan struct{}), commands: map[saveable]struct{}{}, lingering: make(chan struct{}, maxLingering),
	}
	d.kept = kept.New(d.startKept)
	if err := d.openMain(c); err != nil {
		fmt.Fprintf(os.Stderr, "berm init: %v\n", err)
		return 1
	}
	caught, err := catch()
	if err != nil {
		fmt.Fprintf(os.Stderr, "berm init: %v\n", err)
		return 1
	}
	makeThreads()
	go d.reaper.Run()
	go d.signals(caught)
	go d.talk(session)
	return d.end()
}

// harden closes the process to its neighbours and makes it small.
func harden(inherited []int) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	// What the runtime may have left open by mistake is not ours to pass on.
	if err := fds.CloseInherited(2 + 1 + len(inherited)); err != nil {
		return err
	}
	for _, own := range inherited {
		unix.CloseOnExec(own)
	}
	unix.Umask(0o022)
	runtime.GOMAXPROCS(maxProcs)
	debug.SetGCPercent(gcPercent)
	return nil
}

// emptyInput opens the sandbox's own /dev/null, which is what programs expect; without one, what the init itself has serves.
func emptyInput() int {
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		closeFD(fd)
		return 0
	}
	_ = unix.SetNonblock(fd, false)
	return fd
}

// handle serves a request, unless the sandbox is ending.
func (d *daemon) handle(s *stream) {
	d.handlersMu.Lock()
	defer d.handlersMu.Unlock()
	if d.ending || d.leaving != "" {
		s.hangUp()
		return
	}
	d.errands.add()
	s.over = sync.OnceFunc(d.errands.done)
	d.handlers.Go(func() {
		defer s.over()
		d.serve(s)
	})
}

// end waits for what ends the sandbox, ends everything else, and returns the exit code.
func (d *daemon) end() int {
	code := 0
	select {
	case ws := <-d.mainEnded:
		code = int(exitOf(ws).Code)
	case <-d.stopped:
	case <-d.orphaned:
		code = exitOrphaned // Without the shim nobody could stop this sandbox or hear of its end.
	}
	d.handlersMu.Lock()
	d.ending = true
	d.handlersMu.Unlock()
	d.endRest()
	flushed := make(chan struct{})
	go func() { d.handlers.Wait(); close(flushed) }()
	wait(flushed, flushTimeout)
	return code
}

// endRest ends all other processes of the sandbox. Connections to their ports are cut first: the kernel ends those of a process that is
// killed in order, as if it had.
func (d *daemon) endRest() {
	d.cutConnections()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if isClosed(d.reaper.Idle()) {
			return
		}
		_ = syscall.Kill(-1, s)
		_ = syscall.Kill(-1, syscall.SIGCONT) // A stopped process would not see the SIGTERM.
		wait(d.reaper.Idle(), RestGrace)
	}
}

func wait(c <-chan struct{}, limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// exitOf turns a wait status into an exit code, 128 + n for signal n.
func exitOf(ws syscall.WaitStatus) wire.Exit {
	if ws.Signaled() {
		return wire.Exit{Code: 128 + int32(ws.Signal()), Signal: int(ws.Signal())}
	}
	return wire.Exit{Code: int32(ws.ExitStatus())}
}

// stream is one request of the shim.
type stream struct {
	*yamux.Stream
	frames *wire.Reader
	// over says that the request is none that the init waits for before it lets go.
	over func()
	// gone is closed when the other side has hung up, of requests that are ended then.
	gone <-chan struct{}
}

// hangUp ends the request. It is how the shim learns that there is no more.
func (s *stream) hangUp() { _ = s.Close() }

// fail sends an error as the last frame.
func (s *stream) fail(e *wire.Error) {
	const longest = 4 << 10
	if len(e.Message) > longest {
		e.Message = strings.ToValidUTF8(e.Message[:longest], "")
	}
	_ = wire.WriteJSON(s, wire.TypeError, e)
}

// serve answers one request.
func (d *daemon) serve(s *stream) {
	defer s.hangUp()
	f, err := s.frames.Read()
	if err != nil {
		return
	}
	var req wire.Request
	if err := f.Decode(&req); err != nil || f.Type != wire.TypeRequest {
		s.fail(wire.Errorf(wire.CodeInvalid, "the first frame is no request"))
		return
	}
	if req.Version != wire.Version {
		s.fail(wire.Errorf(wire.CodeInvalid, "protocol version %d, this init knows %d", req.Version, wire.Version))
		return
	}
	d.dispatch(s, req)
}

func (d *daemon) dispatch(s *stream, req wire.Request) {
	switch req.Op {
	case wire.OpSetup:
		d.setup(req)
		_ = wire.Write(s, wire.TypeOK, nil)
	case wire.OpMain:
		s.over()
		d.runMain(s, req)
	case wire.OpAwaitMain:
		s.over()
		d.awaitMain(s)
	case wire.OpLetGo:
		s.over()
		d.letGo(s, req)
	case wire.OpMainOutput:
		d.sendMain(s, req)
	case wire.OpExec:
		d.exec(s, req)
	case wire.OpExecCreate, wire.OpExecList, wire.OpExecAttach, wire.OpExecSignal, wire.OpExecResize, wire.OpExecDelete:
		d.serveKept(s, req)
	case wire.OpReadFile:
		s.untilHungUp()
		d.readFile(s, req)
	case wire.OpWriteFile:
		d.writeFile(s, req)
	case wire.OpReadArchive:
		s.untilHungUp()
		d.readArchive(s, req)
	case wire.OpWriteArchive:
		d.writeArchive(s, req)
	case wire.OpReadFrom:
		s.untilHungUp()
		d.readFrom(s, req)
	case wire.OpWriteFrom:
		d.writeFrom(s, req)
	case wire.OpFileState:
		d.fileState(s, req)
	case wire.OpDial:
		d.dial(s, req)
	case wire.OpStop:
		d.stop()
		_ = wire.Write(s, wire.TypeOK, nil)
	case wire.OpSignal:
		d.signalMain(syscall.Signal(req.Signal))
		_ = wire.Write(s, wire.TypeOK, nil)
	default:
		s.fail(wire.UnknownOperation(req.Op))
	}
}

func (d *daemon) setup(req wire.Request) {
	d.defaultsMu.Lock()
	defer d.defaultsMu.Unlock()
	d.env = mergeEnv(req.Env, nil)
	if req.Dir != "" {
		d.dir = req.Dir
	}
}

// defaults returns environment and working directory of commands.
func (d *daemon) defaults() (env []string, dir string) {
	d.defaultsMu.Lock()
	defer d.defaultsMu.Unlock()
	return d.env, d.dir
}
