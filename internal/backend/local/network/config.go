package network

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// Config shapes a Network.
type Config struct {
	// Name tells this backend's table, links and files from those of another on the same machine.
	Name string
	// Dir is a directory in memory, gone after a reboot as namespaces are; made if need be, mode 0700.
	Dir string
	// Range4 and Range6 are where sandboxes get their addresses from: a free block of them. Not valid: of DefaultRange4 and
	// DefaultRange6.
	Range4, Range6 netip.Prefix
	// Denied are ranges that the owner of the machine closed, whatever profiles say.
	Denied []netip.Prefix
	// NAT64 are the prefixes of translators on the way, by which what is closed could be reached; where there are none, Translators, if set,
	// is asked. It is called before the first sandbox has a network, and again when the machine's addresses or routes change.
	NAT64       []netip.Prefix
	Translators func(context.Context) ([]netip.Prefix, error)
	// Connections is how many connections a sandbox may have at a time; 0 is DefaultConnections.
	Connections int
	// ConnectionsPerSecond is how many connections a sandbox may begin in a second, ConnectionBurst how many at once; 0 is
	// DefaultConnectionsPerSecond and DefaultConnectionBurst.
	ConnectionsPerSecond, ConnectionBurst int
	// AllConnections is how many all sandboxes together may have; 0 is half of what the machine's table holds.
	AllConnections int
	// BytesPerSecond bounds what a sandbox sends, and what it receives; 0 is no bound.
	BytesPerSecond uint64
	// Pool is how many namespaces are prepared ahead; 0 is DefaultPool, less than 0 none.
	Pool int
	// Up, if set, is called once the gateways exist, before the first sandbox has a network: it starts what answers names. What
	// it returns is called when the gateways are about to go. An error refuses the sandbox, and the next one tries again.
	Up     func(Names) (stop func(), err error)
	Logger *slog.Logger
}

// Request is a sandbox that wants a network.
type Request struct {
	ID string
	// Mode is the name of its egress mode, Egress the mode. Its type is not none.
	Mode   string
	Egress *specpb.EgressMode
	// Org, User and Profile are who it belongs to, for the types of those names.
	Org, User, Profile string
}

// Attachment is the network of one sandbox.
type Attachment struct {
	// Namespace is the path of its network namespace.
	Namespace string
	// Addr4 and Addr6 are its addresses; Addr6 is not valid where the machine forwards no IPv6.
	Addr4, Addr6 netip.Addr
	// Resolvers are the addresses to put into its resolv.conf.
	Resolvers []netip.Addr
	// Pooled says that the namespace had been prepared ahead.
	Pooled bool
}

// Limits.
const (
	// MaxSandboxes is how many sandboxes of one backend have a network at a time, as far as its ranges have addresses.
	MaxSandboxes = 4000
	// DefaultConnections is how many connections a sandbox may have at a time, counting UDP flows and echo requests: a machine
	// keeps a quarter of a million in all by default.
	DefaultConnections = 1024
	// MaxConnections is the most that can be asked for: the kernel walks them all at each new one.
	MaxConnections = 16384
	// DefaultConnectionsPerSecond is how many connections a sandbox may begin in a second: the machine keeps one for up to two minutes after
	// it was closed, so that twelve thousand closed ones are kept at most, besides the burst.
	DefaultConnectionsPerSecond = 100
	// MaxConnectionsPerSecond is the most that can be asked for.
	MaxConnectionsPerSecond = 100_000
	// DefaultConnectionBurst is how many may begin at once: as many as a sandbox may have.
	DefaultConnectionBurst = DefaultConnections
	// MaxAllConnections is the most that can be asked for of all sandboxes together.
	MaxAllConnections = 1 << 20
	// DefaultAllConnections is how many that is where the machine does not tell the size of its table.
	DefaultAllConnections = 1 << 16
	// DefaultPool is how many namespaces are prepared ahead.
	DefaultPool = 8
	// MaxPool is the most: each costs the kernel a few hundred kilobytes.
	MaxPool = 256
	// MaxDenied is how many ranges the owner of the machine may close.
	MaxDenied = 1024
	// QuestionsPerSecond is how many datagrams a sandbox may send its resolver; the resolver itself answers fewer.
	QuestionsPerSecond = 200
	// QuestionBurst is how many of them may come at once.
	QuestionBurst = 400
	// MinBytesPerSecond is the least bandwidth that can be asked for.
	MinBytesPerSecond = 8 << 10
	// MaxFlows bounds how many connections are looked at when some are to be closed, per family.
	maxElements = 256
	// settleTime is how long changes around the machine are collected before they are acted on.
	settleTime = 50 * time.Millisecond
	// lookEvery is how often the machine is looked at without having told of a change: not everything is told.
	lookEvery = 30 * time.Second
)

// Default ranges: one set aside for measuring networks, which no network in use has, and one of the locally assigned ones. Each
// backend takes a block.
const (
	DefaultRange4 = "198.18.0.0/15"
	DefaultRange6 = "fd62:6572:6d00::/48"
	// blockBits4 and blockBits6 are the sizes of a block.
	blockBits4, blockBits6 = 20, 64
	// minBits4 and minBits6 are the widest ranges that may be asked for, maxBits4 and maxBits6 the narrowest.
	minBits4, maxBits4 = 8, 29
	minBits6, maxBits6 = 32, 120
)
