package initd

import (
	"syscall"

	"github.com/bermhq/berm/internal/shim/wire"
)

// sendOutput sends one frame. When the receiver is gone it kills.
func (x *streamed) sendOutput(kind wire.Type, frame []byte) bool {
	wire.PutHeader(frame, kind, len(frame)-wire.HeaderSize)
	if _, err := x.stream.Write(frame); err != nil {
		x.kill()
		return false
	}
	return true
}

// grant gives credit for input.
func (x *streamed) grant(n int) {
	_, _ = x.stream.Write(wire.AppendUint32(nil, wire.TypeCredit, uint32(n))) //nolint:gosec // at most a window
}

func (x *streamed) fail(werr *wire.Error) { x.stream.fail(werr) }

// receive takes what the caller sends until it goes away, which kills the process if it still runs.
func (x *streamed) receive() {
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
func (x *streamed) handle(f wire.Frame) bool {
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
