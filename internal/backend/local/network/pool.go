package network

import (
	"errors"
	"sync"

	"github.com/bermhq/berm/internal/core/fault"
)

// pool hands out slots: their namespaces are made ahead, used once and removed. It fills after the first use, so that a
// server whose sandboxes have no network makes nothing.
type pool struct {
	n *Network

	mu    sync.Mutex
	ready []*space
	used  map[int]bool
	next  int
	// filling says that somebody is filling it, closed that nobody shall.
	filling, closed bool
}

func (p *pool) init(n *Network) { p.n, p.used = n, map[int]bool{} }

// take returns a namespace, one made ahead if there is any.
func (p *pool) take() (sp *space, pooled bool, err error) {
	p.mu.Lock()
	if n := len(p.ready); n > 0 {
		sp, p.ready = p.ready[0], p.ready[1:]
	}
	p.fill()
	p.mu.Unlock()
	if sp != nil {
		return sp, true, nil
	}
	slot, err := p.slot()
	if err != nil {
		return nil, false, err
	}
	sp, err = p.n.makeSpace(slot)
	if err != nil {
		p.free(slot)
		return nil, false, err
	}
	return sp, false, nil
}

// fill starts filling unless it is being filled. mu is held.
func (p *pool) fill() {
	if p.filling || p.closed || len(p.ready) >= p.n.cfg.Pool {
		return
	}
	p.filling = true
	p.n.background(func() {
		for p.fillOne() {
		}
	})
}

// fillOne makes one namespace, and reports whether another is wanted.
func (p *pool) fillOne() bool {
	slot, err := p.slot()
	var sp *space
	if err == nil {
		if sp, err = p.n.makeSpace(slot); err != nil {
			p.free(slot)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.filling = false
		p.n.log.Warn("no network namespace could be made ahead", "error", err)
		return false
	}
	p.ready = append(p.ready, sp)
	p.filling = len(p.ready) < p.n.cfg.Pool && !p.closed
	return p.filling
}

// slot reserves a slot. They are taken in turn, so that an address is not given again at once.
func (p *pool) slot() (int, error) {
	slots := p.n.block.slots()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range slots {
		if slot := (p.next + i) % slots; !p.used[slot] {
			p.used[slot] = true
			p.next = slot + 1
			return slot, nil
		}
	}
	return 0, fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "%d sandboxes of this machine have a network; there are no addresses for more", slots).
		WithHint("delete sandboxes, or give the server a wider range of addresses")
}

// reserve marks a slot that a sandbox of an earlier server has.
func (p *pool) reserve(slot int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[slot] = true
}

func (p *pool) free(slot int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, slot)
}

// discard removes what a slot has, and frees it then. A slot that could not be cleared is not used again.
func (p *pool) discard(slot int) error {
	err := p.n.removeSpace(slot)
	if err == nil {
		err = p.n.forgetSlot(slot)
	}
	if err == nil {
		p.free(slot)
	}
	return err
}

// drain removes what was made ahead, for good.
func (p *pool) drain() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	var errs []error
	for {
		p.mu.Lock()
		if len(p.ready) == 0 && !p.filling {
			p.mu.Unlock()
			return errors.Join(errs...)
		}
		var sp *space
		if len(p.ready) > 0 {
			sp, p.ready = p.ready[0], p.ready[1:]
		}
		p.mu.Unlock()
		if sp == nil { // The last one is being made.
			p.n.running.Wait()
			continue
		}
		errs = append(errs, p.discard(sp.slot))
	}
}
