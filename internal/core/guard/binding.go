package guard

import (
	"fmt"
	"maps"

	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// requireLimits is the guardrail that a runner's enforce_resource_limits stands for.
const requireLimits = `{"guardrails":{"resources":{"require_limits":true}}}`

// EnforceLimits returns the input that stands for a runner's flag enforce_resource_limits: limits are required, by the
// origin given. It is meant to be passed as an extra input.
func EnforceLimits(by resolve.Origin) resolve.Input {
	// A test reads the text; an error would leave an input that says nothing.
	l, _ := spec.ParseLayer([]byte(requireLimits))
	return resolve.Input{Origin: by, Layer: l}
}

// CheckBinding returns why layers 1 to 3 make no usable binding: they contradict each other, or the guardrails exclude what
// a launch gets that asks for nothing. A value that is merely missing does not count while requests can give it, with one
// exception: where an extra input, which belongs to the runner, requires limits, they are mandatory for its bindings too.
func CheckBinding(inputs []resolve.Input, extra ...resolve.Input) []Violation {
	return CheckDefaults(Effective(inputs, extra...), extra...)
}

// CheckDefaults is CheckBinding for limits that were compiled already, with the same extra inputs.
func CheckDefaults(l *Limits, extra ...resolve.Input) []Violation {
	set := fields()
	// An empty request has no wrong shape, so that there is no error.
	request, _ := launch.New(nil)
	var out []Violation
	for _, v := range siblings(l.folded) {
		if requestable(v.Path) {
			out = append(out, v)
		}
	}
	for _, v := range Check(l, NewSubject(request, nil, "")) {
		closed := v.Path == set.egressDefault.Path && v.Fix == nil
		if v.Reason == ReasonMissing && !closed || v.Path == set.dimensions[0].request.Path || v.Path == set.dimensions[1].request.Path {
			continue
		}
		v.Reason, v.Fix, v.fix = ReasonUnresolvable, nil, nil
		out = append(out, v)
	}
	return append(out, mandatory(l.folded, meet(extra)[set.requireLimits])...)
}

// mandatory returns the limits that a binding must give by itself.
func mandatory(folded *resolve.Folded, bound *Bound) []Violation {
	need := bound.True()
	if need == nil {
		return nil
	}
	var out []Violation
	for _, d := range fields().dimensions {
		v := at(folded, d.limit, "")
		if _, ok := v.Amount(); ok {
			continue
		}
		out = append(out, Violation{
			Reason: ReasonUnresolvable, Path: d.limit.Path, Limit: "required", LimitPath: need.Field.Path, ValueOrigin: v.origin, LimitOrigin: need.Origin,
			Message: fmt.Sprintf("%s must be given: limits are mandatory for every binding%s", d.limit.Path, from(need.Origin)),
		})
	}
	return out
}

// broken returns the contradictions that no request can repair.
func broken(folded *resolve.Folded) []Violation {
	_, out := NodeSelector(folded)
	for _, v := range siblings(folded) {
		if !requestable(v.Path) {
			out = append(out, v)
		}
	}
	return out
}

// requestable reports whether a request can touch the field of the spec.
func requestable(path string) bool {
	return launch.RequestPath(path) != path || path == fields().image.Path
}

// siblings returns the broken rules between fields, which layers can break together though each keeps them.
func siblings(folded *resolve.Folded) []Violation {
	var out []Violation
	for _, p := range spec.ValidateLeaves(folded.Leaves()) {
		value, other := at(folded, p.Leaf.Field, p.Leaf.Key), at(folded, p.Other.Field, p.Other.Key)
		out = append(out, Violation{
			Reason: ReasonUnresolvable, Path: p.Leaf.Path(), Value: p.Leaf.String(), Limit: p.Other.String(), LimitPath: p.Other.Path(),
			ValueOrigin: value.origin, LimitOrigin: other.origin,
			Message: fmt.Sprintf("%s%s: %s%s", p.Leaf.Path(), from(value.origin), p.Message, from(other.origin)),
		})
	}
	return out
}

// NodeSelector unites node_selector and pod.spec.nodeSelector. A key that has another value in each is a violation; the
// first place then wins.
func NodeSelector(folded *resolve.Folded) (map[string]string, []Violation) {
	set := fields()
	own, fragment := at(folded, set.nodeSelector, ""), at(folded, set.pod, "nodeSelector")
	plain, _ := own.Any().(map[string]string)
	inPod, _ := fragment.Any().(map[string]any)
	if len(inPod) == 0 {
		return plain, nil
	}
	united := maps.Clone(plain)
	if united == nil {
		united = make(map[string]string, len(inPod))
	}
	var out []Violation
	for _, key := range sortedKeys(inPod) {
		value, isText := inPod[key].(string)
		have, twice := plain[key]
		switch {
		case !isText:
			out = append(out, Violation{
				Reason: ReasonUnresolvable, Path: set.pod.PathOf("nodeSelector") + "[" + key + "]", ValueOrigin: fragment.origin,
				Message: fmt.Sprintf("%s%s: the value of %s is no string", set.pod.PathOf("nodeSelector"), from(fragment.origin), key),
			})
		case twice && have != value:
			out = append(out, Violation{
				Reason: ReasonUnresolvable, Path: set.nodeSelector.PathOf(key), Value: have, Limit: value,
				LimitPath: set.pod.PathOf("nodeSelector"), ValueOrigin: own.origin, LimitOrigin: fragment.origin,
				Message: fmt.Sprintf("node label %s is to be %s%s and, in pod.spec.nodeSelector, %s%s",
					key, have, from(own.origin), value, from(fragment.origin)),
			})
		case !twice:
			united[key] = value
		}
	}
	return united, out
}
