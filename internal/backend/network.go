package backend

import (
	"net/netip"
	"time"

	"github.com/bermhq/berm/internal/core/egress"
)

// MaxDenials is how many denied names are told of a sandbox.
const MaxDenials = 16

// Network is what is known of the network of one sandbox now.
type Network struct {
	// Addresses are the sandbox's own, IPv4 first; none for egress none.
	Addresses []netip.Addr
	// Around is what egress decisions depend on.
	Around egress.Around
	// Names and Connections count since the sandbox started, or the server did.
	Names NameCounts
	// Connections counts what the rules refused, by why: the class or kind of the rule. Packets, so one attempt may count twice.
	Connections map[string]int64
}

// NameCounts is what became of the names that a sandbox asked for.
type NameCounts struct {
	// Questions were taken on, Answered were answered; Denied were for names that it may not ask for. Filtered are addresses that were
	// taken out of answers. Limited were over a limit, Failed had no answer from outside, Malformed were no questions or of
	// types that are not looked up.
	Questions, Answered, Denied, Filtered, Limited, Failed, Malformed int64
	// Denials are the names denied last, newest first, at most MaxDenials.
	Denials []NameDenial
}

// NameDenial is a name that was denied.
type NameDenial struct {
	Name, Why string
	Count     int64
	Last      time.Time
}
