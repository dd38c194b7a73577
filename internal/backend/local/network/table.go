package network

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/nft"
)

// kernel writes this backend's rules. All of them are in one table, which nobody else's rules refer to.
//
//	prerouting  before anybody's address translation: packets from a sandbox's link
//	  from      drop what has not the sandbox's own source address
//	  known     let established connections through; new ones go to the chain of the sandbox's policy
//	  policy-…  the rules of an egress.Policy, in their order; shared by the sandboxes that have it
//	  allowed   let through, up to the limits of new connections per second and of connections; asked, the same for the resolver
//	  together  up to the limit of all sandboxes together
//	  deny-…    count for the sandbox and the reason, and refuse
//	input       from a sandbox to the machine: its resolver, and what a policy opens of the machine; from elsewhere to a
//	            gateway: nothing
//	forward     from elsewhere to a sandbox: answers; between links of the machine that did not forward before: nothing new
//	postrouting from a sandbox to elsewhere: with the machine's address
//
// The default of the hooks is to accept: what is neither from nor to a sandbox is none of our business.
type kernel struct {
	names
	block
	// connections bounds each sandbox, share is what all together have in each part of the flows, of which there are parts.
	connections, share, parts uint32
	// perSecond is how many may begin in a second, burst how many at once.
	perSecond, burst uint32
	conn             *nftables.Conn
	t                *nftables.Table
	sets             sets
}

// setNumbers guards the numbers that the library gives to sets, which it counts for all connections together.
var setNumbers sync.Mutex

// addSet puts the making of a set into the batch.
func (k *kernel) addSet(s *nftables.Set, elements []nftables.SetElement) error {
	setNumbers.Lock()
	defer setNumbers.Unlock()
	return k.conn.AddSet(s, elements)
}

// sets are the sets and maps of the table.
type sets struct {
	// source4 and source6 are which link has which source address.
	source4, source6 *nftables.Set
	// policy and machine map a link to the chain of its policy, and to what the policy opens of the machine.
	policy, machine *nftables.Set
	// pins4 and pins6 are the addresses answered: of the sandbox, then of the destination.
	pins4, pins6 *nftables.Set
	// denied counts, by link and reason; counted holds the connections of each link, asked those to the resolver, which are many and
	// short.
	denied, counted, asked *nftables.Set
	// together holds the connections of all links, by parts.
	together *nftables.Set
	// pace is how fast each link sends datagrams to the resolver, begun how fast it begins connections.
	pace, begun *nftables.Set
	// opened4 and opened6 are links of the machine on which this backend switched forwarding on, guarded4 and guarded6 those
	// over which nothing but the connections of sandboxes may be forwarded.
	opened4, opened6, guarded4, guarded6 *nftables.Set
}

// Names of the chains that do not depend on a policy.
const (
	chainFrom    = "from"
	chainKnown   = "known"
	chainOther   = "protocols"
	chainAllowed = "allowed"
	chainAsked   = "asked"
	chainAll     = "together"
	chainRefuse  = "refuse"
	chainInput   = "machine"
	chainTo      = "to"
)

// deniedSlots is how many counters of denied connections there may be.
const deniedSlots = 1 << 16

