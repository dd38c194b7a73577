// Package link is what both ends of the line between a runner and a gateway share: versions, limits, and the messages of
// proto/berm/link as values of our own. serve is the runner's end, remote the gateway's; hub takes the connections in that dial makes.
//
// A runner dials a gateway twice, once for control and once for bulk data, and asks for an upgrade of each HTTP/1.1 connection. Then
// the roles flip: on both connections the gateway is the gRPC client and the runner the server. Multiplexing, flow control and
// pings are HTTP/2's.
package link

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// Versions of the protocol that this program speaks. A release speaks that of the release before it, too.
const (
	MinVersion = 1
	MaxVersion = 1
)

// Limits of the line.
const (
	// MaxControl is the largest message on the control connection, in bytes: an assignment with mounted files.
	MaxControl = 128 << 20
	// MaxReport is the largest message on the control connection that a gateway takes from a runner.
	MaxReport = 4 << 20
	// MaxBulk is the largest message on the bulk connection, in bytes: a chunk, a list of images.
	MaxBulk = 4 << 20
	// Window is how much of one call may be on its way unread, ConnWindow how much of all calls on a connection, in bytes. They are
	// fixed: with the estimate that gRPC makes of a line, a loaded machine was an order of magnitude slower.
	Window     = 4 << 20
	ConnWindow = 32 << 20
	// MaxHeaders bounds headers and trailers of a call, in bytes: an error is in them.
	MaxHeaders = 256 << 10
	// Chunk is how much of a file or an archive is in one message, in bytes.
	Chunk = backend.MaxExecChunk
	// MaxCalls is how many calls may be under way on one connection.
	MaxCalls = 10_000

	// Heartbeat is how often each end gives a sign of life; after Silence without one the line is cut.
	Heartbeat = 5 * time.Second
	Silence   = 3 * Heartbeat
	// HelloTimeout is how long a runner may take to say what it is, and to open its second connection.
	HelloTimeout = 10 * time.Second

	// MaxText is the longest text that a gateway takes from a runner where nothing else is said, MaxList the longest list or map.
	MaxText = 4 << 10
	MaxList = 1024
	// MaxSubmitted is the largest object that a backend says it submitted, in bytes.
	MaxSubmitted = 1 << 20
	// MaxServers is how many servers a runner keeps lines to; of more that a gateway names it takes the first by their ids. MaxAddress is
	// the longest address of one, and of its id, in bytes.
	MaxServers = 32
	MaxAddress = 300
	// MaxSkew is how far a runner's clock may be ahead before its times are not believed.
	MaxSkew = time.Minute
)

// The upgrade of a connection.
const (
	// ConnectPath is where a runner asks for it, EnrolPath where it exchanges an enrolment token for a credential.
	ConnectPath = "/berm/link/connect"
	EnrolPath   = "/berm/link/enrol"
	// Protocol is the name in the Upgrade header.
	Protocol = "berm-link"

	// HeaderVersions has the versions that the runner speaks, "1-2"; HeaderVersion the one that the gateway chose.
	HeaderVersions = "Berm-Link-Versions"
	HeaderVersion  = "Berm-Link-Version"
	// HeaderKind is "control" or "bulk".
	HeaderKind = "Berm-Link-Kind"
	// HeaderSession pairs two connections: in the answer to the first, and in the request of the second.
	HeaderSession = "Berm-Link-Session"
	// HeaderIdentity says which cluster or machine it is, HeaderInstance which process.
	HeaderIdentity = "Berm-Link-Identity"
	HeaderInstance = "Berm-Link-Instance"
	// HeaderSoftware is the version of the program, for messages.
	HeaderSoftware = "Berm-Version"

	KindControl = "control"
	KindBulk    = "bulk"
)

// Range is a range of protocol versions.
type Range struct{ Min, Max int }

// Ours is what this program speaks.
func Ours() Range { return Range{MinVersion, MaxVersion} }

// String returns "1-2".
func (r Range) String() string { return fmt.Sprintf("%d-%d", r.Min, r.Max) }

// ParseRange reads what String made.
func ParseRange(text string) (Range, error) {
	low, high, ok := strings.Cut(text, "-")
	a, err := strconv.Atoi(low)
	b, err2 := strconv.Atoi(high)
	if !ok || err != nil || err2 != nil || a < 1 || b < a {
		return Range{}, fault.Invalidf(fault.ReasonInvalidRequest, "%.40q is no range of versions", text).WithField(HeaderVersions, "is like 1-2")
	}
	return Range{a, b}, nil
}

// Negotiate returns the highest version that both speak, or says who is to be upgraded.
func Negotiate(gateway, runner Range) (int, error) {
	if v := min(gateway.Max, runner.Max); v >= max(gateway.Min, runner.Min) {
		return v, nil
	}
	old := "runner"
	if gateway.Max < runner.Min {
		old = "gateway"
	}
	return 0, fault.Preconditionf(fault.ReasonLinkVersion, "the runner speaks versions %s of the link and the gateway %s: none is common", runner, gateway).
		WithMeta("runner_versions", runner.String()).WithMeta("gateway_versions", gateway.String()).
		WithHint("upgrade the %s: a release works with the one before it and the one after it", old)
}
