package network

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

// testNetwork is a network on the test's machine. At the end of the test nothing may be left on that.
type testNetwork struct {
	*Network
	t   testing.TB
	w   *networktest.World
	cfg Config
}

func open(t testing.TB, w *networktest.World, change ...func(*Config)) *testNetwork {
	t.Helper()
	cfg := Config{
		Name: "berm-" + fmt.Sprintf("%010x", hash(t.Name())), Dir: filepath.Join(t.TempDir(), "net"), Pool: -1,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range change {
		f(&cfg)
	}
	n := &testNetwork{t: t, w: w, cfg: cfg}
	n.Network = n.start()
	t.Cleanup(n.finish)
	return n
}

func (n *testNetwork) start() *Network {
	n.t.Helper()
	x, err := Open(n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	if why := x.Refusal(); why != "" {
		n.t.Fatalf("no network on this machine: %s", why)
	}
	return x
}

func (n *testNetwork) finish() {
	for id := range n.guests {
		if err := n.Detach(id); err != nil {
			n.t.Errorf("detach %s: %v", id, err)
		}
	}
	if err := n.Close(); err != nil {
		n.t.Errorf("close: %v", err)
	}
	n.checkClean()
}

// checkClean looks for what a network could leave on the machine.
func (n *testNetwork) checkClean() {
	n.t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, l := range links {
		if n.own(l.Attrs().Name) {
			n.t.Errorf("a link is left: %s", l.Attrs().Name)
		}
	}
	k, err := newKernel(n.names, block{}, &Config{Connections: 1, AllConnections: 1})
	if err != nil {
		n.t.Fatal(err)
	}
	if left, _ := k.conn.ListTable(n.table); left != nil {
		n.t.Errorf("a table is left: %s", left.Name)
	}
	if _, err := os.Stat(n.dir); err == nil {
		n.t.Errorf("%s is left", n.dir)
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil || strings.Contains(string(mounts), n.dir) {
		n.t.Errorf("mounts are left (%v)", err)
	}
	for _, s := range []string{forward4, forward6} {
		if v := readSetting(fmt.Sprintf(s, networktest.Uplink)); v == "1" {
			n.t.Errorf("%s is left on", fmt.Sprintf(s, networktest.Uplink))
		}
	}
}

// attach gives a sandbox of org "o" and user "u" a network.
func (n *testNetwork) attach(id string, mode *specpb.EgressMode, change ...func(*Request)) *Attachment {
	n.t.Helper()
	r := Request{ID: id, Mode: "m", Egress: mode, Org: "o", User: "u", Profile: "p"}
	for _, f := range change {
		f(&r)
	}
	a, err := n.Attach(r)
	if err != nil {
		n.t.Fatalf("attach %s: %v", id, err)
	}
	return a
}

// reaches reports whether a TCP connection from a sandbox is made, and how it fails.
func (n *testNetwork) reaches(a *Attachment, to string) error {
	n.t.Helper()
	c, err := networktest.Connect(a.Namespace, netip.MustParseAddrPort(to))
	if err == nil {
		c.Close()
	}
	return err
}

func mode(typ string, cidrs ...string) *specpb.EgressMode {
	return &specpb.EgressMode{Type: typ, Cidrs: cidrs}
}

// patience bounds what must happen.
const patience = time.Minute

// until waits for what must happen.
func (n *testNetwork) until(f func() bool) {
	n.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatal("it did not happen")
		}
	}
}

// kill ends this server's share without cleaning up, as a kill of its process does.
func (n *testNetwork) kill() {
	n.t.Helper()
	n.pool.mu.Lock()
	n.pool.closed = true
	n.pool.mu.Unlock()
	n.cancel()
	n.running.Wait()
}

// restart is the next server, which finds one sandbox living.
func (n *testNetwork) restart(id string, m *specpb.EgressMode) {
	n.t.Helper()
	n.Network = n.start()
	lost, err := n.Adopt([]Request{{ID: id, Mode: "m", Egress: m, Org: "o", User: "u", Profile: "p"}})
	if err != nil || len(lost) > 0 {
		n.t.Fatalf("adopt: %v, lost %q", err, lost)
	}
}
