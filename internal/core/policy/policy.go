// Package policy runs tests of a profile: requests with what is expected of them. Each is decided by plan, as a launch is, at every place
// that it speaks of, so a test says what launches will get and not what somebody thinks of the rules.
//
// What a test comes to depends on the configuration and on what runners have told of themselves: their capacity, runtime classes, labels.
// It does not depend on which of them are connected, cordoned or full, and no backend is asked: an edit must not fail, nor pass, because a
// machine is away for a moment.
package policy

import (
	"encoding/json"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Limits of tests.
const (
	// MaxText is the largest file of tests, in bytes.
	MaxText = 256 << 10
	// MaxTests is how many tests a profile has at most.
	MaxTests = 100
	// MaxName is the longest name of a test, or another text of it, in bytes.
	MaxName = 128
	// MaxExpected is how many values, origins or places one test expects.
	MaxExpected = 64
	// MaxPlaces is how many places all tests of one run, or of one edit, are tried at.
	MaxPlaces = 20_000
	// MaxFailures is how many differences are told of one case.
	MaxFailures = 16
)

// Where a test is tried, besides the id of one runner.
const (
	// EveryRunner: at every binding of the profile, on whatever runner. What is expected holds at each.
	EveryRunner = "every"
	// AnyRunner: once, as a launch that leaves the choice of the runner to the server.
	AnyRunner = "any"
)

// Test is a request and what is expected of it.
type Test struct {
	// Name is unique among the tests of a profile.
	Name string `json:"name"`
	// Runner is EveryRunner, AnyRunner or the id of a runner.
	Runner string `json:"runner"`
	// Unnamed: the launch names no profile, and gets the default binding of the runner.
	Unnamed bool `json:"unnamed,omitempty"`
	// Launch is the request. Which profile and runner it names is not in it.
	Launch *specpb.Launch `json:"-"`
	Expect Expect         `json:"expect"`
}

// Expect is what a test expects.
type Expect struct {
	// Admitted or refused.
	Admitted bool `json:"admitted,omitempty"`
	// Refusal is what a refusal says; its empty fields expect nothing.
	Refusal Refusal `json:"refusal,omitzero"`
	// Values and Origins are about fields of the resolved spec, and about guardrails in force, by path.
	Values  []Value  `json:"values,omitempty"`
	Origins []Origin `json:"origins,omitempty"`
	// Placed are the runners of which one is chosen, whichever is drawn.
	Placed []string `json:"placed,omitempty"`
}

// Refusal is what is expected of a refusal. Reason, Path and Layer are of one and the same violation.
type Refusal struct {
	// Code is that of the answer: FAILED_PRECONDITION.
	Code string `json:"code,omitempty"`
	// Reason is that of the answer, or of a violation: GUARDRAIL_VIOLATED.
	Reason string `json:"reason,omitempty"`
	// Path is the field that is refused, by its name in a request or in a spec.
	Path string `json:"path,omitempty"`
	// Layer states what refuses it.
	Layer string `json:"layer,omitempty"`
}

// Value is what a field has.
type Value struct {
	Path string `json:"path"`
	// Value is JSON; null is no value, whether nothing states one or a layer clears it.
	Value json.RawMessage `json:"value"`
	// leaf is the value as a statement of the field; derived: the field is one that no layer states.
	leaf    spec.Leaf
	derived bool
}

// Origin is the layer that a field has its value from.
type Origin struct {
	Path  string `json:"path"`
	Layer string `json:"layer"`
}

// Outcome is what became of a test at one place.
type Outcome string

// The outcomes. A test of every runner is skipped when no runner binds the profile.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Result is what became of a test at one place.
type Result struct {
	Test string
	// Runner and Binding are the place; empty where the choice is the server's.
	Runner, Binding string
	Outcome         Outcome
	// Failures are the differences, Message what the decision was, or why there was none.
	Failures []Failure
	Message  string
}

// Where names the place for people.
func (r *Result) Where() string {
	switch {
	case r.Runner == "":
		return "any runner"
	case r.Binding == "":
		return r.Runner
	}
	return r.Runner + "/" + r.Binding
}

// Why says in a line why it failed, or what was decided.
func (r *Result) Why() string {
	if len(r.Failures) == 0 {
		return r.Message
	}
	text := r.Failures[0].String()
	if n := len(r.Failures) - 1; n > 0 {
		text += "; and " + itoa(int32(n)) + " more"
	}
	return text
}

// Failure is one difference between what was expected and what is.
type Failure struct {
	// Aspect is what differs: "verdict", "code", "refusal", "value", "origin", "placed".
	Aspect string
	// Path is the field, "" for none.
	Path string
	// Expected and Actual are for people.
	Expected, Actual string
	// Origin states the actual value, or what refuses; Shadowed is what it hides, newest first. nil where nobody does.
	Origin   *resolve.Origin
	Shadowed []resolve.Shadow
}

// String says all of it in one line.
func (f Failure) String() string {
	text := f.Aspect
	if f.Path != "" {
		text += " of " + f.Path
	}
	text += ": expected " + f.Expected + ", is " + f.Actual
	if f.Origin != nil && (f.Aspect == "value" || f.Aspect == "origin") { // others say it in their own words
		text += " (" + OriginText(f.Origin)
		for _, s := range f.Shadowed {
			text += ", over " + s.Leaf.String() + " of " + OriginText(s.Origin)
		}
		text += ")"
	}
	return text
}

// OriginText names an origin for people: "binding east/agent revision 3".
func OriginText(o *resolve.Origin) string {
	if o.Revision == 0 {
		return o.Object
	}
	return o.Object + " revision " + itoa(o.Revision)
}
