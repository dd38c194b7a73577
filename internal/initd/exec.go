package initd

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// DrainTimeout is how long an exec goes on after its process ended because a process that it left behind still holds
	// the output open. What the process itself wrote is delivered in any case.
	DrainTimeout = 250 * time.Millisecond
	// firstChunk is the size of the first read of output, in bytes; it grows to wire.MaxData for those who print much.
	firstChunk = 4 << 10
	// widePipe is how much of what a process prints may wait for us, in bytes, once it prints much.
	widePipe = 256 << 10
	// maxLingering is how many outputs of left-behind processes are drained to nowhere, so that printing does not kill them.
	maxLingering = 64
)

// exec runs a command for the time of the stream.
func (d *daemon) exec(s *stream, req wire.Request) {
	x := &streamed{stream: s}
	x.execution = execution{daemon: d, send: x.sendOutput, took: x.grant, fail: x.fail}
	if werr := x.start(req); werr != nil {
		s.fail(werr)
		return
	}
	defer x.close()
	if !d.enlist(x) {
		x.endSaved()
		<-x.child.done
		return
	}
	defer d.dismiss(x)
	if err := wire.WriteJSON(s, wire.TypeStarted, wire.Started{PID: x.child.pid}); err != nil {
		x.kill()
	}
	go x.receive()
	x.copyOutputs()
	ws := <-x.child.done
	x.drain()
	_ = wire.WriteJSON(s, wire.TypeExit, exitOf(ws))
}

// execution is a running command.
type execution struct {
	daemon  *daemon
	child   *child
	tty     *os.File
	input   *input
	outputs []*output
	copies  sync.WaitGroup
	// send takes output, a frame whose payload lies behind the room for its header. It is false when nobody wants any more.
	send func(kind wire.Type, frame []byte) bool
	// took is told how much of the input the process has. fail is told that its terminal's input cannot be ended.
	took func(n int)
	fail func(*wire.Error)
}

// streamed is a command that lives as long as the stream of who started it.
type streamed struct {
	execution
	stream *stream
}

// output is where a process's output is read.
type output struct {
	file *os.File
	kind wire.Type
	// lingers says that the process is gone and others still write.
	lingers bool
}

// start makes the descriptors and starts the process.
func (x *execution) start(req wire.Request) *wire.Error {
	x.daemon.spawning.Lock()
	defer x.daemon.spawning.Unlock()
	files, theirs, err := x.open(req)
	defer closeAll(&theirs)
	if err != nil {
		x.close()
		return wire.Errorf(wire.CodeExecFailed, "%v", err)
	}
	c, werr := x.daemon.spawn(req, files)
	if werr != nil {
		x.close()
		return werr
	}
	x.child = c
	return nil
}

// open makes our ends of the process's descriptors, and theirs, which the caller closes once the process has them.
func (x *execution) open(req wire.Request) (files spawnFiles, theirs []int, err error) {
	if req.TTY {
		return x.openTTY(req)
	}
	add := func(reading bool) (*os.File, int, error) {
		ours, their, err := pipe(reading)
		if err == nil {
			theirs = append(theirs, their)
		}
		return ours, their, err
	}
	files.stdin = x.daemon.empty
	if req.Stdin {
		in, their, err := add(false)
		if err != nil {
			return files, theirs, err
		}
		files.stdin = their
		x.input = newInput(in, x)
	}
	for _, o := range []struct {
		kind wire.Type
		fd   *int
	}{{wire.TypeStdout, &files.stdout}, {wire.TypeStderr, &files.stderr}} {
		out, their, err := add(true)
		if err != nil {
			return files, theirs, err
		}
		*o.fd = their
		x.outputs = append(x.outputs, &output{file: out, kind: o.kind})
	}
	return files, theirs, nil
}

// pipe returns a pipe of which our end can be waited for and theirs cannot.
func pipe(weRead bool) (ours *os.File, theirs int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, 0, err
	}
	our, their := p[0], p[1]
	if !weRead {
		our, their = their, our
	}
	if err := unix.SetNonblock(our, true); err != nil {
		return nil, 0, errors.Join(err, unix.Close(our), unix.Close(their))
	}
	return os.NewFile(uintptr(our), "pipe"), their, nil
}

func closeAll(fds *[]int) {
	for _, fd := range *fds {
		closeFD(fd)
	}
}

// close releases our descriptors. Output that others still write to is read to its end, unless there is too much of it.
func (x *execution) close() {
	if x.input != nil {
		x.input.abandon()
	}
	for _, out := range x.outputs {
		if out.lingers && x.tty == nil && x.daemon.linger(out.file) {
			continue
		}
		_ = out.file.Close()
	}
}

// linger reads f to its end in the background, if there are not too many of its kind.
func (d *daemon) linger(f *os.File) bool {
	select {
	case d.lingering <- struct{}{}:
	default:
		return false
	}
	go func() {
		_ = f.SetReadDeadline(time.Time{})
		buf := make([]byte, firstChunk)
		for {
			if _, err := f.Read(buf); err != nil {
				break
			}
		}
		_ = f.Close()
		<-d.lingering
	}()
	return true
}

// kill ends the process group. The status of the process then ends the exec.
func (x *execution) kill() { x.daemon.reaper.Kill(x.child.pid, true, syscall.SIGKILL) }

// failInput ends the command because its terminal's input cannot be ended. To go on would leave it waiting for more, for ever.
func (x *execution) failInput() {
	x.fail(wire.Errorf(wire.CodeExecFailed, "the kernel of this sandbox cannot end the input of a terminal: run the command without one"))
	x.kill()
}

// copyOutputs begins to send what the process prints; drain, when it has ended, returns when all of it was sent.
func (x *execution) copyOutputs() {
	for _, out := range x.outputs {
		x.copies.Go(func() { x.copyOutput(out) })
	}
}

func (x *execution) drain() {
	for _, out := range x.outputs {
		_ = out.file.SetReadDeadline(time.Now().Add(DrainTimeout))
	}
	x.copies.Wait()
}

// copyOutput sends what the process prints until all of it was sent or nobody wants it.
func (x *execution) copyOutput(out *output) {
	buf := make([]byte, wire.HeaderSize+firstChunk)
	for {
		n, err := out.file.Read(buf[wire.HeaderSize:])
		if n > 0 && !x.send(out.kind, buf[:wire.HeaderSize+n]) {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			x.copyRest(out, buf)
			return
		}
		if err != nil {
			return // The end, or the terminal's EIO.
		}
		if n == len(buf)-wire.HeaderSize && n < wire.MaxData {
			buf = make([]byte, wire.HeaderSize+wire.MaxData)
			out.widen()
		}
	}
}

// widen gives the pipe of a process that prints much more room, where the kernel lets us: it fills while what came before is sent.
func (o *output) widen() {
	raw, err := o.file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, widePipe) })
}

// copyRest sends what is in the pipe now. The process has been gone for a while, so its own output is all in there; more
// comes only from others.
func (x *execution) copyRest(out *output, buf []byte) {
	out.lingers = true
	_ = out.file.SetReadDeadline(time.Time{})
	for left := waiting(out.file); left > 0; {
		n, err := out.file.Read(buf[wire.HeaderSize:min(len(buf), wire.HeaderSize+left)])
		if n > 0 && !x.send(out.kind, buf[:wire.HeaderSize+n]) {
			return
		}
		if err != nil {
			return
		}
		left -= n
	}
}

// waiting returns how many bytes can be read at once.
func waiting(f *os.File) (n int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}
