package local

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
)

// networked is the network of a spec with one egress mode.
func networked(typ string, cidrs ...string) *specpb.Network {
	name := "net"
	return &specpb.Network{Egress: &specpb.Egress{Selected: &name, Modes: map[string]*specpb.EgressMode{name: {Type: typ, Cidrs: cidrs}}}}
}

func networkedWork(typ string, cidrs ...string) *backend.Work {
	w := work("sleep", "infinity")
	w.Spec.Network = networked(typ, cidrs...)
	w.OrgID, w.UserID, w.ProfileName = "org", "user", "profile"
	return w
}

// connects looks from inside a sandbox which destinations it can connect to.
func (b *testBackend) connects(id string, want map[string]bool) {
	b.t.Helper()
	all := slices.Sorted(maps.Keys(want))
	const program = `
import socket, sys
for to in sys.argv[1:]:
    host, port = to.rsplit(":", 1)
    try: socket.create_connection((host.strip("[]"), int(port)), timeout=20).close(); print("yes")
    except OSError as e: print("no")`
	got, err := b.tryExec(b.t.Context(), id, backend.Exec{Argv: append([]string{"python3", "-c", program}, all...)})
	if err != nil {
		b.t.Fatal(err)
	}
	lines := strings.Fields(got.out)
	if len(lines) != len(all) {
		b.t.Fatalf("%q %q", got.out, got.err)
	}
	for i, to := range all {
		if (lines[i] == "yes") != want[to] {
			b.t.Errorf("%s connects to %s: %s", id, to, lines[i])
		}
	}
}

// changeLink tells the links that there are, and whether root of a sandbox may add an address to one and a route.
const changeLink = `
import socket, struct
print(*sorted(name for _, name in socket.if_nameindex()))
index = dict((name, i) for i, name in socket.if_nameindex())["eth0"]
def ask(kind, body):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.send(struct.pack("=IHHII", 16 + len(body), kind, 0x605, 1, 0) + body)
    r = s.recv(4096)
    print("refused" if struct.unpack("=i", r[16:20])[0] < 0 else "changed")
ask(20, struct.pack("=BBBBI", 2, 24, 0, 0, index) + struct.pack("=HH4s", 8, 2, socket.inet_aton("198.51.100.9")) + struct.pack("=HH4s", 8, 1, socket.inet_aton("198.51.100.9")))
ask(24, struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 3, 0, 1, 0) + struct.pack("=HH4s", 8, 1, socket.inet_aton("198.51.100.0")) + struct.pack("=HHI", 8, 4, index))`

// talker is a main process that echoes over one connection for as long as that lasts, and tells in a file whether it does.
const talker = `
import os, socket, sys, time
def tell(word):
    with open("/tmp/word.new", "w") as f: f.write(word)
    os.rename("/tmp/word.new", "/tmp/word")
host, port = sys.argv[1].rsplit(":", 1)
s = socket.create_connection((host, int(port)), timeout=20)
try:
    while True:
        s.sendall(b"x")
        if s.recv(1) != b"x": break
        tell("talks"); time.sleep(0.02)
except OSError: pass
tell("cut"); time.sleep(3600)`

// bulk sends more than fits into buffers, and compares what comes back: packets are split, joined and summed up on the way.
const bulk = `
import os, socket, sys, threading
s = socket.create_connection(("198.51.100.7", 443), timeout=60)
data = os.urandom(1 << 16) * 64
def send():
    s.sendall(data); s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
got = bytearray()
while part := s.recv(1 << 16): got += part
print(bytes(got) == data)`

// runtimesWithNetwork are those that tests of networks run with: two on the machine's network stack, one with a stack of its own.
func runtimesWithNetwork() []string { return []string{"crun", "runc", "runsc"} }

// TestNetwork: a sandbox of each runtime reaches what its mode allows, as root of its own and with all that a restart changes.
func TestNetwork(t *testing.T) {
	networktest.New(t)
	for _, runtime := range runtimesWithNetwork() {
		t.Run(runtime, func(t *testing.T) { networkLife(t, runtime) })
	}
}

