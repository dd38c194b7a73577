package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Trial is a network namespace with a link as a sandbox has it, to find out what a runtime makes of that. The other end is in the
// namespace too, so that nothing of it is to be seen on the machine, and nothing is left of it when nobody has it open.
type Trial struct{ ns *os.File }

// Addresses of a trial, from ranges for documentation.
var (
	trial4, trialGateway4 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1")
	trial6, trialGateway6 = netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::1")
)

// Trial makes one.
func (n *Network) Trial() (*Trial, error) {
	t := &Trial{}
	err := inNewNamespace(func() (err error) {
		if t.ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())); err != nil {
			return err
		}
		return n.trialHere()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("network to try a runtime with: %w", err), t.Close())
	}
	return t, nil
}

func (n *Network) trialHere() error {
	for _, s := range insideSettings(n.six) {
		if err := s.write(); err != nil {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = guestLink, hardware(0, false)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: n.peer(), PeerHardwareAddr: hardware(0, true)}); err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, name := range []string{"lo", n.peer(), guestLink} {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
	}
	link, err := h.LinkByName(guestLink)
	if err != nil {
		return err
	}
	if err := equip(h, link, trial4, trialGateway4, hardware(0, true)); err != nil || !n.six {
		return err
	}
	return equip(h, link, trial6, trialGateway6, hardware(0, true))
}

// Path is where the namespace is to be found, as long as this process has it open.
func (t *Trial) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), t.ns.Fd()) }

// Taken reports whether the addresses are gone from the link: whoever has a network stack of its own takes them.
func (t *Trial) Taken() (bool, error) {
	h, err := netlink.NewHandleAt(netns.NsHandle(t.ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return false, err
	}
	defer h.Close()
	link, err := h.LinkByName(guestLink)
	if err != nil {
		return false, err
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_ALL) })
	return len(addrs) == 0, err
}

// Close lets go of it.
func (t *Trial) Close() error {
	if t.ns == nil {
		return nil
	}
	return t.ns.Close()
}