func newKernel(n names, b block, c *Config) (*kernel, error) {
	conn, err := nft.Open()
	if err != nil {
		return nil, err
	}
	k := &kernel{
		names: n, block: b, conn: conn,
		connections: uint32(c.Connections), perSecond: uint32(c.ConnectionsPerSecond), burst: uint32(c.ConnectionBurst),
	}
	k.parts, k.share = inParts(c.AllConnections)
	k.t = &nftables.Table{Name: n.table, Family: nftables.TableFamilyINet}
	link := nftables.TypeIFName
	set := func(name string, key nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: k.t, Name: name, KeyType: key, Size: deniedSlots}
	}
	verdicts := func(name string) *nftables.Set {
		return &nftables.Set{Table: k.t, Name: name, KeyType: link, IsMap: true, DataType: nftables.TypeVerdict, Size: MaxSandboxes + MaxPool}
	}
	pins := func(name string, addr nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: k.t, Name: name, KeyType: nftables.MustConcatSetType(addr, addr), HasTimeout: true, Size: 1 << 20}
	}
	dynamic := func(name string, key nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: k.t, Name: name, KeyType: key, Dynamic: true, Size: deniedSlots}
	}
	k.sets = sets{
		source4: set("source4", nftables.MustConcatSetType(link, nftables.TypeIPAddr)),
		source6: set("source6", nftables.MustConcatSetType(link, nftables.TypeIP6Addr)),
		policy:  verdicts("policy"), machine: verdicts("machine"),
		pins4: pins("pins4", nftables.TypeIPAddr), pins6: pins("pins6", nftables.TypeIP6Addr),
		denied: dynamic("denied", nftables.MustConcatSetType(link, nftables.TypeMark)), counted: dynamic("connections", link), asked: dynamic("questions", link),
		together: dynamic("together", nftables.TypeMark), pace: dynamic("pace", link), begun: dynamic("begun", link),
		opened4: set("opened4", link), opened6: set("opened6", link), guarded4: set("guarded4", link), guarded6: set("guarded6", link),
	}
	return k, nil
}

func (s *sets) all() []*nftables.Set {
	return []*nftables.Set{
		s.source4, s.source6, s.policy, s.machine, s.pins4, s.pins6, s.denied, s.counted, s.asked, s.together, s.pace, s.begun, s.opened4, s.opened6, s.guarded4, s.guarded6,
	}
}

// wipe takes everything of an earlier server away, at the next commit.
func (k *kernel) wipe() {
	k.conn.AddTable(k.t)
	k.conn.DelTable(k.t)
}

// begin adds what does not depend on sandboxes.
func (k *kernel) begin() error {
	k.conn.AddTable(k.t)
	for _, s := range k.sets.all() {
		if err := k.addSet(s, nil); err != nil {
			return err
		}
	}
	for _, name := range []string{chainFrom, chainKnown, chainOther, chainAllowed, chainAsked, chainAll, chainRefuse, chainInput, chainTo} {
		k.chain(name)
	}
	k.refusals()
	k.hooks()
	k.common()
	return nil
}

// commit gives everything since the last commit to the kernel: all of it holds then, or nothing.
func (k *kernel) commit() (err error) {
	defer k.dropOn(&err)
	if err := k.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// dropOn forgets, after an error, what is in the batch: it would be done with the next commit, which is somebody else's. What the
// library holds against a connection it holds for ever, so that goes as well. It is deferred by whoever adds to a batch.
func (k *kernel) dropOn(err *error) {
	if *err == nil {
		return
	}
	if conn, e := nft.Open(); e == nil { // Nothing is opened before there is something to say.
		k.conn = conn
	}
}

// remove takes the table away.
func (k *kernel) remove() error {
	k.conn.DelTable(k.t)
	if err := k.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nftables: remove the table: %w", err)
	}
	return nil
}

func (k *kernel) chain(name string) {
	k.conn.AddChain(&nftables.Chain{Name: name, Table: k.t})
}

func (k *kernel) base(name string, typ nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) string {
	k.conn.AddChain(&nftables.Chain{Name: name, Table: k.t, Type: typ, Hooknum: hook, Priority: nftables.ChainPriorityRef(priority)})
	return name
}

// rule adds a rule at the end of a chain.
func (k *kernel) rule(chain string, parts ...any) {
	k.conn.AddRule(&nftables.Rule{Table: k.t, Chain: &nftables.Chain{Name: chain, Table: k.t}, Exprs: nft.All(parts...)})
}

// beforeTranslation is a priority after that of connection tracking and before that of any translation of destinations:
// what is decided about is what the sandbox asked for.
const beforeTranslation = -150

// hooks adds the chains that the kernel calls.
func (k *kernel) hooks() {
	guests := k.guest()
	pre := k.base("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, beforeTranslation)
	k.rule(pre, nft.From(guests), nft.GoTo(chainFrom))

	input := k.base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, 0)
	k.rule(input, nft.From(guests), nft.GoTo(chainInput))
	for _, gw := range k.gateways() {
		k.rule(input, nft.At(gw), nft.Drop())
	}

	forward := k.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
	k.rule(forward, nft.From(guests), nft.Accept()) // Decided above.
	k.rule(forward, nft.To(guests), nft.GoTo(chainTo))
	k.guard(forward, false, k.sets.guarded4)
	k.guard(forward, true, k.sets.guarded6)

	post := k.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	k.rule(post, nft.Within(k.Range4), nft.NotTo(guests), &expr.Masq{})
	if k.six() {
		k.rule(post, nft.Within(k.Range6), nft.NotTo(guests), &expr.Masq{})
	}
}

