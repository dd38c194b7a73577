package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/failpoint"
)

// space is a network namespace with its link, ready for one sandbox.
type space struct {
	slot int
	// path is where the namespace is kept: it lives as long as it is mounted there.
	path string
}

// makeSpace makes the namespace and the link of a slot. After an error nothing is left.
func (n *Network) makeSpace(slot int) (sp *space, err error) {
	sp = &space{slot: slot, path: n.namespace(slot)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.removeSpace(slot))
		}
	}()
	if err := makeNamespace(sp.path, insideSettings(n.block.six())); err != nil {
		return nil, err
	}
	failpoint.Hit(failNamespace)
	ns, err := netns.GetFromPath(sp.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	if err := n.makeLink(sp, ns); err != nil {
		return nil, fmt.Errorf("link %s: %w", n.link(slot), err)
	}
	failpoint.Hit(failLink)
	if err := n.furnish(sp, ns); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", sp.path, err)
	}
	return sp, nil
}

// makeNamespace makes a network namespace with settings and mounts it at path.
func makeNamespace(path string, settings []setting) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	_ = f.Close()
	return inNewNamespace(func() error {
		for _, s := range settings {
			if err := s.write(); err != nil {
				return err
			}
		}
		source := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "mount namespace", Path: path, Err: err}
		}
		return nil
	})
}

// inNewNamespace runs f on a thread in a new network namespace, which is gone afterwards unless f keeps it.
func inNewNamespace(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread goes back where it came from; if it cannot, it ends with the goroutine, because it stays locked.
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("network namespace: %w", err)
			return
		}
		defer func() { _ = home.Close() }()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("new network namespace: %w", err)
			return
		}
		err = f()
		if back := netns.Set(home); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// makeLink makes the pair of a slot, one end inside, and what the machine knows of the sandbox: which link leads to its addresses,
// and the hardware address there. Nothing is learnt from what comes over the link.
func (n *Network) makeLink(sp *space, ns netns.NsHandle) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = n.link(sp.slot), hardware(sp.slot, true), n.mtu
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: guestLink, PeerHardwareAddr: hardware(sp.slot, false), PeerNamespace: netlink.NsFd(ns), PeerMTU: uint32(n.mtu),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return err
	}
	host, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		return err
	}
	for _, s := range hostSettings(attrs.Name, n.block.six()) {
		if err := s.write(); err != nil {
			return err
		}
	}
	// Nobody asks for a neighbour here, so whoever does gets no answer and leaves no trace: a stack that is not the kernel's, gVisor's
	// say, could ask the machine for each of its addresses.
	if err := errors.Join(netlink.LinkSetARPOff(host), netlink.LinkSetUp(host)); err != nil {
		return err
	}
	if err := n.shape(nil, host); err != nil {
		return err
	}
	for _, addr := range n.addrs(sp.slot) {
		neigh := &netlink.Neigh{LinkIndex: host.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: hardware(sp.slot, false)}
		if err := netlink.NeighSet(neigh); err != nil {
			return err
		}
		route := &netlink.Route{LinkIndex: host.Attrs().Index, Dst: ipNet(single(addr)), Scope: netlink.SCOPE_LINK}
		if addr.Is6() {
			route.Scope = netlink.SCOPE_UNIVERSE
		}
		if err := netlink.RouteReplace(route); err != nil {
			return err
		}
	}
	return nil
}

// furnish sets addresses and routes inside.
func (n *Network) furnish(sp *space, ns netns.NsHandle) error {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	link, err := h.LinkByName(guestLink)
	if err != nil {
		return err
	}
	if err := errors.Join(h.LinkSetUp(lo), h.LinkSetUp(link), n.shape(h, link)); err != nil {
		return err
	}
	for i, addr := range n.addrs(sp.slot) {
		if err := equip(h, link, addr, n.block.gateways()[i], hardware(sp.slot, true)); err != nil {
			return err
		}
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer host.Close()
	return errors.Join(carries(h, guestLink), carries(host, n.link(sp.slot)), receives(h, n.block.addr6(sp.slot)))
}

// equip gives a link inside an address, and the routes to and by way of a gateway, whose hardware address is told: nobody need ask,
// not even gVisor's stack, which takes all of this over from the link.
func equip(h *netlink.Handle, link netlink.Link, addr, gw netip.Addr, mac net.HardwareAddr) error {
	index := link.Attrs().Index
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(single(addr)), Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE}); err != nil {
		return err
	}
	neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: gw.AsSlice(), HardwareAddr: mac}
	if err := h.NeighSet(neigh); err != nil {
		return err
	}
	for _, r := range []*netlink.Route{
		{LinkIndex: index, Dst: ipNet(single(gw)), Scope: netlink.SCOPE_LINK},
		{LinkIndex: index, Gw: gw.AsSlice(), Flags: int(netlink.FLAG_ONLINK)},
	} {
		if addr.Is6() {
			r.Scope = netlink.SCOPE_UNIVERSE
		}
		if err := h.RouteAdd(r); err != nil {
			return fmt.Errorf("route %v: %w", r, err)
		}
	}
	return nil
}

