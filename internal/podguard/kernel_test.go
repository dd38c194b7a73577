package podguard_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/nft"
	"github.com/bermhq/berm/internal/podguard"
)

// here is the network namespace of the test, which plays the pod's.
const here = "/proc/thread-self/ns/net"

// The pod's node, which is the router too, and its resolver.
var (
	node     = []netip.Addr{networktest.World4, networktest.World6}
	resolver = netip.MustParseAddr("10.96.0.10")
)

// denied is what the owner of the cluster closes.
func denied() []netip.Prefix { return prefixes("93.184.215.0/24", "2606:4700:1::/48") }

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// hold puts the rules of a mode into the pod, by way of their text, and returns the policy with all that the pod knows of itself.
func hold(t testing.TB, m *specpb.EgressMode) *egress.Policy {
	t.Helper()
	p, err := egress.Compile("m", m, egress.Site{Denied: denied()})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, r := range kube.GuardRules(p) {
		texts = append(texts, r.String())
	}
	rules, err := podguard.Parse(texts)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(podguard.NodeEnv, "203.0.114.7")
	around, err := podguard.Look()
	if err != nil {
		t.Fatal(err)
	}
	around.Resolvers = []netip.Addr{resolver}
	if err := podguard.Apply(rules, around); err != nil {
		t.Fatal(err)
	}
	// The policy that would have been compiled by who knows the pod: a range that opens a part of the node or the link is all that
	// the pod's own rules cannot follow, and refuse.
	site := egress.Site{Denied: denied(), OnLink: prefixes("192.168.7.0/24", "2a02:8109:7::/64")}
	for _, a := range node {
		site.Machine = append(site.Machine, netip.PrefixFrom(a, a.BitLen()))
	}
	if p, err = egress.Compile("m", m, site); err != nil {
		t.Fatal(err)
	}
	return p
}

func places() []string {
	return []string{
		"169.254.169.254", "169.254.1.1", "fd00:ec2::254", "168.63.129.16", "168.63.129.17", "100.64.0.0", "100.63.255.255", "10.0.0.0", "10.96.0.10", "9.255.255.255",
		"11.0.0.0", "172.15.255.255", "172.16.0.0", "192.168.7.1", "192.168.7.3", "192.168.8.1", "198.18.0.1", "203.0.113.7", "93.184.215.14", "93.184.216.1",
		"2a02:8109:7::1", "2a02:8109:7::3", "2a02:8109:8::1", "fc00::1", "fbff:ffff::1", "64:ff9b::1.1.1.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254",
		"2002:a9fe:a9fe::1", "2001:db8::1", "1.1.1.1", "8.8.8.8", "2606:4700::1", "2606:4700:1::1", "2001:4860:4860::8888",
	}
}

func drawAddr(t *rapid.T) netip.Addr {
	return netip.MustParseAddr(rapid.SampledFrom(places()).Draw(t, "place"))
}

func drawMode(t *rapid.T) *specpb.EgressMode {
	m := &specpb.EgressMode{Type: rapid.SampledFrom([]string{"none", "internet", "allowlist"}).Draw(t, "type")}
	if m.GetType() != "allowlist" {
		return m
	}
	for range rapid.IntRange(0, 6).Draw(t, "ranges") {
		a := drawAddr(t)
		p, err := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		if err != nil {
			t.Fatal(err)
		}
		m.Cidrs = append(m.Cidrs, p.String())
	}
	return m
}

