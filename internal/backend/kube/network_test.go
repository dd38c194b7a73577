//go:build cluster

package kube_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/podguard"
)

// The hosts around the node of the test, which has no uplink: each is an address of its loopback link, where the test listens.
const (
	publicHost   = "203.0.114.10" // Just outside of a range for documentation, which counts as private.
	otherPublic  = "203.0.114.11"
	privateHost  = "172.31.9.9"
	metadataHost = "169.254.169.254"
	resolverHost = "10.255.255.53" // What the node's resolv.conf names.
	nodeHost     = "172.30.0.1"
	closedHost   = "203.0.114.66" // What the owner of the cluster closes.
)

func hosts() []string {
	return []string{publicHost, otherPublic, privateHost, metadataHost, resolverHost, nodeHost, closedHost}
}

// surroundings makes the hosts exist until the test ends. They listen at ports 53 and 8053, with TCP and UDP, and tell what comes by UDP.
func surroundings(t *testing.T) func(text string) bool {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	got := map[string]bool{}
	for _, host := range hosts() {
		if host != nodeHost {
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(host), Mask: net.CIDRMask(32, 32)}}
			if err := netlink.AddrReplace(lo, addr); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = netlink.AddrDel(lo, addr) })
		}
		for _, port := range []string{"53", "8053"} {
			at := net.JoinHostPort(host, port)
			l, err := net.Listen("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = fmt.Fprintf(c, "here is %s\n", host)
					_ = c.Close()
				}
			}()
			u, err := net.ListenPacket("udp", at)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = u.Close() })
			go func() {
				for buf := make([]byte, 512); ; {
					n, _, err := u.ReadFrom(buf)
					if err != nil {
						return
					}
					mu.Lock()
					_, text, _ := strings.Cut(string(buf[:n]), "<")
					text, _, _ = strings.Cut(text, ">")
					got[text] = true
					mu.Unlock()
				}
			}()
		}
	}
	return func(text string) bool {
		mu.Lock()
		defer mu.Unlock()
		return got[text]
	}
}

// reached returns the hosts whose greeting a sandbox gets over TCP at a port, all tried at once. Who is refused is told at once.
func reached(t *testing.T, b *kube.Backend, id, port string) []string {
	t.Helper()
	out, _, _ := execute(t, b, id, "/bin/sh", "-c", fmt.Sprintf("for h in %s; do /bin/busybox nc -w 30 $h %s & done; wait", strings.Join(hosts(), " "), port))
	return slices.DeleteFunc(hosts(), func(h string) bool { return !strings.Contains(out, "here is "+h+"\n") })
}

// sendUDP sends a datagram to each host, at once: a question for a file of which nobody answers.
func sendUDP(t *testing.T, b *kube.Backend, id, port string) {
	t.Helper()
	execute(t, b, id, "/bin/sh", "-c", fmt.Sprintf("for h in %s; do /bin/busybox timeout 2 /bin/busybox tftp -g -l /tmp/none -r \"<%s to $h>\" $h %s & done; wait", strings.Join(hosts(), " "), id, port))
}

// eventually waits for something that a sandbox does again and again.
func eventually(t *testing.T, what string, try func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !try(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// execute runs a command in a sandbox and returns what it printed.
func execute(t *testing.T, b *kube.Backend, id string, argv ...string) (stdout, stderr string, code int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p, err := b.Exec(ctx, id, backend.Exec{Argv: argv})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for {
		f, err := p.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch f.Kind {
		case backend.FrameStdout:
			stdout += string(f.Data)
		case backend.FrameStderr:
			stderr += string(f.Data)
		case backend.FrameExit:
			return stdout, stderr, f.ExitCode
		}
	}
}

// launch starts a sandbox in an egress mode, nil for none, and waits until it runs.
func launch(t *testing.T, b *kube.Backend, id string, mode *specpb.EgressMode) {
	t.Helper()
	w := job(t, id, "sleep", "infinity")
	if mode != nil {
		w.Spec.Network = &specpb.Network{Egress: &specpb.Egress{Default: proto.String("m"), Modes: map[string]*specpb.EgressMode{"m": mode}}}
	}
	if err := b.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = b.Stop(context.WithoutCancel(t.Context()), id, 0, core.EndDeleted)
		seen(t, b)(id, "it ends", over)
		_ = b.Delete(context.WithoutCancel(t.Context()), id)
	})
	if o := seen(t, b)(id, "it runs", func(o *backend.Observation) bool { return runs(o) || over(o) }); over(o) {
		t.Fatalf("%s ended: %s: %s", id, o.Reason, o.Message)
	}
}