// networkLife is the life of a sandbox with a network, over two restarts.
func networkLife(t *testing.T, runtime string) {
	b := open(t, withRuntime(runtime))
	w := networkedWork("allowlist", "198.51.100.0/24", "2001:db8:1::/48")
	w.Launch.Command, w.Launch.Args = "python3", []string{"-c", talker, "198.51.100.7:443"}
	id := b.launch(w)
	none := b.launch(work("sleep", "infinity"))
	want := map[string]bool{
		"198.51.100.7:443": true, "[2001:db8:1::7]:443": true, "1.1.1.1:443": false, "10.0.0.1:443": false, "169.254.169.254:80": false,
		"192.168.7.2:80": false, "198.51.100.7:53": false, "2852039166:80": false, "[64:ff9b::169.254.169.254]:80": false, "[fd00:ec2::254]:80": false, "[::ffff:169.254.169.254]:80": false,
	}
	b.connects(id, want)
	b.connects(none, map[string]bool{"198.51.100.7:443": false})
	for _, c := range []script{
		{"one link, which is not its own", "python3 -c '" + changeLink + "'; echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding || echo refused", "eth0 lo\nrefused\nrefused\nrefused\n", ""},
		{"no privilege over it", `python3 -c '
import socket
for args in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_INET6, socket.SOCK_RAW, 58), (socket.AF_PACKET, socket.SOCK_RAW, 0)):
    try: socket.socket(*args); print("opened", args)
    except OSError: print("refused")'`, "refused\nrefused\nrefused\n", ""},
		{"low ports", `python3 -c 'import socket; s = socket.socket(); s.bind(("", 80)); s.listen(); print("ok")'`, "ok\n", ""},
		{"its resolver", "grep -c '^nameserver ' /etc/resolv.conf", "2\n", ""},
		{"much at once", "python3 -c '" + bulk + "'", "True\n", ""},
	} {
		if got := b.shell(id, "("+c.run+") 2>/dev/null"); got.out != c.want {
			t.Errorf("%s: %+v, want %q", c.name, got, c.want)
		}
	}
	// Not even where the runtime could: what is open in its network stack would be lost.
	if err := b.Suspend(t.Context(), id); !fault.HasReason(err, fault.ReasonBackendUnsupported) {
		t.Errorf("suspended: %v", err)
	}
	fork := networkedWork("allowlist", "198.51.100.0/24", "2001:db8:1::/48")
	fork.Launch.ForkOf = id
	if err := b.Check(fork); !fault.HasReason(err, fault.ReasonBackendUnsupported) {
		t.Errorf("forked: %v", err)
	}
	if err := b.Pause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := b.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	b.connects(id, want)
	b.says(id, "talks")
	// The owner of the machine closes something: what was let through before is not any more, nor does what was open go on.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.cfg.Network.Denied = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/28")}
	b.Backend = b.start()
	b.connects(id, map[string]bool{"198.51.100.7:443": false, "198.51.100.17:443": true})
	b.says(id, "cut")
	denied, err := b.net.Denied(id)
	if err != nil || denied["denied"] == 0 || denied["metadata"] == 0 {
		t.Errorf("denied: %v %v", denied, err)
	}
}

// says waits for the word of a talker.
func (b *testBackend) says(id, word string) {
	b.t.Helper()
	b.until("it "+word, func() bool { return b.exec(id, "cat", "/tmp/word").out == word })
}

// TestNetworkGone: with its last sandbox everything of the network goes from the machine, and without one nothing is made.
func TestNetworkGone(t *testing.T) {
	networktest.New(t)
	rules := func() string {
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		forward, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + networktest.Uplink + "/forwarding")
		if err != nil {
			t.Fatal(err)
		}
		return string(forward) + fmt.Sprint(len(links))
	}
	before := rules()
	b := open(t, withRuntime("crun"))
	b.ended(b.launch(work("true")))
	if now := rules(); now != before {
		t.Errorf("without a network: %s, before %s", now, before)
	}
	w := networkedWork("internet")
	w.Launch.Command, w.Launch.Args = "true", nil
	b.ended(b.launch(w))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if now := rules(); now != before {
		t.Errorf("afterwards: %s, before %s", now, before)
	}
	b.Backend = b.start()
}

// TestNetworkStopped: a sandbox that has ended has no address any more.
func TestNetworkStopped(t *testing.T) {
	networktest.New(t)
	b := open(t, withRuntime("crun"))
	id := b.launch(networkedWork("org"))
	b.isRunning(id)
	g, ok := b.net.Of(id)
	if !ok {
		t.Fatal("it has no network")
	}
	if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	b.ended(id)
	s, err := b.get(id)
	if err != nil {
		t.Fatal(err)
	}
	<-s.released
	if _, ok := b.net.Guest(g.Addr4); ok {
		t.Error("its address is still its")
	}
}

// TestNetworkPrepared: a sandbox that was prepared ahead has the network of its profile, which stays its own over a restart; where that
// depends on who launches it, none is prepared.
func TestNetworkPrepared(t *testing.T) {
	networktest.New(t)
	b := open(t, withRuntime("crun"))
	w := networkedWork("internet")
	b.warmUp(w, 1)
	want := map[string]bool{"1.1.1.1:443": true, "10.0.0.1:443": false}
	id := b.launch(w)
	b.isRunning(id)
	if s, err := b.get(id); err != nil || !isSlot(s.slot) {
		t.Fatalf("it was not prepared: %v", err)
	}
	b.connects(id, want)
	b.noPools()
	b.reopen()
	b.connects(id, want)
	n, err := b.Network(t.Context(), id, egress.Target{})
	if err != nil || len(n.Addresses) == 0 || n.Connections["private"] == 0 {
		t.Errorf("%+v %v", n, err)
	}
	if err := b.SetPools(t.Context(), []backend.Pool{poolFor(networkedWork("user"), 1)}); err != nil {
		t.Fatal(err)
	}
	b.until("it is said why none is prepared", func() bool {
		p := b.Pools()
		return len(p) == 1 && strings.Contains(p[0].Problem, "user")
	})
	b.noPools()
}
