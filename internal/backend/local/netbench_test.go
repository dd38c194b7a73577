package local

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

// BenchmarkFirstOutputNetwork is BenchmarkFirstOutput for sandboxes with a network, whose namespaces are made ahead as long as they
// last. The bare runtime joins a namespace that is made for it within what is measured, in the ordinary way: a pair of links, an
// address at each end, a default route; without rules and without a resolver, which the sandbox has.
func BenchmarkFirstOutputNetwork(b *testing.B) {
	for _, name := range []string{"crun", "runc"} {
		b.Run(name, func(b *testing.B) {
			networktest.New(b)
			be := open(b, withRuntime(name))
			w := work("sleep", "infinity")
			w.Spec.Network = networked("internet")
			be.launch(w) // The first sandbox with a network makes the table and the resolver, which stay for as long as there is one.
			be.isRunning(w.SandboxID)
			plain := plainNetwork{path: filepath.Join(be.place.run, "plain-network")}
			bare := newBare(b, be, name, func(s *specs.Spec) {
				for i, ns := range s.Linux.Namespaces {
					if ns.Type == specs.NetworkNamespace {
						s.Linux.Namespaces[i].Path = plain.path
					}
				}
			})
			bare.before, bare.after = plain.make, plain.remove
			var ours, printed, theirs []time.Duration
			for b.Loop() {
				theirs = append(theirs, bare.run(b))
				for list, command := range map[*[]time.Duration][]string{&ours: nil, &printed: {"/bin/echo", "hi"}} {
					w := work(command...)
					w.Spec.Network = networked("internet")
					*list = append(*list, firstOutput(b, be, w))
				}
			}
			report(b, "exec", ours)
			report(b, "main", printed)
			report(b, "bare", theirs)
			b.ReportMetric(float64(percentile(ours, 50)-percentile(theirs, 50))/1e6, "exec-diff-p50-ms")
			b.ReportMetric(float64(percentile(printed, 50)-percentile(theirs, 50))/1e6, "main-diff-p50-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// plainNetwork is a network namespace with one link, as made by hand.
type plainNetwork struct{ path string }

const (
	plainLink    = "plain0"
	plainHost    = "192.168.245.1/30"
	plainInside  = "192.168.245.2/30"
	plainGateway = "192.168.245.1"
)

func (p plainNetwork) make() error {
	ns, err := p.space()
	if err != nil {
		return err
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = plainLink
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}); err != nil {
		return err
	}
	here, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer there.Close()
	lo, err := there.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := errors.Join(there.LinkSetUp(lo), address(here, plainLink, plainHost), address(there, "eth0", plainInside)); err != nil {
		return err
	}
	return there.RouteAdd(&netlink.Route{Gw: net.ParseIP(plainGateway)})
}

func address(h *netlink.Handle, name, addr string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	return errors.Join(h.AddrAdd(link, a), h.LinkSetUp(link))
}

// space makes the namespace and mounts it at its path.
func (p plainNetwork) space() (netns.NsHandle, error) {
	if err := os.WriteFile(p.path, nil, 0o400); err != nil {
		return netns.None(), err
	}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread ends in the other namespace.
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", p.path, "", unix.MS_BIND, "")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		return netns.None(), err
	}
	return netns.GetFromPath(p.path)
}

// remove takes it away, with the link.
func (p plainNetwork) remove() error {
	link, err := netlink.LinkByName(plainLink)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	return errors.Join(err, unix.Unmount(p.path, unix.MNT_DETACH), os.Remove(p.path))
}
