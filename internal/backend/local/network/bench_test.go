package network

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

// BenchmarkAttach is what a network adds to the start of a sandbox: with a namespace that was made ahead, and without.
func BenchmarkAttach(b *testing.B) {
	for _, c := range []struct {
		name string
		pool int
	}{{"made-ahead", round}, {"made-then", -1}} {
		b.Run(c.name, func(b *testing.B) {
			n := benchNetwork(b, c.pool)
			for i := 0; b.Loop(); i++ {
				if i%round == 0 {
					b.StopTimer()
					n.fresh(c.pool)
					b.StartTimer()
				}
				n.attach(fmt.Sprint("box-", i), mode("internet"))
			}
		})
	}
}

// round is how many sandboxes are there at a time.
const round = 100

// fresh ends all sandboxes, and waits until nothing of them is left and so many namespaces are ready.
func (n *testNetwork) fresh(pool int) {
	for id := range n.guests {
		if err := n.Detach(id); err != nil {
			n.t.Fatal(err)
		}
	}
	n.until(func() bool {
		n.pool.mu.Lock()
		defer n.pool.mu.Unlock()
		return len(n.pool.ready) >= pool && len(n.pool.used) == len(n.pool.ready)
	})
}

// BenchmarkDetach is how long the end of a sandbox waits until its network works no more; the rest goes in the background.
func BenchmarkDetach(b *testing.B) {
	n := benchNetwork(b, -1)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		n.attach(fmt.Sprint("box-", i), mode("internet"))
		b.StartTimer()
		if err := n.Detach(fmt.Sprint("box-", i)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPin is what an answer waits for the kernel.
func BenchmarkPin(b *testing.B) {
	n := benchNetwork(b, -1)
	m := mode("allowlist")
	m.DnsNames = []string{"a.example"}
	a := n.attach("one", m)
	addr := n.block.addr4(0)
	for i := 0; b.Loop(); i++ {
		addr = add(addr, 1)
		if i%1000 == 999 {
			b.StopTimer()
			n.expire("one")
			b.StartTimer()
		}
		if err := n.Pin(a.Addr4, "a.example", []netip.Addr{addr}, MinPin); err != nil {
			b.Fatal(err)
		}
	}
}

func benchNetwork(b *testing.B, pool int) *testNetwork {
	b.Helper()
	w := networktest.New(b)
	cfg := Config{Name: "berm-bench", Dir: filepath.Join(b.TempDir(), "net"), Pool: pool, Logger: slog.New(slog.DiscardHandler)}
	n := &testNetwork{t: b, w: w, cfg: cfg}
	n.Network = n.start()
	b.Cleanup(n.finish)
	n.attach("first", mode("internet"))
	return n
}