// carries waits until a link that was just set up takes packets: the kernel drops them silently before.
func carries(h *netlink.Handle, name string) error {
	return soon("link "+name, func() (bool, error) {
		link, err := h.LinkByName(name)
		return err == nil && link.Attrs().OperState == netlink.OperUp, err
	})
}

// receives waits until an IPv6 address that was just added is one: the kernel takes packets to it for somebody else's before.
func receives(h *netlink.Handle, addr netip.Addr) error {
	if !addr.IsValid() {
		return nil
	}
	return soon("address "+addr.String(), func() (bool, error) {
		routes, err := h.RouteGet(addr.AsSlice())
		return len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL, err
	})
}

// soon waits for what the kernel does on its own, in microseconds mostly.
func soon(what string, done func() (bool, error)) error {
	for end := time.Now().Add(soonPatience); ; time.Sleep(soonPoll) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not ready after %s", what, soonPatience)
		}
	}
}

// soonPatience bounds such a wait, soonPoll is how often it is looked at.
const (
	soonPatience = 5 * time.Second
	soonPoll     = 50 * time.Microsecond
)

// shape bounds what goes out over a link. h is nil in the machine's namespace.
func (n *Network) shape(h *netlink.Handle, link netlink.Link) error {
	if n.cfg.BytesPerSecond == 0 {
		return nil
	}
	q := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       n.cfg.BytesPerSecond, Buffer: burst, Limit: queueBytes,
	}
	add := netlink.QdiscAdd
	if h != nil {
		add = h.QdiscAdd
	}
	if err := add(q); err != nil {
		return fmt.Errorf("bandwidth of %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// Sizes of the queue where bandwidth is bounded, in bytes: how much may go at once, and how much waits before some is dropped.
const (
	burst      = 128 << 10
	queueBytes = 512 << 10
)

// removeSpace removes namespace and link of a slot, as far as they are there.
func (n *Network) removeSpace(slot int) error {
	path := n.namespace(slot)
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		err = nil
	}
	if err != nil {
		err = &os.PathError{Op: "umount", Path: path, Err: err}
	}
	if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, removeLink(n.link(slot)))
}

// removeLink removes a link and its other end.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	var missing netlink.LinkNotFoundError
	if err == nil || errors.As(err, &missing) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("remove link %s: %w", name, err)
}

// makeAnchor makes the link that carries the gateways' addresses: they are there without any sandbox, so that the resolver can
// listen, and no other server takes the range. It is a pair of links because that is what every kernel with sandboxes has.
func (n *Network) makeAnchor() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.anchor()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: n.peer()}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("link %s: %w", attrs.Name, err)
	}
	for _, name := range []string{n.anchor(), n.peer()} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
		for _, s := range hostSettings(name, n.block.six()) {
			if err := s.write(); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
		if name == n.peer() {
			continue
		}
		for _, gw := range n.block.gateways() {
			err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(single(gw)), Flags: unix.IFA_F_NODAD})
			if err != nil {
				return fmt.Errorf("address %s: %w", gw, err)
			}
		}
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return receives(h, n.block.gateway6())
}

// spaces lists the slots that have a namespace or a link.
func (n *Network) spaces() (map[int]bool, error) {
	found := map[int]bool{}
	entries, err := os.ReadDir(n.namespaces())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		var slot int
		if _, err := fmt.Sscanf(filepath.Base(e.Name()), "%d", &slot); err == nil {
			found[slot] = true
		}
	}
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if slot, ok := n.slot(l.Attrs().Name); ok {
			found[slot] = true
		}
	}
	return found, nil
}
