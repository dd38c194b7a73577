package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ear hears what the kernel tells of one sort of change. What it may have missed, because it was not there yet or was told more than it had
// room for, counts as a change: whoever is woken reads all of it anew.
type ear struct {
	// what it hears of, in words.
	what string
	dial func() (teller, error)
	// concerns reports whether a message is about what somebody waits for.
	concerns func(netlink.Message) bool
	woken    chan<- struct{}
	// pause is how long it waits before it dials again.
	pause time.Duration
}

// teller is a subscription. Close ends a Receive that waits.
type teller interface {
	Receive() ([]netlink.Message, error)
	Close() error
}

// hearAgain is how long nothing is heard after a subscription broke off.
const hearAgain = time.Second

// hear listens until the network is closed. A subscription that breaks off is made anew.
func (n *Network) hear(e ear) {
	quiet := false
	for n.ctx.Err() == nil {
		heard, err := n.listen(&e)
		if n.ctx.Err() != nil {
			return
		}
		if quiet = quiet && !heard; !quiet {
			n.log.Warn("changes are not heard; they are looked for from time to time until they are", "of", e.what, "error", err)
		}
		quiet = true
		select {
		case <-time.After(e.pause):
		case <-n.ctx.Done():
		}
	}
}

// listen wakes for each change until the subscription breaks off, and reports whether there was one at all.
func (n *Network) listen(e *ear) (heard bool, err error) {
	t, err := e.dial()
	if err != nil {
		return false, err
	}
	stop := context.AfterFunc(n.ctx, func() { _ = t.Close() })
	defer func() {
		if stop() {
			_ = t.Close()
		}
	}()
	wake(e.woken)
	for {
		all, err := t.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			n.missed.Add(1)
			wake(e.woken)
		case err != nil:
			return true, err
		case slices.ContainsFunc(all, e.concerns):
			wake(e.woken)
		}
	}
}

// subscribe returns a way to subscribe to some groups of a family.
func (n *Network) subscribe(family int, groups ...uint32) func() (teller, error) {
	return func() (teller, error) {
		c, err := netlink.Dial(family, nil)
		if err != nil {
			return nil, err
		}
		errs := []error{c.SetReadBuffer(n.hearBytes)}
		for _, g := range groups {
			errs = append(errs, c.JoinGroup(g))
		}
		if err := errors.Join(errs...); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	}
}

// wake tells who waits, once however often it is called.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// foreign reports whether a message is about an address or a route that is not this backend's own. One that cannot be read is.
func (n *Network) foreign(m netlink.Message) bool {
	header := unix.SizeofRtMsg
	if m.Header.Type == unix.RTM_NEWADDR || m.Header.Type == unix.RTM_DELADDR {
		header = unix.SizeofIfAddrmsg
	}
	if len(m.Data) < header {
		return true
	}
	attributes, err := netlink.NewAttributeDecoder(m.Data[header:])
	if err != nil {
		return true
	}
	for attributes.Next() {
		if attributes.Type() != unix.IFA_ADDRESS { // Or RTA_DST, which has the same number.
			continue
		}
		a, ok := netip.AddrFromSlice(attributes.Bytes())
		return !ok || !n.ours(a) && !a.IsMulticast()
	}
	return true // A route to everywhere.
}

// tableGone reports whether a message says that a table of rules is gone.
func tableGone(m netlink.Message) bool {
	return m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE
}