// guard drops what is not part of a connection, from links of a set to anywhere.
func (k *kernel) guard(chain string, six bool, links *nftables.Set) {
	unasked := nft.State(expr.CtStateBitNEW | expr.CtStateBitINVALID | expr.CtStateBitUNTRACKED)
	k.rule(chain, nft.Family(six), nft.Meta(expr.MetaKeyIIFNAME), nft.Lookup(links), unasked, nft.Drop())
}

// common adds the chains that all sandboxes share.
func (k *kernel) common() {
	// What the sandbox's kernel says by itself on a link is neither let through nor anybody's attempt.
	for _, t := range []byte{130, 131, 132, 133, 134, 135, 136, 137, 143} {
		k.rule(chainFrom, nft.Protocol(unix.IPPROTO_ICMPV6), nft.ICMPType(t), nft.Drop())
	}
	// Options of IPv4 make every router on the way do something else than to pass a packet on: to write its address into it, for one.
	k.rule(chainFrom, nft.Family(false), nft.Options(), nft.GoTo(Reason("protocols").chain()))
	k.rule(chainFrom, nft.Family(false), nft.Meta(expr.MetaKeyIIFNAME), nft.Source(false, nft.Reg2), nft.Lookup(k.sets.source4), nft.GoTo(chainKnown))
	k.rule(chainFrom, nft.Family(true), nft.Meta(expr.MetaKeyIIFNAME), nft.Source(true, nft.Reg2), nft.Lookup(k.sets.source6), nft.GoTo(chainKnown))
	k.rule(chainFrom, nft.GoTo(ReasonSource.chain()))

	k.rule(chainKnown, nft.State(expr.CtStateBitESTABLISHED), nft.Accept())
	k.ownErrors()
	k.rule(chainKnown, nft.State(expr.CtStateBitINVALID), nft.Drop())
	k.rule(chainKnown, nft.Dispatch(k.sets.policy))
	k.rule(chainKnown, nft.GoTo(ReasonUnknown.chain()))

	k.rule(chainOther, nft.Protocol(unix.IPPROTO_TCP), &expr.Verdict{Kind: expr.VerdictReturn})
	k.rule(chainOther, nft.Protocol(unix.IPPROTO_UDP), &expr.Verdict{Kind: expr.VerdictReturn})
	k.rule(chainOther, nft.Family(false), nft.Protocol(unix.IPPROTO_ICMP), nft.ICMPType(8), &expr.Verdict{Kind: expr.VerdictReturn})
	k.rule(chainOther, nft.Family(true), nft.Protocol(unix.IPPROTO_ICMPV6), nft.ICMPType(128), &expr.Verdict{Kind: expr.VerdictReturn})
	k.rule(chainOther, nft.GoTo(Reason("protocols").chain()))

	// Before what takes longer for each connection that there is.
	k.rule(chainAllowed, k.faster(k.sets.begun, k.perSecond, k.burst), nft.GoTo(ReasonRate.chain()))
	k.rule(chainAsked, nft.Protocol(unix.IPPROTO_TCP), k.faster(k.sets.begun, k.perSecond, k.burst), nft.GoTo(ReasonRate.chain()))
	for chain, s := range map[string]*nftables.Set{chainAllowed: k.sets.counted, chainAsked: k.sets.asked} {
		k.rule(chain, nft.Meta(expr.MetaKeyIIFNAME), over(s, nft.Reg1, k.connections), nft.GoTo(ReasonConnections.chain()))
		k.rule(chain, nft.GoTo(chainAll))
	}
	k.together()

	// All sandboxes share the resolver's socket: one that floods it would keep the others from being heard. The limit is above what the
	// resolver answers, and what is over it is dropped, not refused: to refuse takes as long as to answer.
	k.rule(chainInput, nft.Protocol(unix.IPPROTO_UDP), nft.Port(), nft.Equal(nft.Big16(53)), k.faster(k.sets.pace, QuestionsPerSecond, QuestionBurst), nft.GoTo(ReasonQuestions.chain()))
	k.established(chainInput)
	for _, gw := range k.gateways() {
		for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			k.rule(chainInput, nft.At(gw), nft.Protocol(proto), nft.Port(), nft.Equal(nft.Big16(53)), nft.Accept())
		}
	}
	k.rule(chainInput, nft.Dispatch(k.sets.machine))
	k.rule(chainInput, nft.GoTo(Reason("machine").chain()))

	k.established(chainTo)
	k.rule(chainTo, nft.Drop())
}

