package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core/egress"
)

// places are destinations at and around the edges of what is closed, here.
func places() []string {
	return []string{
		"169.254.169.254", "169.254.169.253", "169.254.1.1", "fd00:ec2::254", "168.63.129.16", "168.63.129.17", "100.100.100.200", "100.64.0.0", "100.63.255.255",
		"10.0.0.0", "10.0.0.1", "10.255.255.255", "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.16.0.0", "172.32.0.0", "192.167.255.255",
		"192.168.7.1", "192.168.7.2", "192.168.7.3", "192.168.8.1", "198.18.0.1", "198.18.0.5", "198.20.0.1", "198.51.100.7", "203.0.113.7", "93.184.215.14",
		"2a02:8109:7::1", "2a02:8109:7::2", "2a02:8109:7::3", "2a02:8109:8::1", "fc00::1", "fbff:ffff::1", "fd62:6572:6d00::1", "fd12::1",
		"64:ff9b::1.1.1.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::192.168.7.2", "64:ff9b:1::1.1.1.1", "2002:a9fe:a9fe::1", "2001::1", "2001:db8::1",
		"1.1.1.1", "8.8.8.8", "255.255.255.254", "240.0.0.1", "2606:4700::1", "2001:4860:4860::8888", "127.0.0.1", "::1", "::ffff:10.0.0.1", "::ffff:1.1.1.1",
	}
}

func drawAddr(t *rapid.T) netip.Addr {
	switch rapid.IntRange(0, 4).Draw(t, "sort") {
	case 0:
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
	case 1:
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")))
	default:
		return netip.MustParseAddr(rapid.SampledFrom(places()).Draw(t, "place"))
	}
}

func drawRange(t *rapid.T) netip.Prefix {
	a := drawAddr(t).Unmap()
	p, err := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func drawMode(t *rapid.T) *specpb.EgressMode {
	m := mode(string(rapid.SampledFrom(egress.Types()[1:]).Draw(t, "type")))
	if m.GetType() != string(egress.Allowlist) {
		return m
	}
	for range rapid.IntRange(0, 6).Draw(t, "ranges") {
		m.Cidrs = append(m.Cidrs, drawRange(t).String())
	}
	m.DnsNames = rapid.SliceOfN(rapid.SampledFrom([]string{"a.example", "*.b.example"}), 0, 2).Draw(t, "names")
	return m
}

// TestKernelIsThePolicy: for whatever policy, what the kernel lets through is what egress.Policy.Decide says, with everything that
// changes meanwhile: other sandboxes, answered names, what the owner closes.
func TestKernelIsThePolicy(t *testing.T) {
	w := networktest.New(t)
	var once sync.Once
	n := open(t, w, func(c *Config) {
		c.Denied = []netip.Prefix{netip.MustParsePrefix("93.184.215.0/24"), netip.MustParsePrefix("2606:4700:1::/48")}
		c.Up = func(names Names) (func(), error) {
			once.Do(func() {
				for _, gw := range names.Gateways() {
					w.Listen("", gw, egress.PortDNS)
				}
			})
			return func() {}, nil
		}
	})
	for _, port := range []uint16{80, 443, 10250} {
		w.Listen("", netip.IPv6Unspecified(), port) // The machine's own services.
	}
	// Others, of the same scope and not; all listen.
	var others []*Attachment
	for i, typ := range []egress.Type{egress.User, egress.Org, egress.Profile, egress.Internet} {
		others = append(others, n.attach(fmt.Sprintf("other-%d", i), mode(string(typ))))
	}
	others = append(others, n.attach("stranger", mode("org"), func(r *Request) { r.Org = "elsewhere" }))
	for _, o := range others {
		w.Listen(o.Namespace, netip.IPv6Unspecified(), 443)
	}
	count, allowed := 0, map[egress.Kind]int{}
	rapid.Check(t, func(rt *rapid.T) {
		m := drawMode(rt)
		count++
		id := fmt.Sprintf("box-%d", count)
		a := n.attach(id, m)
		defer func() {
			if err := n.Detach(id); err != nil {
				t.Error(err)
			}
		}()
		if len(m.GetDnsNames()) > 0 {
			pinSome(rt, n, a, m)
		}
		targets := []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("2606:4700::1")} // As answered.
		for range 8 {
			targets = append(targets, drawAddr(rt))
		}
		for _, o := range others {
			targets = append(targets, o.Addr4, o.Addr6)
		}
		targets = append(targets, n.Gateways()...)
		for i, to := range targets {
			port := rapid.SampledFrom(networktest.Ports()).Draw(rt, "port")
			d := egress.Destination{Addr: to, Port: port, Protocol: rapid.SampledFrom([]egress.Protocol{egress.TCP, egress.UDP, egress.Echo}).Draw(rt, "protocol")}
			if i >= 10 && port != 53 {
				d.Port = 443
			}
			rule := n.decides(id, d)
			err := try(w, a, d)
			if (err == nil) != rule.Allow || errors.Is(err, os.ErrDeadlineExceeded) { // Who is refused is told.
				denied, _ := n.Denied(id)
				rt.Fatalf("%+v of %v: the policy says %+v, the kernel: %v; counted %v", d, m, rule, err, denied)
			}
			if rule.Allow {
				allowed[rule.Kind]++
			}
		}
	})
	for _, k := range []egress.Kind{egress.KindAny, egress.KindRanges, egress.KindScope, egress.KindResolver, egress.KindName} {
		if allowed[k] == 0 {
			t.Errorf("nothing was let through by a rule of kind %s: the test does not test it", k)
		}
	}
}

// decides returns the rule of a sandbox's policy that decides about a destination now.
func (n *testNetwork) decides(id string, d egress.Destination) egress.Rule {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.guests[id]
	return g.policy.Rules[g.policy.Decide(d, n.live(g))]
}

// pinSome answers a name of a mode, with addresses that may well be closed.
func pinSome(t *rapid.T, n *testNetwork, a *Attachment, m *specpb.EgressMode) {
	addrs := []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("2606:4700::1"), netip.MustParseAddr("10.0.0.1"), drawAddr(t).Unmap()}
	name := "a.example"
	if !slices.Contains(m.GetDnsNames(), name) {
		name = "x.b.example"
	}
	if err := n.Pin(a.Addr4, name, addrs, MinPin); err != nil {
		t.Fatal(err)
	}
}

// try sends something to a destination, and returns nil once it arrived.
func try(w *networktest.World, a *Attachment, d egress.Destination) error {
	switch d.Protocol {
	case egress.TCP:
		c, err := networktest.Connect(a.Namespace, netip.AddrPortFrom(d.Addr, d.Port))
		if err == nil {
			c.Close()
		}
		return err
	case egress.UDP:
		if multicast(d.Addr) {
			return errors.ErrUnsupported // Nobody is told of a refusal.
		}
		return w.SendUDP(a.Namespace, netip.AddrPortFrom(d.Addr, d.Port), rapidText())
	default:
		if multicast(d.Addr) || loopback(d.Addr) {
			return errors.ErrUnsupported // What is inside answers.
		}
		return networktest.Ping(a.Namespace, d.Addr.Unmap())
	}
}

func multicast(a netip.Addr) bool {
	return a.Unmap().IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func loopback(a netip.Addr) bool {
	return a.Unmap().IsLoopback() || a.IsUnspecified() || a.Is4() && a.As4()[0] == 0
}

var texts int

func rapidText() string {
	texts++
	return fmt.Sprintf("text-%d", texts)
}
