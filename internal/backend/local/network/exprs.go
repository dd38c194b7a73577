package network

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// What rules are made of. A register of 16 bytes is as good as four of 4 bytes: reg1 is also reg32(0) to reg32(3).
const reg1, reg2 = unix.NFT_REG_1, unix.NFT_REG_2

func reg32(n uint32) uint32 { return unix.NFT_REG32_00 + n }

func native32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
func big16(n uint16) []byte    { return binary.BigEndian.AppendUint16(nil, n) }

// ifname is an interface name as the kernel has it in registers.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// equal and differs compare what was loaded last, with meta, source or the like: into reg1.
func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: data}
}

func differs(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: data}
}

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: reg1} }

// from and to match links by the beginning of their name; notTo those of other names.
func from(prefix string) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyIIFNAME), equal([]byte(prefix))}
}

func to(prefix string) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyOIFNAME), equal([]byte(prefix))}
}

func notTo(prefix string) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyOIFNAME), differs([]byte(prefix))}
}

// family matches packets of one family.
func family(six bool) []expr.Any {
	proto := byte(unix.NFPROTO_IPV4)
	if six {
		proto = unix.NFPROTO_IPV6
	}
	return []expr.Any{meta(expr.MetaKeyNFPROTO), equal([]byte{proto})}
}

// source and destination load an address of the header.
func source(six bool, reg uint32) expr.Any {
	if six {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 16}
	}
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
}

func destination(six bool, reg uint32) expr.Any {
	if six {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}
	}
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
}

// options matches IPv4 packets whose header is longer than the shortest, of five words.
func options() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 1, Mask: []byte{0x0f}, Xor: []byte{0}},
		differs([]byte{5}),
	}
}

// at matches a destination address.
func at(a netip.Addr) []expr.Any {
	return append(family(a.Is6()), destination(a.Is6(), reg1), equal(a.AsSlice()))
}

// within matches source addresses of a range.
func within(p netip.Prefix) []expr.Any {
	width := p.Addr().BitLen() / 8
	mask := make([]byte, width)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append(family(p.Addr().Is6()), source(p.Addr().Is6(), reg1),
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: uint32(width), Mask: mask, Xor: make([]byte, width)},
		equal(p.Masked().Addr().AsSlice()))
}

// protocol matches the transport protocol, whatever extension headers are before it.
func protocol(proto byte) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyL4PROTO), equal([]byte{proto})}
}

// port loads the destination port of TCP and UDP.
func port() expr.Any {
	return &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// icmpType matches the type of an ICMP or ICMPv6 message.
func icmpType(t byte) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, equal([]byte{t})}
}

// state matches connections in one of some states.
func state(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: reg1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: native32(bits), Xor: native32(0)},
		differs(native32(0)),
	}
}

// lookup looks for what begins in reg1.
func lookup(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: reg1, SetName: s.Name, SetID: s.ID}
}

// dispatch goes where a verdict map says for the link that a packet came from, and on if it says nothing.
func dispatch(m *nftables.Set) []expr.Any {
	return []expr.Any{
		meta(expr.MetaKeyIIFNAME),
		&expr.Lookup{SourceRegister: reg1, SetName: m.Name, SetID: m.ID, IsDestRegSet: true},
	}
}

func accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }
func drop() expr.Any   { return &expr.Verdict{Kind: expr.VerdictDrop} }

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }
func goTo(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }

// all joins matches and verdicts to a rule.
func all(parts ...any) []expr.Any {
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

// intervals spells a set of addresses of one family as the elements of an interval set: each range from its first address to
// before the one after its last.
func intervals(s *netipx.IPSet, six bool) []nftables.SetElement {
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

func addrType(six bool) nftables.SetDatatype {
	if six {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}
