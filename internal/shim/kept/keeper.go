package kept

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

// Keeper has the commands of a sandbox.
type Keeper struct {
	start func(wire.Request, Sink) (Process, *wire.Error)

	mu    sync.Mutex
	execs map[string]*exec
	// gone are the names that were used before, oldest first.
	gone []string
	// creating lets one command start at a time, so that a name is used once.
	creating sync.Mutex
}

// New returns a Keeper that starts processes with start.
func New(start func(wire.Request, Sink) (Process, *wire.Error)) *Keeper {
	return &Keeper{start: start, execs: map[string]*exec{}}
}

// create starts a command, once per name.
func (k *Keeper) create(req wire.Request) (*exec, *wire.Error) {
	if req.Exec == "" || len(req.Exec) > MaxID {
		return nil, wire.Errorf(wire.CodeInvalid, "the name of a command has 1 to %d bytes", MaxID)
	}
	if req.Limit == 0 {
		req.Limit = DefaultOutput
	}
	if req.Limit < MinOutput || req.Limit > MaxOutput {
		return nil, wire.Errorf(wire.CodeInvalid, "an output limit of %d bytes, it must be from %d to %d", req.Limit, MinOutput, MaxOutput)
	}
	k.creating.Lock()
	defer k.creating.Unlock()
	digest := digestOf(req)
	if there, werr := k.existing(req.Exec, digest); there != nil || werr != nil {
		return there, werr
	}
	if werr := k.makeRoom(req.Limit); werr != nil {
		return nil, werr
	}
	x, werr := k.begin(req, digest)
	if werr != nil {
		return nil, werr
	}
	k.mu.Lock()
	k.execs[req.Exec] = x
	k.mu.Unlock()
	return x, nil
}

// digestOf identifies what is to be run. The size of a terminal does not: it changes.
func digestOf(req wire.Request) [sha256.Size]byte {
	req.Width, req.Height, req.Exec = 0, 0, ""
	req.Env = slices.Sorted(slices.Values(req.Env))
	text, err := json.Marshal(req)
	if err != nil {
		return [sha256.Size]byte{} // Not of a request that came as JSON.
	}
	return sha256.Sum256(text)
}

// existing returns the command that a repeated create is about.
func (k *Keeper) existing(id string, digest [sha256.Size]byte) (*exec, *wire.Error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if x := k.execs[id]; x != nil {
		switch {
		case x.ringFreed():
			return nil, wire.Errorf(wire.CodeExecExists, "command %s was run before, and is being deleted", id)
		case x.digest == digest:
			return x, nil
		}
		return nil, wire.Errorf(wire.CodeExecExists, "command %s exists, and is another one", id)
	}
	if slices.Contains(k.gone, id) {
		return nil, wire.Errorf(wire.CodeExecExists, "command %s was run before, and is not kept any more", id)
	}
	return nil, nil //nolint:nilnil // neither is the answer
}

// makeRoom removes commands that ended longest ago until there is room for one more.
func (k *Keeper) makeRoom(limit int64) *wire.Error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var ended []*exec
	var unread int // They have ended, but not all that they printed has found room.
	total := limit
	for _, x := range k.execs {
		total += x.ring.cost()
		if isClosed(x.done) {
			ended = append(ended, x)
		} else if !x.endedAt().IsZero() {
			unread++
		}
	}
	slices.SortFunc(ended, func(a, b *exec) int { return a.endedAt().Compare(b.endedAt()) })
	for len(k.execs) >= MaxExecs || total > MaxOutputs {
		if len(ended) == 0 {
			return wire.Errorf(wire.CodeExhausted, "the sandbox keeps %d commands that run and %d that ended and whose output waits for a reader, with up to %d bytes of output: there may be %d with %d; end, read or delete some",
				len(k.execs)-unread, unread, total-limit, MaxExecs, MaxOutputs)
		}
		total -= ended[0].ring.cost()
		k.forget(ended[0])
		ended = ended[1:]
	}
	return nil
}

// forget removes a command. The caller holds the lock.
func (k *Keeper) forget(x *exec) {
	delete(k.execs, x.spec.Exec)
	k.gone = append(k.gone, x.spec.Exec)
	k.gone = k.gone[max(0, len(k.gone)-maxGone):]
	x.ring.free()
}

func (k *Keeper) find(id string) (*exec, *wire.Error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch x := k.execs[id]; {
	case x != nil:
		return x, nil
	case slices.Contains(k.gone, id):
		return nil, wire.Errorf(wire.CodeNoExec, "command %s is not kept any more", id)
	}
	return nil, wire.Errorf(wire.CodeNoExec, "there is no command %s", id)
}

// list returns all commands, oldest first.
func (k *Keeper) list() []*exec {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []*exec
	for _, x := range k.execs {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *exec) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.spec.Exec, b.spec.Exec))
	})
	return all
}

// remove kills a command that runs, and forgets it.
func (k *Keeper) remove(id string) *wire.Error {
	x, werr := k.find(id)
	if werr != nil {
		return werr
	}
	x.proc.Signal(sigKill)
	x.ring.free() // Also ends the waiting for a reader.
	t := time.NewTimer(deleteTimeout)
	defer t.Stop()
	select {
	case <-x.done:
	case <-t.C:
		return wire.Errorf(wire.CodeInternal, "command %s was killed and did not end within %v", id, deleteTimeout)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.execs[id] == x {
		k.forget(x)
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
