package network

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// Times of asking for translators.
const (
	// translatorsFirst bounds how long the first sandbox with a network waits until it is known whether there are translators.
	translatorsFirst = time.Second
	// translatorsPatience bounds each later time.
	translatorsPatience = 10 * time.Second
	// translatorsAgain is how soon it is asked again without an answer, translatorsEvery with one.
	translatorsAgain = 30 * time.Second
	translatorsEvery = 10 * time.Minute
)

// asksTranslators reports whether there is anything to find out: without IPv6 nobody reaches a translator.
func (n *Network) asksTranslators() bool {
	return n.six && len(n.cfg.NAT64) == 0 && n.cfg.Translators != nil
}

// askTranslators asks which translators there are. What was known stays where there is no answer: the rules get no wider for that.
func (n *Network) askTranslators(patience time.Duration) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(n.ctx, patience)
	defer cancel()
	list, err := n.cfg.Translators(ctx)
	if err != nil {
		return false, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(list, n.nat64) {
		return false, nil
	}
	n.nat64 = list
	n.log.Info("this machine reaches IPv4 by way of translators (NAT64), as its name servers say: what is closed is closed there too", "prefixes", list)
	return true, nil
}

// firstTranslators asks before the first sandbox has a network, or before those of an earlier server have rules.
func (n *Network) firstTranslators() {
	if !n.asksTranslators() {
		return
	}
	if _, err := n.askTranslators(translatorsFirst); err != nil {
		n.log.Debug("which translators (NAT64) there are is not known yet", "error", err)
	}
}

// watchTranslators asks again each time that the machine's addresses or routes changed, and from time to time, and says when the answer is
// another.
func (n *Network) watchTranslators(changed <-chan struct{}, found chan<- struct{}) {
	wait := translatorsAgain
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(wait):
		case <-changed:
		}
		another, err := n.askTranslators(translatorsPatience)
		if another {
			wake(found)
		}
		quiet := wait == translatorsAgain
		if wait = translatorsEvery; err != nil {
			if wait = translatorsAgain; !quiet && n.ctx.Err() == nil {
				n.log.Warn("the name servers do not say which translators (NAT64) there are; those known stay closed to what is closed", "known", n.translators(), "error", err)
			}
		}
	}
}

// translators are the prefixes in force.
func (n *Network) translators() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nat64
}
