package initd

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bermhq/berm/internal/shim/kept"
	"github.com/bermhq/berm/internal/shim/podwire"
	"github.com/bermhq/berm/internal/shim/reap"
	"github.com/bermhq/berm/internal/shim/wire"
)

// Limits of an init in a pod.
const (
	// maxCallers is how many connections there are at once, handshakeTimeout how long one may take to show that it is the runner's.
	maxCallers       = 16
	handshakeTimeout = 10 * time.Second
	// deliverTimeout is how long process 1 waits, after the main process, for the runner to take the rest of its output.
	deliverTimeout = 2 * time.Minute
	// drainTimeout bounds the reading of output that is left when every process is gone.
	drainTimeout = time.Second
	// exitStartFailed is the code of a main process that could not be started. The journal says why.
	exitStartFailed = 127
)

// Pod is what an init in a pod is given: the runner's public key, and the main process, which may be none.
type Pod struct {
	Key  string
	Argv []string
}

// pod is process 1 of a pod. It has no shim: the node's container runtime waits for it, and keeps what it prints, the journal
// (package podwire), outside of the sandbox. The runner comes and goes over a socket of the pod's network namespace; who comes must
// have the runner's key, and is shown that this is the init which the journal names.
type pod struct {
	*daemon
	output  *heldOutput
	journal *os.File
	tls     *tls.Config
	callers chan struct{}

	stopMu   sync.Mutex
	stopping bool
	deadline time.Time
	kill     *time.Timer
	// over is closed when ended says how.
	over  chan struct{}
	ended podwire.End
}

// RunPod is the init of a pod. It returns the exit code of the process.
func RunPod(c Pod) int {
	p, err := newPod(c)
	if err != nil {
		fmt.Fprintf(os.Stderr, "berm init: %v\n", err)
		return 1
	}
	caught, err := catch()
	if err != nil {
		fmt.Fprintf(os.Stderr, "berm init: %v\n", err)
		return 1
	}
	go p.reaper.Run()
	go p.signals(caught)
	go p.stopOn(p.terminated())
	if werr := p.begin(c.Argv); werr != nil {
		p.write(podwire.Failed(werr))
		return exitStartFailed
	}
	return p.end()
}

func newPod(c Pod) (*pod, error) {
	if os.Getpid() != 1 {
		return nil, errors.New("it is not process 1 of its container: the pod shares its processes with others")
	}
	if err := harden(nil); err != nil {
		return nil, err
	}
	runner, err := podwire.ParseKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("the runner's key: %w", err)
	}
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	d := &daemon{
		reaper: reap.New(newForker().fork), oomScore: childScore(), endsInput: endsTerminalInput(), empty: emptyInput(), dir: dir,
		files: make(files, maxFileCalls), archives: make(chan struct{}, maxArchives), digests: make(chan struct{}, maxDigests), dials: make(chan struct{}, maxDials), env: mergeEnv(os.Environ(), nil),
		mainEnded: make(chan syscall.WaitStatus, 1), stopped: make(chan struct{}), mainOver: make(chan struct{}), orphaned: make(chan struct{}),
		commands: map[saveable]struct{}{}, lingering: make(chan struct{}, maxLingering),
	}
	d.kept = kept.New(d.startKept)
	if err := d.openMain(Dialled("a runner")); err != nil {
		return nil, err
	}
	p := &pod{daemon: d, output: newHeldOutput(), journal: os.Stdout, callers: make(chan struct{}, maxCallers), over: make(chan struct{})}
	if p.tls, err = podwire.ServerConfig(own, runner); err != nil {
		return nil, err
	}
	return p, p.listen(own)
}

// listen opens the socket, whose name nobody knows before it is there, and writes down where it is and whose.
func (p *pod) listen(own ed25519.PrivateKey) error {
	var name [16]byte
	if _, err := rand.Read(name[:]); err != nil {
		return err
	}
	socket := podwire.SocketPrefix + hex.EncodeToString(name[:])
	l, err := net.Listen("unix", socket) //nolint:noctx // it is there for as long as the process
	if err != nil {
		return fmt.Errorf("socket for the runner: %w", err)
	}
	makeThreads()
	p.write(podwire.Hello(own.Public().(ed25519.PublicKey), socket)) //nolint:forcetypeassert // by definition
	go p.accept(l)
	return nil
}

// write adds a line to the journal. Only process 1 has it open, and it cannot be opened through /proc.
func (p *pod) write(line string) { _, _ = p.journal.WriteString(line) }

// begin starts the main process.
func (p *pod) begin(argv []string) *wire.Error {
	if len(argv) > 0 {
		c, werr := p.startMain(wire.Request{Argv: argv})
		if werr != nil {
			return werr
		}
		go func() { p.mainEnded <- <-c.done }()
	} else {
		for _, fd := range p.mainFiles {
			closeFD(fd)
		}
	}
	p.write(podwire.Started(time.Now()))
	for stream, file := range p.printed {
		go p.output.record(stream, file)
	}
	return nil
}

// stopOn ends the sandbox when the kubelet asks for it, which is a SIGTERM.
func (p *pod) stopOn(asked <-chan struct{}) {
	<-asked
	p.stop()
}

// end waits for the end, tells of it, and returns the exit code.
func (p *pod) end() int {
	code := 0
	select {
	case ws := <-p.mainEnded:
		exit := exitOf(ws)
		p.ended.Exit, code = &exit, int(exit.Code)
	case <-p.stopped:
	}
	p.handlersMu.Lock()
	p.ending = true
	p.handlersMu.Unlock()
	p.endRest()
	p.ended.At = time.Now()
	p.ended.OutputBytes = p.output.finish(drainTimeout)
	p.write(podwire.Ended(p.ended))
	close(p.over)
	wait(p.output.delivered(), deliverTimeout)
	flushed := make(chan struct{})
	go func() { p.handlers.Wait(); close(flushed) }()
	wait(flushed, flushTimeout)
	return code
}

// accept lets the runner in, and nobody else.
func (p *pod) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			time.Sleep(redialPause) // Out of descriptors, by what the sandbox does: they come back.
			continue
		}
		p.callers <- struct{}{}
		go func() {
			defer func() { <-p.callers }()
			p.converse(conn)
		}()
	}
}

func (p *pod) converse(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	secure := tls.Server(conn, p.tls)
	if err := secure.Handshake(); err != nil { //nolint:noctx // it has a deadline
		return
	}
	_ = conn.SetDeadline(time.Time{})
	session, err := yamux.Server(wire.Coalesce(secure), wire.MuxConfig())
	if err != nil {
		return
	}
	defer func() { _ = session.Close() }()
	for {
		s, err := session.AcceptStream()
		if err != nil {
			return
		}
		st := &stream{Stream: s, frames: wire.NewReader(s), over: func() {}}
		p.handlers.Go(func() { p.answer(st) })
	}
}
