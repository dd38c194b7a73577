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
	// firstChunk is the size of the first read of output, in bytes; it grows to wire.MaxChunk for those who print much.
	firstChunk = 4 << 10
	// maxLingering is how many outputs of left-behind processes are drained to nowhere, so that printing does not kill them.
	maxLingering = 64
)

// exec runs a command for the time of the stream.
func (d *daemon) exec(s *stream, req wire.Request) {
	x, werr := d.startExec(s, req)
	if werr != nil {
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
	var copies sync.WaitGroup
	for _, out := range x.outputs {
		copies.Go(func() { x.copyOutput(out) })
	}
	ws := <-x.child.done
	for _, out := range x.outputs {
		_ = out.file.SetReadDeadline(time.Now().Add(DrainTimeout))
	}
	copies.Wait()
	_ = wire.WriteJSON(s, wire.TypeExit, exitOf(ws))
}

// execution is a running exec.
type execution struct {
	daemon  *daemon
	stream  *stream
	child   *child
	tty     *os.File
	input   *input
	outputs []*output
}

// output is where a process's output is read.
type output struct {
	file *os.File
	kind wire.Type
	// lingers says that the process is gone and others still write.
	lingers bool
}

// startExec makes the descriptors and starts the process.
func (d *daemon) startExec(s *stream, req wire.Request) (*execution, *wire.Error) {
	d.spawning.Lock()
	defer d.spawning.Unlock()
	x := &execution{daemon: d, stream: s}
	files, theirs, err := x.open(req)
	defer closeAll(&theirs)
	if err != nil {
		x.close()
		return nil, wire.Errorf(wire.CodeExecFailed, "%v", err)
	}
	c, werr := d.spawn(req, files)
	if werr != nil {
		x.close()
		return nil, werr
	}
	x.child = c
	return x, nil
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

// fail ends the command because its terminal's input cannot be ended. To go on would leave it waiting for more, for ever.
func (x *execution) fail() {
	x.stream.fail(wire.Errorf(wire.CodeExecFailed, "the kernel of this sandbox cannot end the input of a terminal: run the command without one"))
	x.kill()
}

// copyOutput sends what the process prints until all of it was sent or nobody wants it.
func (x *execution) copyOutput(out *output) {
	buf := make([]byte, wire.HeaderSize+firstChunk)
	for {
		n, err := out.file.Read(buf[wire.HeaderSize:])
		if n > 0 && !x.sendOutput(out.kind, buf[:wire.HeaderSize+n]) {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			x.copyRest(out, buf)
			return
		}
		if err != nil {
			return // The end, or the terminal's EIO.
		}
		if n == len(buf)-wire.HeaderSize && n < wire.MaxChunk {
			buf = make([]byte, wire.HeaderSize+wire.MaxChunk)
		}
	}
}

// copyRest sends what is in the pipe now. The process has been gone for a while, so its own output is all in there; more
// comes only from others.
func (x *execution) copyRest(out *output, buf []byte) {
	out.lingers = true
	_ = out.file.SetReadDeadline(time.Time{})
	for left := waiting(out.file); left > 0; {
		n, err := out.file.Read(buf[wire.HeaderSize:min(len(buf), wire.HeaderSize+left)])
		if n > 0 && !x.sendOutput(out.kind, buf[:wire.HeaderSize+n]) {
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

// sendOutput sends one frame, whose payload lies behind the room for its header. When the receiver is gone it kills.
func (x *execution) sendOutput(kind wire.Type, frame []byte) bool {
	wire.PutHeader(frame, kind, len(frame)-wire.HeaderSize)
	if _, err := x.stream.Write(frame); err != nil {
		x.kill()
		return false
	}
	return true
}

// receive takes what the caller sends until it goes away, which kills the process if it still runs.
func (x *execution) receive() {
	defer x.kill()
	for {
		f, err := x.stream.frames.Read()
		if err != nil {
			return
		}
		if !x.handle(f) {
			return
		}
	}
}

// handle acts on a frame; false for one that makes no sense.
func (x *execution) handle(f wire.Frame) bool {
	switch f.Type {
	case wire.TypeStdin:
		return x.input == nil || x.input.push(f.Payload)
	case wire.TypeCloseStdin:
		if x.input != nil {
			x.input.finish()
		}
	case wire.TypeResize:
		size, err := f.Uint32()
		if err != nil {
			return false
		}
		x.resize(uint16(size>>16), uint16(size))
	case wire.TypeSignal:
		if len(f.Payload) != 1 {
			return false
		}
		x.daemon.reaper.Kill(x.child.pid, true, syscall.Signal(f.Payload[0]))
	default:
		return false
	}
	return true
}
