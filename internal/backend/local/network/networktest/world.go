package networktest

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Addresses of the machine on its network, and of the world's end of it.
var (
	Machine4 = netip.MustParseAddr("192.168.7.2")
	Machine6 = netip.MustParseAddr("2a02:8109:7::2")
	World4   = netip.MustParseAddr("192.168.7.1")
	World6   = netip.MustParseAddr("2a02:8109:7::1")
	// Another host on that network; all others of it do not exist.
	Neighbour4 = netip.MustParseAddr("192.168.7.3")
	Neighbour6 = netip.MustParseAddr("2a02:8109:7::3")
)

// Uplink is the machine's link to the world.
const Uplink = "up0"

// Ports are those that the world, and the machine as far as said, listen at, with TCP and UDP.
func Ports() []uint16 { return []uint16{53, 80, 443, 853, 10250} }

// World is everything outside: one host that has every address. What it receives over UDP and by other protocols it tells.
type World struct {
	t  testing.TB
	ns netns.NsHandle
	// Path is its network namespace.
	Path string

	mu  sync.Mutex
	got map[string]int
	new *sync.Cond
}

// New connects this machine, which is the test's network namespace, with a world, until the test ends.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{t: t, Path: filepath.Join(t.TempDir(), "world"), got: map[string]int{}}
	w.new = sync.NewCond(&w.mu)
	must(t, os.WriteFile(w.Path, nil, 0o600))
	home, err := netns.Get()
	must(t, err)
	defer func() { _ = home.Close() }()
	ready := make(chan error)
	go func() { ready <- keepNamespace(w.Path) }()
	must(t, <-ready)
	w.ns, err = netns.GetFromPath(w.Path)
	must(t, err)
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(Uplink); err == nil {
			must(t, netlink.LinkDel(l))
		}
		must(t, unix.Unmount(w.Path, unix.MNT_DETACH))
		must(t, w.ns.Close())
	})
	w.connect()
	for _, p := range Ports() {
		w.Listen(w.Path, netip.IPv6Unspecified(), p)
	}
	return w
}

func keepNamespace(path string) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = newNamespaceAt(path)
	}()
	<-done
	return err
}

// connect makes the link between machine and world, with addresses and default routes; and everything local to the world.
func (w *World) connect() {
	t := w.t
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Uplink
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: Uplink, PeerNamespace: netlink.NsFd(w.ns)}))
	here, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	defer here.Close()
	there, err := netlink.NewHandleAt(w.ns, unix.NETLINK_ROUTE)
	must(t, err)
	defer there.Close()
	address(t, here, Uplink, Machine4, Machine6)
	address(t, there, "lo")
	address(t, there, Uplink, World4, World6, Neighbour4, Neighbour6)
	up, err := here.LinkByName(Uplink)
	must(t, err)
	lo, err := there.LinkByName("lo")
	must(t, err)
	for _, h := range []*netlink.Handle{here, there} {
		carries(t, h, Uplink)
	}
	for _, gw := range []netip.Addr{World4, World6} {
		must(t, here.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Gw: gw.AsSlice()}))
		all := &net.IPNet{IP: make(net.IP, gw.BitLen()/8), Mask: net.CIDRMask(0, gw.BitLen())}
		must(t, there.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: unix.RT_TABLE_MAIN}))
	}
}

// carries waits until a link takes packets.
func carries(t testing.TB, h *netlink.Handle, link string) {
	t.Helper()
	for l, err := h.LinkByName(link); ; l, err = h.LinkByName(link) {
		must(t, err)
		if l.Attrs().OperState == netlink.OperUp {
			return
		}
	}
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func address(t testing.TB, h *netlink.Handle, link string, addrs ...netip.Addr) {
	t.Helper()
	l, err := h.LinkByName(link)
	must(t, err)
	for _, a := range addrs {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		must(t, h.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}, Flags: unix.IFA_F_NODAD}))
	}
	must(t, h.LinkSetUp(l))
}

// Listen listens with TCP and UDP at an address and port of a namespace, "" for this one, until the test ends. Over TCP it sends
// back what it gets; what comes over UDP it tells.
func (w *World) Listen(path string, addr netip.Addr, port uint16) {
	w.t.Helper()
	at := net.JoinHostPort(addr.String(), strconv.Itoa(int(port)))
	if addr == netip.IPv6Unspecified() {
		at = ":" + strconv.Itoa(int(port))
	}
	var tcp net.Listener
	var udp net.PacketConn
	var err error
	open := func() {
		if tcp, err = net.Listen("tcp", at); err == nil { //nolint:noctx // a test's
			udp, err = net.ListenPacket("udp", at) //nolint:noctx // a test's
		}
	}
	if path == "" {
		open()
	} else {
		In(w.t, path, open)
	}
	must(w.t, err)
	e := &echoes{}
	go e.serve(tcp)
	go w.receive(udp)
	w.t.Cleanup(func() {
		_ = tcp.Close()
		_ = udp.Close()
		e.close()
	})
}

// echoes are connections over which what comes is sent back. Some whose other end was cut off would stay for ever.
type echoes struct {
	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
	all    sync.WaitGroup
}

func (e *echoes) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if !e.add(c) {
			_ = c.Close()
			return
		}
	}
}

// add serves a connection, unless all are to end.
func (e *echoes) add(c net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	if e.open == nil {
		e.open = map[net.Conn]bool{}
	}
	e.open[c] = true
	e.all.Go(func() {
		_, _ = io.Copy(c, c)
		_ = c.Close()
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.open, c)
	})
	return true
}

func (e *echoes) close() {
	e.mu.Lock()
	e.closed = true
	for c := range e.open {
		_ = c.Close()
	}
	e.mu.Unlock()
	e.all.Wait()
}

func (w *World) receive(c net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		w.tell(string(buf[:n]))
	}
}

func (w *World) tell(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got[text]++
	w.new.Broadcast()
}

// Got returns how often a text was received.
func (w *World) Got(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got[text]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
}
