package podguard

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/nft"
)

// Table is the name of the nftables table.
const Table = "berm"

// Limits of new connections and exchanges with resolvers, which can carry anything to whoever answers for a name.
const (
	QuestionsPerSecond = 50
	QuestionBurst      = 200
)

// beforeTranslation is a priority after that of connection tracking and before that of any translation of destinations: what is
// decided about is what the sandbox asked for.
const beforeTranslation = -150

// Names of the chains.
const (
	chainOut    = "output"
	chainIn     = "input"
	chainRefuse = "refuse"
	chainAsk    = "questions"
)

// writer writes the rules. Both hooks drop what no rule lets through, so that nothing is open by a rule that is missing.
type writer struct {
	conn *nftables.Conn
	t    *nftables.Table
}

// Apply makes rules hold in the network namespace of the calling thread, in the place of any that Apply made there before: all of them, or
// none and an error. It needs CAP_NET_ADMIN there, and nftables in the kernel.
func Apply(rules []Rule, around *Around) error {
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	w := &writer{conn: conn, t: &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}}
	conn.AddTable(w.t)
	conn.DelTable(w.t)
	conn.AddTable(w.t)
	w.frame()
	for i := range rules {
		if err := w.rule(&rules[i], around); err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// frame adds the chains and what holds for every mode.
func (w *writer) frame() {
	w.conn.AddChain(&nftables.Chain{Name: chainRefuse, Table: w.t})
	w.conn.AddChain(&nftables.Chain{Name: chainAsk, Table: w.t})
	w.base(chainOut, nftables.ChainHookOutput, beforeTranslation)
	w.base(chainIn, nftables.ChainHookInput, 0)

	w.add(chainRefuse, nft.Protocol(unix.IPPROTO_TCP), nft.Reset())
	w.add(chainRefuse, nft.Prohibited())
	w.add(chainAsk, &expr.Limit{Type: expr.LimitTypePkts, Rate: QuestionsPerSecond, Unit: expr.LimitTimeSecond, Burst: QuestionBurst, Over: true}, nft.Drop())
	w.add(chainAsk, nft.Accept())

	loopback := nft.IfName("lo")
	w.add(chainOut, nft.Meta(expr.MetaKeyOIFNAME), nft.Equal(loopback), nft.Accept())
	w.add(chainIn, nft.Meta(expr.MetaKeyIIFNAME), nft.Equal(loopback), nft.Accept())
	// What these make others do with a packet is not what its destination says.
	w.add(chainOut, nft.Family(false), nft.Options(), nft.GoTo(chainRefuse))
	w.add(chainOut, nft.Family(true), routing(), nft.GoTo(chainRefuse))
	for _, chain := range []string{chainOut, chainIn} {
		for _, t := range []byte{133, 134, 135, 136} { // Neighbour discovery, which is the kernel's.
			w.add(chain, nft.Protocol(unix.IPPROTO_ICMPV6), nft.ICMPType(t), nft.Accept())
		}
		w.add(chain, nft.State(expr.CtStateBitESTABLISHED), nft.Accept())
		for _, proto := range []byte{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} {
			w.add(chain, nft.Protocol(proto), nft.State(expr.CtStateBitRELATED), nft.Accept())
		}
	}
	w.add(chainOut, nft.State(expr.CtStateBitINVALID), nft.Drop())
}

// routing matches IPv6 packets that have a routing header.
func routing() []expr.Any {
	return []expr.Any{
		&expr.Exthdr{DestRegister: nft.Reg1, Type: unix.IPPROTO_ROUTING, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT, Op: expr.ExthdrOpIpv6},
		nft.Equal([]byte{1}),
	}
}

func (w *writer) base(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) {
	closed := nftables.ChainPolicyDrop
	w.conn.AddChain(&nftables.Chain{
		Name: name, Table: w.t, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRef(priority), Policy: &closed,
	})
}

func (w *writer) add(chain string, parts ...any) {
	w.conn.AddRule(&nftables.Rule{Table: w.t, Chain: &nftables.Chain{Name: chain, Table: w.t}, Exprs: nft.All(parts...)})
}

// rule adds what a rule becomes: the first that matches decides.
func (w *writer) rule(r *Rule, around *Around) error {
	verdict := nft.GoTo(chainRefuse)
	if r.Allow {
		verdict = nft.Accept()
	}
	switch r.Kind {
	case Resolver:
		if r.Allow {
			verdict = nft.GoTo(chainAsk)
		}
		for _, a := range around.Resolvers {
			for _, proto := range transports() {
				w.add(chainOut, nft.At(a), nft.Protocol(proto), nft.Port(), nft.Equal(nft.Big16(portDNS)), verdict)
			}
		}
	case Ports:
		for _, n := range r.Ports {
			for _, proto := range transports() {
				w.add(chainOut, nft.Protocol(proto), nft.Port(), nft.Equal(nft.Big16(n)), verdict)
			}
		}
	case InboundTCP, InboundUDP:
		proto := byte(unix.IPPROTO_TCP)
		if r.Kind == InboundUDP {
			proto = unix.IPPROTO_UDP
		}
		for _, n := range r.Ports {
			w.add(chainIn, nft.Protocol(proto), nft.Port(), nft.Equal(nft.Big16(n)), verdict)
		}
	case Protocols:
		w.protocols(verdict)
	case Ranges:
		return w.ranges(r.Ranges, verdict)
	case Node:
		return w.ranges(singles(around.Node), verdict)
	case Link:
		return w.ranges(around.Link, verdict)
	case Any:
		w.add(chainOut, verdict)
	default:
		return fmt.Errorf("rule of kind %q", r.Kind)
	}
	return nil
}

const portDNS = 53

func transports() []byte { return []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} }

// protocols adds a chain that comes back for TCP, UDP and echo requests alone.
func (w *writer) protocols(verdict expr.Any) {
	const chain = "protocols"
	w.conn.AddChain(&nftables.Chain{Name: chain, Table: w.t})
	back := &expr.Verdict{Kind: expr.VerdictReturn}
	w.add(chain, nft.Protocol(unix.IPPROTO_TCP), back)
	w.add(chain, nft.Protocol(unix.IPPROTO_UDP), back)
	w.add(chain, nft.Family(false), nft.Protocol(unix.IPPROTO_ICMP), nft.ICMPType(8), back)
	w.add(chain, nft.Family(true), nft.Protocol(unix.IPPROTO_ICMPV6), nft.ICMPType(128), back)
	w.add(chain, verdict)
	w.add(chainOut, nft.Jump(chain))
}

func singles(addrs []netip.Addr) []netip.Prefix {
	out := make([]netip.Prefix, len(addrs))
	for i, a := range addrs {
		out[i] = netip.PrefixFrom(a, a.BitLen())
	}
	return out
}

// ranges adds a rule for each family that destinations in some ranges have.
func (w *writer) ranges(ranges []netip.Prefix, verdict expr.Any) error {
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		b.AddPrefix(r)
	}
	merged, err := b.IPSet()
	if err != nil {
		return err
	}
	for _, six := range []bool{false, true} {
		elements := nft.Intervals(merged, six)
		if len(elements) == 0 {
			continue
		}
		s := &nftables.Set{Table: w.t, Anonymous: true, Constant: true, Interval: true, KeyType: nft.AddrType(six)}
		if err := w.conn.AddSet(s, elements); err != nil {
			return err
		}
		w.add(chainOut, nft.Family(six), nft.Destination(six, nft.Reg1), nft.Lookup(s), verdict)
	}
	return nil
}
