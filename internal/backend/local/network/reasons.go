package network

import "github.com/bermhq/berm/internal/core/egress"

// Reason says why a packet of a sandbox was not let through: the class or kind of the rule that closed it, or one of those below.
type Reason string

// Reasons that are no rule of a policy.
const (
	// ReasonSource: the source address is not the sandbox's own.
	ReasonSource Reason = "source"
	// ReasonConnections: the sandbox had as many connections as it may have.
	ReasonConnections Reason = "connections"
	// ReasonRate: the sandbox began connections faster than it may.
	ReasonRate Reason = "connection-rate"
	// ReasonTogether: all sandboxes had as many connections as they may have together.
	ReasonTogether Reason = "all-connections"
	// ReasonUnknown: nothing is known of the sandbox: it is being made, or has ended.
	ReasonUnknown Reason = "unknown"
	// ReasonQuestions: the sandbox asked for names faster than it may.
	ReasonQuestions Reason = "questions"
)

// reasons are all of them. The place in this list is what the kernel keeps: append only.
func reasons() []Reason {
	return []Reason{
		ReasonSource, ReasonConnections, ReasonUnknown, Reason(egress.KindAny), Reason(egress.KindPorts), Reason(egress.KindProtocols),
		Reason(egress.ClassDenied), Reason(egress.ClassMetadata), Reason(egress.ClassMachine), Reason(egress.ClassSandboxes),
		Reason(egress.ClassTranslated), Reason(egress.ClassSpecial), Reason(egress.ClassLinkLocal), Reason(egress.ClassPrivate), Reason(egress.ClassOnLink),
		ReasonQuestions, ReasonTogether, ReasonRate,
	}
}

// reasonOf returns why a rule that closes does so.
func reasonOf(r *egress.Rule) Reason {
	if r.Class != "" {
		return Reason(r.Class)
	}
	return Reason(r.Kind)
}

// silent reports whether what is refused is dropped without a word: nobody is there to be told, or to tell costs as much as to let it
// through. What begins too fast is begun again by who waits for it, and comes through later.
func (r Reason) silent() bool { return r == ReasonSource || r == ReasonQuestions || r == ReasonRate }

// refusal is the chain that counts and refuses for a reason.
func (r Reason) chain() string { return "deny-" + string(r) }