func guarded(c *kube.Config) {
	c.Options.Network = kube.NetworkGuard
	c.Options.DeniedEgress = []netip.Prefix{netip.MustParsePrefix(closedHost + "/32")}
}

// TestNetworkGuard: what a pod reaches in each mode is what the mode says, on a cluster that enforces no policy; and everything without.
func TestNetworkGuard(t *testing.T) {
	received := surroundings(t)
	free, _ := world(t, nil)
	launch(t, free, "free", nil)
	for _, port := range []string{"53", "8053"} {
		if got := reached(t, free, "free", port); !slices.Equal(got, hosts()) {
			t.Errorf("without rules only %v are reached at port %s: what follows shows nothing", got, port)
		}
	}
	b, _ := world(t, func(c *kube.Config) {
		guarded(c)
		c.RunnerName = "guarded"
	})
	launch(t, b, "neighbour", nil)
	neighbour := strings.TrimSpace(kubectl(t, "", "-n", "org-ns-org-fault", "get", "pod", "sandbox-neighbour", "-o", "jsonpath={.status.podIP}"))
	for name, test := range map[string]struct {
		mode *specpb.EgressMode
		// open are hosts reached at port 8053, asks whether the resolver is asked.
		open []string
		asks bool
	}{
		"none":      {&specpb.EgressMode{Type: "none"}, nil, false},
		"internet":  {&specpb.EgressMode{Type: "internet"}, []string{publicHost, otherPublic}, true},
		"public":    {&specpb.EgressMode{Type: "allowlist", Cidrs: []string{publicHost + "/32"}}, []string{publicHost}, true},
		"private":   {&specpb.EgressMode{Type: "allowlist", Cidrs: []string{"172.16.0.0/12"}}, []string{privateHost}, true},
		"metadata":  {&specpb.EgressMode{Type: "allowlist", Cidrs: []string{metadataHost + "/32"}}, []string{metadataHost}, true},
		"all-of-v4": {&specpb.EgressMode{Type: "allowlist", Cidrs: []string{"0.0.0.0/0", "10.0.0.0/8"}}, []string{publicHost, otherPublic, resolverHost}, true},
	} {
		t.Run(name, func(t *testing.T) {
			launch(t, b, name, test.mode)
			if got := reached(t, b, name, "8053"); !slices.Equal(got, test.open) {
				t.Errorf("reached are %v", got)
			}
			var asked []string
			if test.asks {
				asked = []string{resolverHost}
			}
			if got := reached(t, b, name, "53"); !slices.Equal(got, asked) {
				t.Errorf("asked for names are %v", got)
			}
			for _, host := range test.open {
				eventually(t, host+" is reached by UDP", func() bool {
					sendUDP(t, b, name, "8053")
					return received(name + " to " + host)
				})
			}
			sendUDP(t, b, name, "8053")
			sendUDP(t, b, name, "53")
			for _, host := range hosts() {
				if received(name+" to "+host) && !slices.Contains(test.open, host) && !(test.asks && host == resolverHost) {
					t.Errorf("%s is reached by UDP", host)
				}
			}
			if name == "all-of-v4" { // The list names the network that it is in.
				return
			}
			if out, errs, code := execute(t, b, name, "/bin/busybox", "nc", "-w", "20", neighbour, "8053"); code == 0 || strings.Contains(errs, "timed out") {
				t.Errorf("a neighbour is not refused: code %d, %s%s", code, out, errs)
			}
		})
	}
}

