package network

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

// nameServers say which translators there are.
type nameServers struct {
	mu    sync.Mutex
	list  []netip.Prefix
	err   error
	asked int
}

func (s *nameServers) ask(context.Context) ([]netip.Prefix, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.list, s.err
}

// say changes the answer, and returns how often it was asked for before.
func (s *nameServers) say(err error, list ...string) (before int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.err = nil, err
	for _, p := range list {
		s.list = append(s.list, netip.MustParsePrefix(p))
	}
	return s.asked
}

func (s *nameServers) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// TestTranslators: behind each prefix of a translator what is closed is closed, from the first sandbox on, and for connections that live when the
// machine comes to one. No answer opens nothing.
func TestTranslators(t *testing.T) {
	w := networktest.New(t)
	says := &nameServers{}
	says.say(nil, "2a01:4f8:64::/96")
	n := open(t, w, func(c *Config) { c.Translators = says.ask })
	a := n.attach("one", mode("internet"))
	all := n.attach("everything", mode("allowlist", "::/0", "2a01:4f8:64::/96", "10.0.0.0/8"))
	first := map[string]error{
		"[2a01:4f8:64::1.1.1.1]:443": nil, "[2a01:4f8:64::10.0.0.1]:443": unix.ECONNREFUSED, "[2a01:4f8:64::169.254.169.254]:80": unix.ECONNREFUSED,
		"[2a01:4f8:64::192.168.7.2]:10250": unix.ECONNREFUSED, "[64:ff9b::10.0.0.1]:443": unix.ECONNREFUSED, "[64:ff9b:1::1.1.1.1]:443": unix.ECONNREFUSED,
	}
	n.check(a, first)
	n.check(all, first)
	const metadata = "[2a02:aaaa:0:64:a9:fea9:fe00:0]:80" // 169.254.169.254 behind 2a02:aaaa:0:64::/64.
	lives, err := networktest.Connect(a.Namespace, netip.MustParseAddrPort(metadata))
	if err != nil {
		t.Fatal(err)
	}
	defer lives.Close()
	link, err := netlink.LinkByName(networktest.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	moves := func(to string) {
		t.Helper()
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix(to))}); err != nil {
			t.Fatal(err)
		}
	}
	before := says.say(nil, "2a01:4f8:64::/96", "2a02:aaaa:0:64::/64")
	moves("2a02:9999::/64")
	n.until(func() bool { return errors.Is(n.reaches(a, metadata), unix.ECONNREFUSED) })
	if says.times() == before {
		t.Error("nobody was asked")
	}
	n.until(func() bool { return lives.Talk() != nil }) // What lives is closed after what is new.
	n.check(a, first)
	n.check(a, map[string]error{"[2a02:aaaa:0:64:1:101:100:0]:443": nil, "[2a02:aaaa:0:64:10a9:fea9:fe00:0]:80": unix.ECONNREFUSED})
	before = says.say(errors.New("no answer"))
	moves("2a02:9998::/64")
	n.until(func() bool {
		return says.times() > before && errors.Is(n.reaches(a, "[2a02:9998::1]:443"), unix.ECONNREFUSED)
	})
	n.check(a, map[string]error{metadata: unix.ECONNREFUSED})
	says.say(nil)
	moves("2a02:9997::/64")
	n.until(func() bool { return n.reaches(a, metadata) == nil }) // There is no translator any more.
}

// TestTranslatorsOfTheOwner: the prefixes that somebody named hold, and nobody is asked.
func TestTranslatorsOfTheOwner(t *testing.T) {
	says := &nameServers{}
	n := open(t, networktest.New(t), func(c *Config) {
		c.NAT64, c.Translators = []netip.Prefix{netip.MustParsePrefix("2a01:4f8:64::/96")}, says.ask
	})
	a := n.attach("one", mode("internet"))
	n.check(a, map[string]error{"[2a01:4f8:64::1.1.1.1]:443": nil, "[2a01:4f8:64::10.0.0.1]:443": unix.ECONNREFUSED})
	if says.times() > 0 {
		t.Error("the name servers were asked")
	}
}
