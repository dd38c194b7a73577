// Package guard says what may not be. Layer 4 has the final word inside the guardrails; a request outside them is refused,
// never clamped, with every violation at once, and with the nearest request that would pass.
//
// There are two kinds of bounds. Default ceilings are the cpu_limit and memory_limit that layers 1 to 3 resolve to: they
// follow "later wins" like any default. Explicit guardrails do not: the effective one is the meet of what all layers say,
// whatever their order, so that adding a layer can only forbid more. How the values of a guardrail meet is an option of
// its field; nothing here lists the fields that are combined. The checks themselves name the fields that they check.
package guard

import (
	"fmt"
	"strings"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
)

// Reasons of a Violation. The first three are also reasons of faults.
const (
	// ReasonViolated: a request is outside a guardrail or a default ceiling.
	ReasonViolated = fault.ReasonGuardrailViolated
	// ReasonWidens: an override would allow more than what is below it.
	ReasonWidens = fault.ReasonOverrideWidens
	// ReasonUnresolvable: a binding contradicts itself, whatever the request.
	ReasonUnresolvable = fault.ReasonUnresolvable
	// ReasonLocked: a request changes a locked field.
	ReasonLocked = "FIELD_LOCKED"
	// ReasonReserved: a request sets an annotation that is not the caller's to set.
	ReasonReserved = "ANNOTATION_RESERVED"
	// ReasonUndeclared: a network mode that the profile does not declare.
	ReasonUndeclared = "MODE_UNDECLARED"
	// ReasonMissing: a value that a guardrail needs in order to hold is nowhere given.
	ReasonMissing = "LIMIT_MISSING"
	// ReasonLostEffect: what an override says no longer matters.
	ReasonLostEffect = "OVERRIDE_LOST_EFFECT"
	// ReasonUsage: too much is running, or was started.
	ReasonUsage = fault.ReasonUsageExceeded
)

// Violation is one thing that may not be.
type Violation struct {
	// Reason is one of the constants above.
	Reason string
	// Path is the field of the spec, or of the request where the field concerns the sandbox alone.
	Path string
	// Value is what is there and Limit what would be allowed, as text; "" when there is none.
	Value, Limit string
	// LimitPath is the guardrail that says so, or the default that is also the ceiling; "" for rules that are built in.
	LimitPath string
	// Message says all of it in a sentence.
	Message string
	// ValueOrigin and LimitOrigin are nil for what no layer says.
	ValueOrigin, LimitOrigin *resolve.Origin
	// Fix is the change of the request that would pass this bound, nil when no request can. Only Path and To are set.
	Fix *launch.Change

	fix func(*specpb.Launch)
}

// Change is one changed field of a request.
type Change = launch.Change

// Subject is a launch as it is checked. It keeps what every check of it needs, and so belongs to one goroutine.
type Subject struct {
	Request *launch.Request
	// Origin is that of layer 4.
	Origin *resolve.Origin
	// RuntimeClass is what the runner uses when no layer names a runtime class, "" when unknown.
	RuntimeClass string

	// ref is the image asked for, normalised; annotations are the keys asked for, sorted. They are prepared once.
	prepared    bool
	ref         string
	annotations []string
}

// NewSubject returns a request as it is checked. origin is that of layer 4.
func NewSubject(r *launch.Request, origin *resolve.Origin, runtimeClass string) *Subject {
	return &Subject{Request: r, Origin: origin, RuntimeClass: runtimeClass}
}

func (s *Subject) prepare() {
	if s.prepared {
		return
	}
	s.ref, s.annotations = NormalizeImage(s.Request.Launch.GetContainerImage()), sortedKeys(s.Request.Launch.GetPodAnnotations())
	s.prepared = true
}

// with returns the subject for another request in its place.
func (s *Subject) with(r *launch.Request) *Subject { return NewSubject(r, s.Origin, s.RuntimeClass) }

// builtIn is the origin of rules that nobody configured.
func builtIn() *resolve.Origin {
	return &resolve.Origin{Layer: resolve.LayerZone, Object: "built-in rules"}
}

// from names an origin behind a value: " (profile agent, revision 3)".
func from(o *resolve.Origin) string {
	switch {
	case o == nil:
		return ""
	case o.Revision > 0:
		return fmt.Sprintf(" (%s, revision %d)", o.Object, o.Revision)
	}
	return " (" + o.Object + ")"
}

// Explain returns the messages of violations in one line.
func Explain(list []Violation) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = v.Message
	}
	return strings.Join(texts, "; ")
}
