package local

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core/egress"
)

// claims sends first words on a connection to each address and says what came back: the hosts of the test send everything back.
const claims = `
import socket, sys
for to in sys.argv[2:]:
    host, port = to.rsplit(":", 1)
    try:
        s = socket.create_connection((host, int(port)), timeout=20)
        s.sendall(sys.argv[1].encode())
        print("said", flush=True) if s.recv(4) else print("closed", flush=True)
    except OSError: print("refused", flush=True)`

// TestClaimedNames: what a connection says of its destination, as the server name of TLS, the host of a request or of a CONNECT, opens
// nothing and closes nothing: the address decides, and addresses are opened by looking a listed name up. So a name that is not listed is
// neither answered nor reached at an address of its own; at an address that it shares with a listed name it can be reached, as with content
// networks and object stores, which docs/local.md says.
func TestClaimedNames(t *testing.T) {
	networktest.New(t)
	outside := newNameServer(t, "mine.store.example. 60 A 1.1.1.1", "yours.store.example. 60 A 1.1.1.1", "away.store.example. 60 A 6.6.6.6", "store.example. 60 A 6.6.6.6")
	b := open(t, withNames(outside, "crun"))
	id := b.launch(namedWork("mine.store.example"))
	b.connects(id, map[string]bool{"mine.store.example:443": true, "yours.store.example:443": false, "away.store.example:443": false, "store.example:443": false})
	for name, words := range map[string]string{
		"host":    "GET /secret HTTP/1.1\r\nHost: mine.store.example\r\n\r\n",
		"connect": "CONNECT mine.store.example:443 HTTP/1.1\r\nHost: mine.store.example\r\n\r\n",
		"tls":     "\x16\x03\x01 mine.store.example",
	} {
		if got := b.exec(id, "python3", "-c", claims, words, "6.6.6.6:443", "6.6.6.6:80", "10.0.0.1:443", "169.254.169.254:80"); got.out != strings.Repeat("refused\n", 4) {
			t.Errorf("%s with a listed name, to addresses that are closed: %+v", name, got)
		}
	}
	// What is left: the same address under another name. Who lists a name lists its address.
	if got := b.exec(id, "python3", "-c", claims, "GET / HTTP/1.1\r\nHost: yours.store.example\r\n\r\n", "1.1.1.1:443"); got.out != "said\n" {
		t.Errorf("another name at a listed address: %+v", got)
	}
	// A listed pattern opens all names below it, each at the addresses that it has.
	wild := b.launch(namedWork("*.store.example"))
	b.connects(wild, map[string]bool{"yours.store.example:443": true, "away.store.example:443": true, "store.example:443": false})
}

// TestDNSOverHTTPS: a resolver that is asked over HTTPS is a destination like any other: closed unless its address is open; and what it
// answers opens nothing, because only our resolver's answers do.
func TestDNSOverHTTPS(t *testing.T) {
	networktest.New(t)
	outside := newNameServer(t, "mine.example. 60 A 1.1.1.1", "doh.example. 60 A 8.8.4.4", "hidden.example. 60 A 6.6.6.6")
	b := open(t, withNames(outside, "crun"))
	resolvers := map[string]bool{"8.8.4.4:443": false, "[2606:4700::1111]:443": false, "doh.example:443": false, "8.8.4.4:853": false, "8.8.4.4:53": false}
	for name, id := range map[string]string{
		"names": b.launch(namedWork("mine.example")), "ranges": b.launch(networkedWork("allowlist", "198.51.100.0/24")), "scope": b.launch(networkedWork("user")),
		"none": b.launch(work("sleep", "infinity")),
	} {
		t.Log(name)
		b.connects(id, resolvers)
	}
	// One that lists the resolver itself learns an address there, and does not reach it.
	listed := b.launch(namedWork("doh.example"))
	b.connects(listed, map[string]bool{"doh.example:443": true})
	b.connects(listed, map[string]bool{"8.8.4.4:443": true, "8.8.4.4:853": false, "hidden.example:443": false, "6.6.6.6:443": false})
	// In internet it is open, as everything public is, and what is closed stays so whoever answers it.
	web := b.launch(networkedWork("internet"))
	b.connects(web, map[string]bool{"8.8.4.4:443": true, "8.8.4.4:853": false, "8.8.4.4:53": false, "10.0.0.1:443": false, "169.254.169.254:80": false})
}

// TestNoToken: a sandbox is given nothing that the server, or anybody else, would take for somebody: no token, no socket and no address.
func TestNoToken(t *testing.T) {
	networktest.New(t)
	server, err := net.Listen("tcp", netip.AddrPortFrom(networktest.Machine4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	b := open(t, withRuntime("crun"))
	id := b.launch(networkedWork("internet"))
	b.isRunning(id)
	_, port, _ := net.SplitHostPort(server.Addr().String())
	gateway := b.network(id, "pypi.org").Around.Resolvers[0]
	b.connects(id, map[string]bool{server.Addr().String(): false, net.JoinHostPort(gateway.String(), port): false, "127.0.0.1:" + port: false})
	for _, c := range []script{
		{"environment", "env | cut -d= -f1 | grep -viE '^(PATH|HOME|HOSTNAME|USER|TERM|SHLVL|PWD|_|OLDPWD|LANG|LOGNAME|SHELL)$'; echo over", "over\n", ""},
		{"files of tokens", "ls -d /run/secrets /var/run/secrets /run/berm* /var/lib/berm* ~/.config ~/.docker /etc/berm* 2>/dev/null; echo over", "over\n", ""},
		{"sockets", "find /run /tmp /var /home /root /workspace /etc /dev -xdev -type s 2>/dev/null; grep -c ' /' /proc/net/unix; echo over", "0\nover\n", ""},
		{"our directories", "grep -c admin.token /proc/self/mountinfo; find / -xdev -name 'admin.token*' -o -xdev -name berm.db 2>/dev/null; echo over", "0\nover\n", ""},
	} {
		if got := b.shell(id, c.run); got.out != c.want {
			t.Errorf("%s: %+v, want %q", c.name, got, c.want)
		}
	}
	if n := b.network(id, "pypi.org"); n.Connections[string(egress.ClassMachine)] == 0 {
		t.Errorf("nothing to the machine was denied: %v", n.Connections)
	}
}