// TestNetworkGuardStays: who is root in a sandbox can neither change the rules, nor go round them, nor be reached.
func TestNetworkGuardStays(t *testing.T) {
	surroundings(t)
	b, _ := world(t, guarded)
	launch(t, b, "attacker", &specpb.EgressMode{Type: "internet"})
	out, errs, code := execute(t, b, "attacker", "/bin/env", podguard.NodeEnv+"=203.0.114.7", "/.berm/berm-shim", "install", "/tmp", "allow any")
	if code == 0 || !strings.Contains(errs, "not permitted") {
		t.Errorf("the rules can be written anew: code %d, %s%s", code, out, errs)
	}
	status, _, _ := execute(t, b, "attacker", "cat", "/proc/self/status")
	for _, line := range strings.Split(status, "\n") {
		name, value, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(name, "Cap") {
			continue
		}
		var set uint64
		if _, err := fmt.Sscanf(strings.TrimSpace(value), "%x", &set); err != nil {
			t.Fatal(err)
		}
		for _, right := range []int{12, 13, 21} { // NET_ADMIN, NET_RAW, SYS_ADMIN
			if set&(1<<right) != 0 {
				t.Errorf("%s has the right %d", line, right)
			}
		}
	}
	if got := reached(t, b, "attacker", "8053"); !slices.Equal(got, []string{publicHost, otherPublic}) {
		t.Errorf("reached are %v", got)
	}
	free, _ := world(t, func(c *kube.Config) { c.RunnerName = "free" })
	launch(t, free, "open", nil)
	launch(t, free, "caller", nil)
	call := func(id string) string {
		address := strings.TrimSpace(kubectl(t, "", "-n", "org-ns-org-fault", "get", "pod", "sandbox-"+id, "-o", "jsonpath={.status.podIP}"))
		out, _, _ := execute(t, free, "caller", "/bin/busybox", "nc", "-w", "3", address, "8053")
		return out
	}
	for id, of := range map[string]*kube.Backend{"open": free, "attacker": b} {
		execute(t, of, id, "/bin/sh", "-c", "(while :; do echo here is me | /bin/busybox nc -l -p 8053; done) </dev/null >/dev/null 2>&1 &")
		eventually(t, id+" listens", func() bool {
			out, _, _ := execute(t, of, id, "/bin/busybox", "nc", "-w", "3", "127.0.0.1", "8053")
			return strings.Contains(out, "here is me")
		})
	}
	eventually(t, "who has no rules is reached", func() bool { return strings.Contains(call("open"), "here is me") })
	if out := call("attacker"); out != "" {
		t.Errorf("the sandbox is reached: %s", out)
	}
}

// TestNetworkGuardRefused: what cannot be held to is refused before anything is made.
func TestNetworkGuardRefused(t *testing.T) {
	b, _ := world(t, guarded)
	for _, mode := range []*specpb.EgressMode{{Type: "org"}, {Type: "allowlist", DnsNames: []string{"a.example"}}} {
		w := job(t, "refused", "true")
		w.Spec.Network = &specpb.Network{Egress: &specpb.Egress{Default: proto.String("m"), Modes: map[string]*specpb.EgressMode{"m": mode}}}
		if err := b.Create(t.Context(), w); !fault.HasReason(err, fault.ReasonBackendUnsupported) {
			t.Errorf("%v: %v", mode, err)
		}
	}
}

