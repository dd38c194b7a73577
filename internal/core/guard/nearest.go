package guard

import (
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/launch"
)

// maxRounds is how often a request is repaired: a repair can bring another field out of its bounds, and two repairs that
// undo each other would go on for ever.
const maxRounds = 8

// Nearest returns the request nearest to s that l admits, with the single changes that lead there, such that undoing any
// one of them is refused again. It returns nil when no change of the request helps. A request that passes already comes
// back without changes.
func Nearest(l *Limits, s *Subject) (*specpb.Launch, []launch.Change) {
	admits := func(to *specpb.Launch) bool { return admits(l, s, to) }
	var best *specpb.Launch
	var least []launch.Change
	for _, to := range Repairs(l, s) {
		to, changes := Minimize(s.Request.Launch, to, admits)
		if best == nil || Nearer(changes, least) {
			best, least = to, changes
		}
	}
	return best, least
}

// Nearer reports whether changes a lead less far than changes b: there are fewer, or as many of which fewer drop what was
// asked for altogether.
func Nearer(a, b []launch.Change) bool {
	dropped := func(list []launch.Change) (n int) {
		for _, c := range list {
			if c.To == nil {
				n++
			}
		}
		return n
	}
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return dropped(a) < dropped(b)
}

// Repairs returns requests made of s that l admits: one where every field outside a bound is moved to the bound, and one
// where such fields are left to the layers below. There may be none, and changes in them may prove unnecessary: see
// Minimize.
func Repairs(l *Limits, s *Subject) []*specpb.Launch {
	var out []*specpb.Launch
	for _, strategy := range []func(*specpb.Launch, *Violation) bool{toBound, toDefault} {
		if to := repair(l, s, strategy); to != nil {
			out = append(out, to)
		}
	}
	return out
}

// toBound moves the field that is outside to its bound.
func toBound(l *specpb.Launch, v *Violation) bool {
	if v.fix == nil {
		return false
	}
	v.fix(l)
	return true
}

// toDefault leaves the field that is outside, and what it is compared with, to the layers below. It helps where moving one
// of two fields that depend on each other only moves the violation.
func toDefault(l *specpb.Launch, v *Violation) bool {
	before := proto.CloneOf(l)
	for _, path := range []string{v.Path, v.LimitPath} {
		unset(l, path)
	}
	if proto.Equal(before, l) {
		return toBound(l, v)
	}
	return true
}

// repair applies a strategy to all violations at once, and again to what that brings about.
func repair(l *Limits, s *Subject, strategy func(*specpb.Launch, *Violation) bool) *specpb.Launch {
	to := proto.CloneOf(s.Request.Launch)
	for range maxRounds {
		request, err := launch.New(to)
		if err != nil {
			return nil
		}
		left := Check(l, s.with(request))
		if len(left) == 0 {
			return to
		}
		touched := map[string]bool{}
		for i := range left {
			v := &left[i]
			// What was just repaired waits for the next round, and so does what has no repair of its own: it may have gone with
			// the others.
			if v.Fix != nil && !touched[v.Fix.Path] && strategy(to, v) {
				touched[v.Fix.Path] = true
			}
		}
		if len(touched) == 0 {
			return nil
		}
	}
	return nil
}

func admits(l *Limits, s *Subject, to *specpb.Launch) bool {
	request, err := launch.New(to)
	return err == nil && Admits(l, s.with(request))
}

// Minimize takes back, one by one, the changes between original and changed that admits does not need, and returns what is
// left. Changed must be admitted. Afterwards undoing any single change is refused.
func Minimize(original, changed *specpb.Launch, admits func(*specpb.Launch) bool) (*specpb.Launch, []launch.Change) {
	for {
		changes := launch.Diff(original, changed)
		shorter := false
		for _, c := range changes {
			if without := launch.Undo(changed, original, c.Path); admits(without) {
				changed, shorter = without, true
			}
		}
		if !shorter {
			return changed, changes
		}
	}
}

// unset removes what the request gives for a field of the spec.
func unset(l *specpb.Launch, path string) {
	if at := launch.RequestPath(path); at != path || path == fields().image.Path {
		launch.Remove(l, at)
	}
}
