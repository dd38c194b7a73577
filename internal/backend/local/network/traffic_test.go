package network

import (
	"testing"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

// TestTraffic: what a sandbox sends and receives is counted for it alone.
func TestTraffic(t *testing.T) {
	n := open(t, networktest.New(t))
	a, other := n.attach("one", mode("internet")), n.attach("other", mode("internet"))
	if err := n.reaches(other, "1.1.1.1:443"); err != nil {
		t.Fatal(err)
	}
	before, idle := n.Traffic("one"), n.Traffic("other")
	if idle == 0 {
		t.Error("a connection left no traffic")
	}
	const connections = 20
	for range connections {
		if err := n.reaches(a, "1.1.1.1:443"); err != nil {
			t.Fatal(err)
		}
	}
	// The last words of what the other one did before, and of its link coming up, may still be on their way.
	more, rest := n.Traffic("one")-before, n.Traffic("other")-idle
	if more < connections*100 || rest > more/5 {
		t.Errorf("%d connections: %d bytes, and %d of the other one, which did nothing", connections, more, rest)
	}
	if bytes := n.Traffic("nobody"); bytes != 0 {
		t.Errorf("nobody has %d bytes", bytes)
	}
}