// TestNetworkPolicies: the policy of a sandbox is there before its pod, as it was meant, and goes with it. The network plugin of the test's
// cluster enforces none: the connection goes through, which is what the documentation says of such clusters.
func TestNetworkPolicies(t *testing.T) {
	surroundings(t)
	b, _ := world(t, func(c *kube.Config) { c.Options.Network = kube.NetworkPolicies })
	policies := func() string {
		return kubectl(t, "", "-n", "org-ns-org-fault", "get", "networkpolicies", "-o", "jsonpath={range .items[*]}{.metadata.name} {.spec.policyTypes} {.spec.egress} {.spec.ingress};{end}")
	}
	w := job(t, "closed", "sleep", "infinity")
	w.Spec.Network = &specpb.Network{Egress: &specpb.Egress{Default: proto.String("m"), Modes: map[string]*specpb.EgressMode{"m": {Type: "none"}}}}
	if err := b.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	seen(t, b)(w.SandboxID, "it runs", runs)
	if got := policies(); got != `sandbox-closed ["Ingress","Egress"]  ;` {
		t.Errorf("the policies are %s", got)
	}
	stamps := strings.Fields(kubectl(t, "", "-n", "org-ns-org-fault", "get", "networkpolicy/sandbox-closed", "pod/sandbox-closed", "-o", "jsonpath={range .items[*]}{.metadata.managedFields[0].time} {end}"))
	if len(stamps) != 2 || stamps[0] > stamps[1] {
		t.Errorf("policy and pod were made at %v", stamps)
	}
	if got := reached(t, b, w.SandboxID, "8053"); !slices.Equal(got, hosts()) {
		t.Errorf("the plugin of this cluster enforces policies? reached are %v", got)
	}
	clear(t, b, w.SandboxID)
	if got := policies(); got != "" {
		t.Errorf("left are %s", got)
	}
	// A pod that is refused leaves no policy.
	w = job(t, "refused", "true")
	w.Spec.Pod.Spec = podFragment(t, `{"priorityClassName": "none-such"}`)
	if err := b.Create(t.Context(), w); err == nil {
		t.Error("a pod of a priority that does not exist was made")
	}
	if got := policies(); got != "" {
		t.Errorf("left are %s", got)
	}
}

// TestNetworkTrial: what a runner finds out about its cluster. Rules in the pod hold here; policies do not, as the plugin enforces none.
func TestNetworkTrial(t *testing.T) {
	all := map[kube.Network]map[string]string{
		kube.NetworkGuard:    {"none": "proven: ", "internet": "proven: ", "allowlist": "proven: ", "org": "not enforceable here: "},
		kube.NetworkPolicies: {"none": "not enforceable here: ", "internet": "not enforceable here: ", "allowlist": "not enforceable here: ", "org": "declared: "},
		kube.NetworkBoth:     {"none": "proven: ", "internet": "proven: ", "allowlist": "proven: ", "org": "declared: "},
	}
	t.Run("each", func(t *testing.T) {
		for network, want := range all {
			t.Run(string(network), func(t *testing.T) {
				t.Parallel()
				tryNetwork(t, network, want)
			})
		}
	})
	if left := kubectl(t, "", "-n", "org-ns-berm-trial", "get", "pods,networkpolicies", "-o", "name"); left != "" {
		t.Errorf("the trials left %s", left)
	}
}

func tryNetwork(t *testing.T, network kube.Network, want map[string]string) {
	t.Helper()
	b, _ := world(t, func(c *kube.Config) { c.Options.Network = network })
	var info backend.Info
	eventually(t, "something is found out", func() bool {
		time.Sleep(100 * time.Millisecond)
		info = b.Info()
		rt := info.Of("")
		return len(rt.Enforcement) > 0 && !strings.Contains(rt.Enforcement[0].Note, "not tried yet")
	})
	rt := info.Of("")
	for typ, begin := range want {
		i := slices.IndexFunc(rt.Enforcement, func(e backend.Enforcement) bool { return e.Name == "egress:"+typ })
		if i < 0 || !strings.HasPrefix(rt.Enforcement[i].Note, begin) {
			t.Errorf("%s: want %q: %+v", typ, begin, rt.Enforcement)
		}
		if got := slices.Contains(info.Features, "proven:"+typ); got != (begin == "proven: ") {
			t.Errorf("%s is said to be proven: %v", typ, got)
		}
	}
	if got := rt.Unenforced["network.egress.selected"] != ""; got != (network == kube.NetworkPolicies) {
		t.Errorf("fields that do not hold: %v", rt.Unenforced)
	}
}