// faster matches what comes from a link faster than so many per second, with so many at once, each link on its own account.
func (k *kernel) faster(s *nftables.Set, perSecond, burst uint32) []expr.Any {
	return []expr.Any{nft.Meta(expr.MetaKeyIIFNAME), &expr.Dynset{SrcRegKey: nft.Reg1, SetName: s.Name, SetID: s.ID, Operation: uint32(unix.NFT_DYNSET_OP_UPDATE), Exprs: []expr.Any{
		&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(perSecond), Unit: expr.LimitTimeSecond, Burst: burst, Over: true},
	}}}
}

// ownErrors lets through what a sandbox says about connections that it is an end of. Connection tracking takes for related whatever
// quotes a packet that it knows: about connections of the machine, or of a neighbour, a sandbox has nothing to say.
func (k *kernel) ownErrors() {
	for _, six := range []bool{false, true} {
		own, proto := k.sets.source4, byte(unix.IPPROTO_ICMP)
		if six {
			own, proto = k.sets.source6, unix.IPPROTO_ICMPV6
		}
		for _, end := range []expr.CtKey{expr.CtKeySRC, expr.CtKeyDST} { // As who began it asked for it.
			k.rule(chainKnown, nft.Family(six), nft.Protocol(proto), nft.State(expr.CtStateBitRELATED),
				nft.Meta(expr.MetaKeyIIFNAME), &expr.Ct{Register: nft.Reg2, Key: end}, nft.Lookup(own), nft.Accept())
		}
	}
}

// established lets through what belongs to a connection that was let through, and errors about it.
func (k *kernel) established(chain string) {
	k.rule(chain, nft.State(expr.CtStateBitESTABLISHED), nft.Accept())
	for _, proto := range []byte{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} {
		k.rule(chain, nft.Protocol(proto), nft.State(expr.CtStateBitRELATED), nft.Accept())
	}
}

// refusals adds the chains that refuse. Counting is a rule of its own: where it does not work, what follows still refuses. The
// sandbox is told at once, so that nobody waits for what never comes.
func (k *kernel) refusals() {
	for i, r := range reasons() {
		k.chain(r.chain())
		count := &expr.Dynset{SrcRegKey: nft.Reg1, SetName: k.sets.denied.Name, SetID: k.sets.denied.ID, Operation: uint32(unix.NFT_DYNSET_OP_UPDATE), Exprs: []expr.Any{&expr.Counter{}}}
		k.rule(r.chain(), nft.Meta(expr.MetaKeyIIFNAME), &expr.Immediate{Register: nft.Reg32(4), Data: nft.Native32(uint32(i))}, count)
		if r.silent() {
			k.rule(r.chain(), nft.Drop())
			continue
		}
		k.rule(r.chain(), nft.GoTo(chainRefuse))
	}
	k.rule(chainRefuse, nft.Protocol(unix.IPPROTO_TCP), nft.Reset())
	k.rule(chainRefuse, nft.Prohibited())
}

// dropping lists the tables of others whose default for forwarded packets is to drop them, as Docker's is. They are not touched.
func (k *kernel) dropping() []string {
	chains, err := k.conn.ListChains()
	if err != nil {
		return nil // It is only said.
	}
	var out []string
	for _, c := range chains {
		if c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop && !slices.Contains(out, c.Table.Name) {
			out = append(out, c.Table.Name)
		}
	}
	return out
}