// TestKernelIsThePolicy: for whatever mode, what the kernel lets out of a pod is what the policy says, except for a part of the node or of
// its link that an allowlist opens, which stays closed.
func TestKernelIsThePolicy(t *testing.T) {
	w := networktest.New(t)
	t.Cleanup(func() { release(t) })
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0); err != nil {
		t.Fatal(err)
	}
	live := egress.Live{Resolver: func(a netip.Addr) bool { return a == resolver }}
	allowed := map[egress.Kind]int{}
	rapid.Check(t, func(rt *rapid.T) {
		m := drawMode(rt)
		p := hold(t, m)
		for _, to := range []netip.Addr{resolver, drawAddr(rt), drawAddr(rt), drawAddr(rt), drawAddr(rt)} {
			d := egress.Destination{
				Addr: to, Port: rapid.SampledFrom(networktest.Ports()).Draw(rt, "port"),
				Protocol: rapid.SampledFrom([]egress.Protocol{egress.TCP, egress.UDP, egress.Echo}).Draw(rt, "protocol"),
			}
			rule := p.Rules[p.Decide(d, live)]
			want := rule.Allow && rule.Class != egress.ClassMachine && rule.Class != egress.ClassOnLink
			if err := try(w, d); (err == nil) != want || errors.Is(err, os.ErrDeadlineExceeded) { // Who is refused is told.
				rt.Fatalf("%+v of %v: the policy says %+v, the kernel: %v", d, m, rule, err)
			}
			if want {
				allowed[rule.Kind]++
			}
		}
	})
	for _, k := range []egress.Kind{egress.KindAny, egress.KindRanges, egress.KindResolver} {
		if allowed[k] == 0 {
			t.Errorf("nothing was let out by a rule of kind %s: the test does not test it", k)
		}
	}
}

var texts int

// try sends something to a destination, and returns nil once it arrived.
func try(w *networktest.World, d egress.Destination) error {
	switch d.Protocol {
	case egress.TCP:
		c, err := networktest.Connect(here, netip.AddrPortFrom(d.Addr, d.Port))
		if err == nil {
			c.Close()
		}
		return err
	case egress.UDP:
		texts++
		return w.SendUDP(here, netip.AddrPortFrom(d.Addr, d.Port), fmt.Sprintf("text-%d", texts))
	default:
		return networktest.Ping(here, d.Addr)
	}
}

// release takes the rules away: a pod that nothing is closed for.
func release(t *testing.T) {
	t.Helper()
	conn, err := nft.Open()
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Name: podguard.Table, Family: nftables.TableFamilyINet}
	conn.AddTable(table)
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		t.Error(err)
	}
}

// TestLook: what a pod knows of itself, and what it lets in: answers, and nothing that begins elsewhere.
func TestLook(t *testing.T) {
	w := networktest.New(t)
	t.Cleanup(func() { release(t) })
	t.Setenv(podguard.NodeEnv, "203.0.114.7,2a02::7")
	a, err := podguard.Look()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append(node, netip.MustParseAddr("203.0.114.7"), netip.MustParseAddr("2a02::7")) {
		if !slices.Contains(a.Node, want) {
			t.Errorf("%v is no address of the node, which are %v", want, a.Node)
		}
	}
	for _, want := range prefixes("192.168.7.0/24", "2a02:8109:7::/64") {
		if !slices.Contains(a.Link, want) {
			t.Errorf("the pod is not part of %v but of %v", want, a.Link)
		}
	}
	for _, none := range []string{"node-1", "", ","} {
		t.Setenv(podguard.NodeEnv, none)
		if a, err := podguard.Look(); err == nil || !strings.Contains(err.Error(), podguard.NodeEnv) {
			t.Errorf("a node without address, %q: %v, %v", none, a, err)
		}
	}
	w.Listen("", networktest.Machine4, 8080)
	inbound := netip.AddrPortFrom(networktest.Machine4, 8080)
	c, err := networktest.Connect(w.Path, inbound)
	if err != nil {
		t.Fatalf("without rules: %v", err)
	}
	c.Close()
	hold(t, &specpb.EgressMode{Type: "internet"})
	out, err := networktest.Connect(here, netip.MustParseAddrPort("1.1.1.1:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Talk(); err != nil {
		t.Errorf("an answer: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		c, err := networktest.Connect(w.Path, inbound)
		if err == nil {
			c.Close()
		}
		got <- err
	}()
	// Silence proves nothing by itself: what is sent after it, and has arrived, does.
	if err := out.Talk(); err != nil {
		t.Errorf("an answer: %v", err)
	}
	select {
	case err := <-got:
		t.Errorf("who connects to the pod: %v", err)
	default:
	}
	own, err := networktest.Connect(here, inbound)
	if err != nil {
		t.Fatalf("the pod to itself: %v", err)
	}
	own.Close()
	release(t) // The connection that waits is made now.
	hold(t, &specpb.EgressMode{Type: "none"})
	if _, err := networktest.Connect(here, netip.MustParseAddrPort("1.1.1.1:80")); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("none: %v", err)
	}
}
