package impact

import (
	"fmt"
	"slices"
	"strings"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
)

// Kind is what a change would do to a launch, a binding or a sandbox.
type Kind string

// The kinds.
const (
	// Refused: the launch was admitted and would not be any more. Admitted: the other way round.
	Refused  Kind = "refused"
	Admitted Kind = "admitted"
	// Elsewhere: on another runner, or under another binding. What its spec is there is not compared.
	Elsewhere Kind = "elsewhere"
	// Changed: the same place with another spec.
	Changed Kind = "changed"
	// Added and Removed are for bindings alone, as is Default: another binding is that of launches which name none.
	Added   Kind = "added"
	Removed Kind = "removed"
	Default Kind = "default"
	// LostEffect: an override states a bound that is no longer tighter than what lies beneath.
	LostEffect Kind = "lost_effect"
)

// Effect is what a change would do to one launch, binding or sandbox.
type Effect struct {
	// About names it: a sandbox id, or RUNNER/BINDING.
	About string
	Kind  Kind
	// Message is for people: why it is refused, where it would be.
	Message string
	Fields  []Field
	// key is the same for effects that are one thing to the reader.
	key string
}

// Launch decides a launch under both snapshots. nil means that nothing changes for it. about names it.
func Launch(before, after *plan.Snapshot, l *specpb.Launch, opts plan.Options, about string) *Effect {
	opts.Terse = true
	was, wasErr := plan.Make(before, l, opts)
	is, isErr := plan.Make(after, l, opts)
	switch {
	case wasErr != nil && isErr != nil:
		return nil
	case isErr != nil:
		return &Effect{About: about, Kind: Refused, Message: fault.From(isErr).Message, key: refusalKey(isErr)}
	case wasErr != nil:
		return &Effect{About: about, Kind: Admitted, Message: "refused until now: " + fault.From(wasErr).Message, key: refusalKey(wasErr)}
	}
	if from, to := placeOf(was), placeOf(is); from != to {
		return &Effect{About: about, Kind: Elsewhere, Message: fmt.Sprintf("on %s in place of %s", to, from), key: from + "\x00" + to}
	}
	if was.Digest == is.Digest && was.LifetimeSeconds == is.LifetimeSeconds && was.IdleSeconds == is.IdleSeconds {
		return nil
	}
	e := &Effect{About: about, Kind: Changed, Fields: Compare(was.Resolved, is.Resolved)}
	e.times("its lifetime", was.LifetimeSeconds, is.LifetimeSeconds)
	e.times("its idle timeout", was.IdleSeconds, is.IdleSeconds)
	if len(e.Fields) == 0 && e.Message == "" {
		return nil // Guardrails alone differ, and it is within both.
	}
	e.key = e.Message + "\x00" + keyOf(e.Fields)
	return e
}

func (e *Effect) times(what string, old, new int32) {
	if old == new {
		return
	}
	text := func(n int32) string {
		if n == 0 {
			return "none"
		}
		return fmt.Sprintf("%d s", n)
	}
	if e.Message != "" {
		e.Message += "; "
	}
	e.Message += what + " is " + text(new) + " in place of " + text(old)
}

func placeOf(p *plan.Plan) string { return p.Runner.Runner.RunnerID + "/" + p.Binding.Name }

// refusalKey is the same for refusals for the same reasons, whatever the amounts.
func refusalKey(err error) string {
	f := fault.From(err)
	parts := []string{f.Reason}
	if r, ok := f.Detail.(*plan.Refusal); ok {
		for _, c := range r.Candidates {
			for _, reason := range c.Reasons {
				parts = append(parts, string(reason.Code)+" "+reason.Path)
			}
		}
	}
	slices.Sort(parts)
	return strings.Join(slices.Compact(parts), "\x00")
}

func keyOf(fields []Field) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%s\x00%s\x00%s\x00", f.Path, f.Old.text(), f.New.text())
	}
	return b.String()
}

func (s *Side) text() string {
	if s == nil {
		return ""
	}
	return string(s.Value)
}
