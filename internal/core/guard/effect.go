package guard

import (
	"encoding/json"
	"slices"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// Effect is a guardrail as it holds, and what each statement about it has to do with that.
type Effect struct {
	// Value is the meet of all statements as JSON, in the form of the field. Only where image patterns of several layers hold
	// together, which no list of patterns can say, is it an object: {"allOf": [[…], […]]}.
	Value json.RawMessage
	// Owner is the statement that decides the value, or the tightest of those that hold together.
	Owner Term
	// Combined are the others that hold together with it: of owner and combined alone, none can be left out without another value.
	// Shadowed are those that the value does not need, whatever their layers, because what is left is as tight. Both have the
	// highest layer first.
	Combined, Shadowed []Term
}

// Effect returns what the bound comes to. Of statements that say the same, that of the lowest layer counts: to take the others
// away changes nothing.
func (b *Bound) Effect() Effect {
	kept := slices.Clone(b.Terms)
	var e Effect
	for i := len(kept) - 1; i >= 0; i-- {
		if rest := slices.Concat(kept[:i], kept[i+1:]); len(rest) > 0 && b.idle(kept[i], rest) {
			e.Shadowed = append(e.Shadowed, kept[i])
			kept = rest
		}
	}
	tightest := 0
	for i := range kept {
		if b.tighter(kept[i], kept[tightest]) {
			tightest = i
		}
	}
	e.Owner = kept[tightest]
	for i := len(kept) - 1; i >= 0; i-- {
		if i != tightest {
			e.Combined = append(e.Combined, kept[i])
		}
	}
	e.Value = b.value(kept)
	return e
}

// idle reports whether t adds nothing to the rest. kept is gone through from the top, so that t is above every equal.
func (b *Bound) idle(t Term, rest []Term) bool {
	other := Bound{Field: b.Field, Terms: rest}
	switch b.Field.Meet {
	case specpb.Meet_MEET_MINIMUM:
		return amount(t.Leaf) >= other.Amount()
	case specpb.Meet_MEET_ANY:
		return !truth(t.Leaf) || other.True() != nil
	case specpb.Meet_MEET_INTERSECTION:
		return subset(other.Common(), list(t.Leaf))
	case specpb.Meet_MEET_UNION:
		return subset(list(t.Leaf), other.Entries())
	case specpb.Meet_MEET_CONJUNCTION:
		// What matches a pattern of a smaller list matches the same pattern of this one.
		return slices.ContainsFunc(rest, func(o Term) bool { return subset(list(o.Leaf), list(t.Leaf)) })
	case specpb.Meet_MEET_UNSPECIFIED:
	}
	// A default is that of the highest layer.
	return t.Place < rest[len(rest)-1].Place
}

// tighter compares two statements that hold together, as far as the number of their entries tells.
func (b *Bound) tighter(t, than Term) bool {
	if b.Field.Meet == specpb.Meet_MEET_UNION {
		return len(list(t.Leaf)) > len(list(than.Leaf))
	}
	return len(list(t.Leaf)) < len(list(than.Leaf))
}

// value returns the meet of statements none of which is idle.
func (b *Bound) value(kept []Term) json.RawMessage {
	if len(kept) == 1 {
		return kept[0].JSON()
	}
	met := Bound{Field: b.Field, Terms: kept}
	switch b.Field.Meet {
	case specpb.Meet_MEET_INTERSECTION:
		return texts(met.Common())
	case specpb.Meet_MEET_UNION:
		return texts(met.Entries())
	default:
		// Image patterns: of all other kinds one statement is kept.
		out := []byte(`{"allOf":[`)
		for i, t := range kept {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, t.JSON()...)
		}
		return append(out, "]}"...)
	}
}

func subset(part, of []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(of, s) })
}

// texts writes a list of strings as JSON.
func texts(values []string) json.RawMessage {
	out := []byte{'['}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = tree.AppendString(out, v)
	}
	return append(out, ']')
}
