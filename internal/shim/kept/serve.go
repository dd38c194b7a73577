package kept

import (
	"io"

	"github.com/bermhq/berm/internal/shim/wire"
)

// Serve answers a request for an operation exec_*. Closing stop ends it where it would go on, because the sandbox is being saved: the
// command itself is saved with it.
func (k *Keeper) Serve(w io.Writer, frames *wire.Reader, req wire.Request, stop <-chan struct{}) {
	switch req.Op {
	case wire.OpExecCreate:
		x, werr := k.create(req)
		answer(w, x, werr)
	case wire.OpExecList:
		k.sendList(w, req)
	case wire.OpExecSignal:
		x, werr := k.find(req.Exec)
		if werr == nil && !x.proc.Signal(req.Signal) {
			werr = wire.Errorf(wire.CodeExecEnded, "command %s has ended", req.Exec)
		}
		answer(w, x, werr)
	case wire.OpExecResize:
		x, werr := k.find(req.Exec)
		if werr == nil && !x.spec.TTY {
			werr = wire.Errorf(wire.CodeInvalid, "command %s has no terminal", req.Exec)
		}
		if werr == nil {
			x.proc.Resize(req.Width, req.Height)
		}
		answer(w, x, werr)
	case wire.OpExecDelete:
		if werr := k.remove(req.Exec); werr != nil {
			fail(w, werr)
			return
		}
		_ = wire.Write(w, wire.TypeOK, nil)
	case wire.OpExecAttach:
		k.attach(w, frames, req, stop)
	default:
		fail(w, wire.UnknownOperation(req.Op))
	}
}

func answer(w io.Writer, x *exec, werr *wire.Error) {
	if werr != nil {
		fail(w, werr)
		return
	}
	_ = wire.WriteJSON(w, wire.TypeOK, x.state())
}

func fail(w io.Writer, werr *wire.Error) { _ = wire.WriteJSON(w, wire.TypeError, werr) }

// sendList sends the states of all commands, or of one.
func (k *Keeper) sendList(w io.Writer, req wire.Request) {
	all := k.list()
	if req.Exec != "" {
		x, werr := k.find(req.Exec)
		if werr != nil {
			fail(w, werr)
			return
		}
		all = []*exec{x}
	}
	for _, x := range all {
		if wire.WriteJSON(w, wire.TypeOK, x.state()) != nil {
			return
		}
	}
	_ = wire.Write(w, wire.TypeEnd, nil)
}
