// Package nft has the pieces that nftables rules are made of, for who writes them through netlink: the sandboxes' rules of one machine,
// and those that a pod's init gives its network namespace.
package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// Registers of 16 bytes. One is as good as four of 4 bytes: Reg1 is also Reg32(0) to Reg32(3).
const (
	Reg1 = unix.NFT_REG_1
	Reg2 = unix.NFT_REG_2
)

// Reg32 is a register of 4 bytes.
func Reg32(n uint32) uint32 { return unix.NFT_REG32_00 + n }

// Native32 is a number as the kernel has it in registers.
func Native32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// Big16 is a number as it is in packets.
func Big16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// IfName is an interface name as the kernel has it in registers.
func IfName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// Equal compares what was loaded last, with Meta, Source or the like: into Reg1.
func Equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: Reg1, Data: data}
}

// Differs is the opposite of Equal.
func Differs(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: Reg1, Data: data}
}

// Meta loads what the kernel knows of a packet besides its bytes.
func Meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: Reg1} }

// From matches the link that a packet came from, by the beginning of its name.
func From(prefix string) []expr.Any {
	return []expr.Any{Meta(expr.MetaKeyIIFNAME), Equal([]byte(prefix))}
}

// To matches the link that a packet goes to, by the beginning of its name.
func To(prefix string) []expr.Any {
	return []expr.Any{Meta(expr.MetaKeyOIFNAME), Equal([]byte(prefix))}
}

// NotTo matches links of other names.
func NotTo(prefix string) []expr.Any {
	return []expr.Any{Meta(expr.MetaKeyOIFNAME), Differs([]byte(prefix))}
}

// Family matches packets of one family.
func Family(six bool) []expr.Any {
	proto := byte(unix.NFPROTO_IPV4)
	if six {
		proto = unix.NFPROTO_IPV6
	}
	return []expr.Any{Meta(expr.MetaKeyNFPROTO), Equal([]byte{proto})}
}

// Source loads an address of the header.
func Source(six bool, reg uint32) expr.Any {
	if six {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 16}
	}
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
}

// Destination loads the other one.
func Destination(six bool, reg uint32) expr.Any {
	if six {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}
	}
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
}

// Options matches IPv4 packets whose header is longer than the shortest, of five words.
func Options() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: Reg1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 1},
		&expr.Bitwise{SourceRegister: Reg1, DestRegister: Reg1, Len: 1, Mask: []byte{0x0f}, Xor: []byte{0}},
		Differs([]byte{5}),
	}
}

// At matches a destination address.
func At(a netip.Addr) []expr.Any {
	return append(Family(a.Is6()), Destination(a.Is6(), Reg1), Equal(a.AsSlice()))
}

// Within matches source addresses of a range.
func Within(p netip.Prefix) []expr.Any {
	width := p.Addr().BitLen() / 8
	mask := make([]byte, width)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append(Family(p.Addr().Is6()), Source(p.Addr().Is6(), Reg1),
		&expr.Bitwise{SourceRegister: Reg1, DestRegister: Reg1, Len: uint32(width), Mask: mask, Xor: make([]byte, width)},
		Equal(p.Masked().Addr().AsSlice()))
}

// Protocol matches the transport protocol, whatever extension headers are before it.
func Protocol(proto byte) []expr.Any {
	return []expr.Any{Meta(expr.MetaKeyL4PROTO), Equal([]byte{proto})}
}

// Port loads the destination port of TCP and UDP.
func Port() expr.Any {
	return &expr.Payload{DestRegister: Reg1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// ICMPType matches the type of an ICMP or ICMPv6 message.
func ICMPType(t byte) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: Reg1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, Equal([]byte{t})}
}

// State matches connections in one of some states.
func State(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: Reg1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: Reg1, DestRegister: Reg1, Len: 4, Mask: Native32(bits), Xor: Native32(0)},
		Differs(Native32(0)),
	}
}

// Lookup looks for what begins in Reg1.
func Lookup(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: Reg1, SetName: s.Name, SetID: s.ID}
}

// Dispatch goes where a verdict map says for the link that a packet came from, and on if it says nothing.
func Dispatch(m *nftables.Set) []expr.Any {
	return []expr.Any{
		Meta(expr.MetaKeyIIFNAME),
		&expr.Lookup{SourceRegister: Reg1, SetName: m.Name, SetID: m.ID, IsDestRegSet: true},
	}
}

// Accept lets through.
func Accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }

// Drop does not, without a word.
func Drop() expr.Any { return &expr.Verdict{Kind: expr.VerdictDrop} }

// Jump goes to a chain and comes back.
func Jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

// GoTo goes to a chain for good.
func GoTo(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }

// All joins matches and verdicts to a rule.
func All(parts ...any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		switch p := p.(type) {
		case []expr.Any:
			out = append(out, p...)
		case expr.Any:
			out = append(out, p)
		}
	}
	return out
}

// Intervals spells a set of addresses of one family as the elements of an interval set: each range from its first address to
// before the one after its last.
func Intervals(s *netipx.IPSet, six bool) []nftables.SetElement {
	var out []nftables.SetElement
	for _, r := range s.Ranges() {
		if r.From().Is6() != six {
			continue
		}
		out = append(out, nftables.SetElement{Key: r.From().AsSlice()})
		if next := r.To().Next(); next.IsValid() {
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// AddrType is the type of addresses of a family, as elements of sets.
func AddrType(six bool) nftables.SetDatatype {
	if six {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// Kinds and codes of refusals.
const (
	rejectReset        = 1
	rejectUnreachable  = 2
	codeAdminProhibits = 3
)

// Reset refuses a TCP connection, Prohibited anything else: who tried is told at once.
func Reset() expr.Any { return &expr.Reject{Type: rejectReset} }

// Prohibited answers with an error of ICMP, which says that it is by a rule.
func Prohibited() expr.Any { return &expr.Reject{Type: rejectUnreachable, Code: codeAdminProhibits} }
