package network

import (
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/nft"
)

// partSize is how many connections the kernel walks through at each new one: it keeps those that are counted together in a list. So what
// all sandboxes may have is counted in parts of that size, and which part a connection belongs to is a hash of who speaks to whom, with a
// number that the kernel draws: nobody can fill a part of their choice.
const partSize = 1024

// inParts returns in how many parts a number of connections is counted, and how many each holds.
func inParts(all int) (parts, share uint32) {
	parts = uint32((all + partSize - 1) / partSize)
	return parts, uint32(all) / parts
}

// halfOfTable is half of the connections that the machine keeps track of: the rest is its own.
func halfOfTable() int {
	n, err := strconv.Atoi(readSetting("netfilter/nf_conntrack_max"))
	if err != nil || n < 2 {
		return DefaultAllConnections
	}
	return min(n/2, MaxAllConnections)
}

// together adds the chain that lets through what is within the limit of all sandboxes together.
func (k *kernel) together() {
	for _, six := range []bool{false, true} {
		words := uint32(1)
		if six {
			words = 4
		}
		over := over(k.sets.together, nft.Reg32(15), k.share)
		// Ports follow the source. An echo request has none, and what is in their place differs in each: its destination follows.
		ports := &expr.Payload{DestRegister: nft.Reg32(words), Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 4}
		for _, proto := range transports() {
			k.rule(chainAll, nft.Family(six), nft.Protocol(proto), nft.Source(six, nft.Reg32(0)), ports, k.part(4*words+4), over, nft.GoTo(ReasonTogether.chain()))
		}
		for _, proto := range []byte{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} {
			k.rule(chainAll, nft.Family(six), nft.Protocol(proto), nft.Source(six, nft.Reg32(0)), nft.Destination(six, nft.Reg32(words)), k.part(8*words), over, nft.GoTo(ReasonTogether.chain()))
		}
	}
	k.rule(chainAll, nft.Accept())
}

// part loads the part of a connection into the last register, from that many bytes of the first ones.
func (k *kernel) part(bytes uint32) expr.Any {
	return &expr.Hash{SourceRegister: nft.Reg32(0), DestRegister: nft.Reg32(15), Length: bytes, Modulus: k.parts, Type: expr.HashTypeJenkins}
}

// over matches a new connection that is one too many of those with the same key.
func over(s *nftables.Set, key, most uint32) expr.Any {
	return &expr.Dynset{SrcRegKey: key, SetName: s.Name, SetID: s.ID, Operation: uint32(unix.NFT_DYNSET_OP_ADD), Exprs: []expr.Any{
		&expr.Connlimit{Count: most, Flags: expr.NFT_CONNLIMIT_F_INV},
	}}
}
