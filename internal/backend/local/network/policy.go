package network

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"

	"github.com/google/nftables"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/nft"
)

// chains are the two chains that a policy becomes, and the sets of its scope.
type chains struct {
	// policy decides about new connections, machine about those to the machine itself; "" where that opens nothing.
	policy, machine string
	// scope4 and scope6 are the members of the scope, for the types that have one.
	scope4, scope6 *nftables.Set
}

// digest names a policy by what the kernel does for it.
func digest(p *egress.Policy, scope string) string {
	type rule struct {
		Allow  bool
		Kind   egress.Kind
		Class  egress.Class
		Ranges []netip.Prefix
		Ports  []uint16
	}
	rules := make([]rule, len(p.Rules))
	for i, r := range p.Rules {
		rules[i] = rule{r.Allow, r.Kind, r.Class, r.Ranges, r.Ports}
	}
	data, _ := json.Marshal(struct {
		Rules []rule
		Scope string
	}{rules, scope}) // Marshalling these cannot fail.
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// scopeSets are the sets of a scope, by its name.
func (k *kernel) scopeSets(scope string) (four, six *nftables.Set) {
	sum := sha256.Sum256([]byte(scope))
	name := hex.EncodeToString(sum[:16])
	return &nftables.Set{Table: k.t, Name: "scope4-" + name, KeyType: nftables.TypeIPAddr, Size: deniedSlots},
		&nftables.Set{Table: k.t, Name: "scope6-" + name, KeyType: nftables.TypeIP6Addr, Size: deniedSlots}
}

// transcribe adds the chains of a policy: each rule in its place, so that the first that matches decides, as in the policy.
func (k *kernel) transcribe(p *egress.Policy, c chains) error {
	k.chain(c.policy)
	named := false
	for i := range p.Rules {
		r := &p.Rules[i]
		verdict := nft.GoTo(reasonOf(r).chain())
		if r.Allow {
			verdict = nft.GoTo(chainAllowed)
		}
		switch r.Kind {
		case egress.KindResolver:
			for _, gw := range k.gateways() {
				for _, proto := range transports() {
					k.rule(c.policy, nft.At(gw), nft.Protocol(proto), nft.Port(), nft.Equal(nft.Big16(egress.PortDNS)), nft.GoTo(chainAsked))
				}
			}
		case egress.KindPorts:
			for _, n := range r.Ports {
				for _, proto := range transports() {
					k.rule(c.policy, nft.Protocol(proto), nft.Port(), nft.Equal(nft.Big16(n)), verdict)
				}
			}
		case egress.KindProtocols:
			k.rule(c.policy, nft.Jump(chainOther))
		case egress.KindRanges:
			if err := k.ranges(c.policy, r.Ranges, verdict); err != nil {
				return err
			}
		case egress.KindScope:
			k.rule(c.policy, nft.Family(false), nft.Destination(false, nft.Reg1), nft.Lookup(c.scope4), verdict)
			k.rule(c.policy, nft.Family(true), nft.Destination(true, nft.Reg1), nft.Lookup(c.scope6), verdict)
		case egress.KindName:
			if named { // All names of a policy follow each other, and what was answered for any of them is in one set.
				continue
			}
			named = true
			k.rule(c.policy, nft.Family(false), nft.Source(false, nft.Reg32(0)), nft.Destination(false, nft.Reg32(1)), nft.Lookup(k.sets.pins4), verdict)
			k.rule(c.policy, nft.Family(true), nft.Source(true, nft.Reg1), nft.Destination(true, nft.Reg2), nft.Lookup(k.sets.pins6), verdict)
		case egress.KindAny:
			k.rule(c.policy, verdict)
		}
	}
	k.rule(c.policy, nft.GoTo(Reason(egress.KindAny).chain())) // Never reached: the last rule of a policy matches everything.
	return k.opens(p, c.machine)
}

func transports() []byte { return []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} }

// opens adds the chain of what a policy opens of the machine.
func (k *kernel) opens(p *egress.Policy, chain string) error {
	if chain == "" {
		return nil
	}
	k.chain(chain)
	own, _ := p.Opened()
	return k.ranges(chain, own.Prefixes(), nft.Accept())
}

// ranges adds a rule for each family that destinations in some ranges have.
func (k *kernel) ranges(chain string, ranges []netip.Prefix, verdict any) error {
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
		s := &nftables.Set{Table: k.t, Anonymous: true, Constant: true, Interval: true, KeyType: nft.AddrType(six)}
		if err := k.addSet(s, elements); err != nil {
			return err
		}
		k.rule(chain, nft.Family(six), nft.Destination(six, nft.Reg1), nft.Lookup(s), verdict)
	}
	return nil
}

// chainsOf names the chains of a policy.
func (k *kernel) chainsOf(p *egress.Policy, scope string) chains {
	name := digest(p, scope)
	c := chains{policy: "policy-" + name}
	if own, _ := p.Opened(); own != nil && len(own.Ranges()) > 0 {
		c.machine = "machine-" + name
	}
	if p.Type.Scoped() {
		c.scope4, c.scope6 = k.scopeSets(scope)
	}
	return c
}
