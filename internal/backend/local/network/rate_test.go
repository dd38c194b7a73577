package network

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core/egress"
)

// TestConnectionRate: a sandbox begins so many connections per second, closed or not, of whatever sort and to whomever. What is over that is
// dropped and counted; a program that waits comes through. What is open goes on, and another sandbox has lost nothing.
func TestConnectionRate(t *testing.T) {
	const burst, tries = 5, 60
	w := networktest.New(t)
	var once sync.Once
	n := open(t, w, func(c *Config) {
		c.ConnectionsPerSecond, c.ConnectionBurst = 1, burst
		c.Up = func(names Names) (func(), error) {
			once.Do(func() { w.Listen("", names.Gateways()[0], egress.PortDNS) })
			return func() {}, nil
		}
	})
	a, b := n.attach("a", mode("internet")), n.attach("b", mode("internet"))
	began := time.Now()
	first, err := networktest.Connect(a.Namespace, netip.MustParseAddrPort("1.1.1.1:443"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	networktest.In(t, a.Namespace, func() {
		for i := range tries { // Each from a port of its own, closed at once.
			sendOne(t, netip.MustParseAddrPort("1.1.1.1:80"), fmt.Sprint("flow-", i))
		}
	})
	// One that waits is let through after all of them, and so is one to the resolver.
	for _, to := range []string{"1.1.1.1:443", netip.AddrPortFrom(n.Gateways()[0], egress.PortDNS).String()} {
		if err := n.reaches(a, to); err != nil {
			t.Errorf("%s, for one that waits: %v", to, err)
		}
	}
	most := burst + int(time.Since(began)/time.Second) + 1
	arrived := 1
	for i := range tries {
		arrived += w.Got(fmt.Sprint("flow-", i))
	}
	denied, err := n.Denied("a")
	if err != nil || arrived > most || int(denied[ReasonRate]) < tries+1-most {
		t.Errorf("%d arrived, where %d might; denied: %v %v", arrived, most, denied, err)
	}
	if err := first.Talk(); err != nil {
		t.Errorf("what was open: %v", err)
	}
	n.check(b, map[string]error{"1.1.1.1:443": nil})
	if denied, err := n.Denied("b"); err != nil || len(denied) > 0 {
		t.Errorf("denied to the other: %v %v", denied, err)
	}
	// The next server's limit holds for who lived under that of the one before.
	n.kill()
	n.cfg.ConnectionsPerSecond, n.cfg.ConnectionBurst = 1000, 1000
	n.restart("a", mode("internet"))
	before, err := n.Denied("a")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * burst {
		n.check(a, map[string]error{"1.1.1.1:443": nil})
	}
	if denied, err := n.Denied("a"); err != nil || denied[ReasonRate] != before[ReasonRate] {
		t.Errorf("denied by the limit of the server before: %v %v, then %v", denied, err, before)
	}
}
