package network

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

// BenchmarkAttach is what a network adds to the start of a sandbox: with a namespace that was made ahead, and without. Taking it away
// again is not counted; BenchmarkDetach counts that.
func BenchmarkAttach(b *testing.B) {
	for name, pool := range map[string]int{"made-ahead": MaxPool, "made-then": -1} {
		b.Run(name, func(b *testing.B) {
			n := benchNetwork(b, pool)
			if pool > 0 {
				n.fillTo(min(pool, b.N))
			}
			for i := 0; b.Loop(); i++ {
				if pool > 0 && i%pool == pool-1 {
					b.StopTimer()
					n.fillTo(pool)
					b.StartTimer()
				}
				a := n.attach(fmt.Sprint("box-", i), mode("internet"))
				if pool > 0 && !a.Pooled {
					b.Log("not made ahead")
				}
				b.StopTimer()
				if err := n.Detach(fmt.Sprint("box-", i)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
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
			if err := n.Unpin(a.Addr4, "a.example"); err != nil {
				b.Fatal(err)
			}
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

// fillTo waits until so many namespaces are ready.
func (n *testNetwork) fillTo(count int) {
	n.until(func() bool { n.pool.mu.Lock(); defer n.pool.mu.Unlock(); return len(n.pool.ready) >= count })
}
