package networktest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// patience bounds what must happen.
const patience = 60 * time.Second

// resend is how long to wait before a datagram is sent once more. Nobody promises to deliver one: a queue on the way may be full, and a table
// being looked at. TCP does the same for a connection.
const resend = time.Second

// newNamespaceAt makes a network namespace and mounts it. The thread that it is made on ends with the goroutine.
func newNamespaceAt(path string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
}

func sockaddr(a netip.AddrPort) (family int, sa unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// Conn is a TCP connection from inside a namespace.
type Conn struct{ fd int }

// Connect opens a TCP connection from a namespace. An error is what the kernel says: it was refused, or there is no way.
func Connect(path string, to netip.AddrPort) (c *Conn, err error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	e := inside(ns, func() { c, err = connect(to) })
	return c, errors.Join(e, err)
}

func connect(to netip.AddrPort) (*Conn, error) {
	family, sa := sockaddr(to)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, sa); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if err := await(fd, unix.POLLOUT, patience); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Conn{fd}, nil
}

// await waits until something can be done with a descriptor.
func await(fd int, events int16, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		left := time.Until(end)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n > 0 {
			return err
		}
	}
}

// Talk sends a byte and waits for it to come back.
func (c *Conn) Talk() error {
	if _, err := unix.Write(c.fd, []byte("x")); err != nil {
		return err
	}
	if err := await(c.fd, unix.POLLIN, patience); err != nil {
		return err
	}
	n, err := unix.Read(c.fd, make([]byte, 16))
	if err == nil && n == 0 {
		return unix.ECONNRESET
	}
	return err
}

// Close closes it.
func (c *Conn) Close() { _ = unix.Close(c.fd) }

// SendUDP sends a text from a namespace, again and again until the world, or who listens there, has it, or the kernel says why not.
func (w *World) SendUDP(path string, to netip.AddrPort, text string) (err error) {
	In(w.t, path, func() { err = w.sendUDP(to, text) })
	return err
}

func (w *World) sendUDP(to netip.AddrPort, text string) error {
	family, sa := sockaddr(to)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	var sent time.Time
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if time.Since(sent) > resend {
			if _, err := unix.Write(fd, []byte(text)); err != nil {
				return err
			}
			sent = time.Now()
		}
		if w.Got(text) > 0 {
			return nil
		}
		if _, err := unix.Read(fd, make([]byte, 16)); err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		time.Sleep(200 * time.Microsecond)
	}
	return os.ErrDeadlineExceeded
}

// Ping sends echo requests from a namespace until there is an answer, or the kernel says why not.
func Ping(path string, to netip.Addr) (err error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	e := inside(ns, func() { err = ping(to) })
	return errors.Join(e, err)
}

func ping(to netip.Addr) error {
	family, sa := sockaddr(netip.AddrPortFrom(to, 0))
	proto, request := unix.IPPROTO_ICMP, []byte{8, 0, 0, 0, 0, 0, 0, 1}
	if to.Is6() {
		proto, request[0] = unix.IPPROTO_ICMPV6, 128
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	err = os.ErrDeadlineExceeded
	for end := time.Now().Add(patience); errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(end); {
		if _, err := unix.Write(fd, request); err != nil {
			return err
		}
		err = await(fd, unix.POLLIN|unix.POLLERR, resend)
	}
	if err != nil {
		return err
	}
	_, err = unix.Read(fd, make([]byte, 64))
	return err
}

// SendRaw sends an IPv4 packet of another protocol than TCP, UDP or ICMP, or one of these with a source address of the caller's choice,
// from a namespace. It does not wait.
func SendRaw(t testing.TB, path string, source, to netip.Addr, proto uint8, payload []byte) {
	t.Helper()
	var err error
	In(t, path, func() { err = sendRaw(source, to, proto, payload) })
	if err != nil {
		t.Fatal(err)
	}
}

func sendRaw(source, to netip.Addr, proto uint8, payload []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	h := ipv4.Header{Version: 4, Len: ipv4.HeaderLen, TotalLen: ipv4.HeaderLen + len(payload), TTL: 64, Protocol: int(proto), Src: source.AsSlice(), Dst: to.AsSlice()}
	head, err := h.Marshal()
	if err != nil {
		return err
	}
	return unix.Sendto(fd, append(head, payload...), 0, &unix.SockaddrInet4{Addr: to.As4()})
}

// HearRaw tells, as text, what the world receives of a protocol, until the test ends.
func (w *World) HearRaw(proto uint8) {
	w.t.Helper()
	var fd int
	var err error
	In(w.t, w.Path, func() { fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto)) })
	must(w.t, err)
	must(w.t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20000}))
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 2048); ; {
			n, err := unix.Read(fd, buf)
			if err == nil && n > ipv4.HeaderLen {
				w.tell(string(buf[ipv4.HeaderLen:n]))
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	w.t.Cleanup(func() {
		close(stop)
		<-done
		_ = unix.Close(fd)
	})
}
