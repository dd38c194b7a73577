// Package place says where a sandbox could run and where it should: it filters runners, with a typed reason for each one
// that is out, scores those that are left, and chooses.
//
// It is pure. The random part of the choice is a function of a seed that the caller passes and of the runners' names, so
// the order in which runners are given means nothing, and a runner that is filtered out changes nothing for the others.
package place

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/resolve"
)

// Code classifies a Reason, for programs.
type Code string

// The codes of this package. Those of a guard violation are its reasons, such as FIELD_LOCKED.
const (
	// CodeGuardrail: guardrails forbid it, and nobody asked which.
	CodeGuardrail Code = "GUARDRAIL_VIOLATED"
	// CodeNotRequested: the request names other runners.
	CodeNotRequested Code = "NOT_REQUESTED"
	// CodeDisconnected: nothing is connected that could run it.
	CodeDisconnected Code = "DISCONNECTED"
	// CodeUnable: its process is connected and can run nothing at all where it is.
	CodeUnable Code = "UNABLE"
	// CodeCordoned: an operator keeps new sandboxes away, or the runner is being deleted.
	CodeCordoned Code = "CORDONED"
	// CodeNotBound: the runner binds none of the profiles asked for.
	CodeNotBound Code = "PROFILE_NOT_BOUND"
	// CodeArchitecture: another CPU architecture is asked for.
	CodeArchitecture Code = "ARCHITECTURE"
	// CodeRuntimeClass: the runner does not have the runtime class.
	CodeRuntimeClass Code = "RUNTIME_CLASS"
	// CodeNodeLabels: a node selector that the runner's known labels do not match.
	CodeNodeLabels Code = "NODE_LABELS"
	// CodeInstanceType: the runner's known instance type is not one of those allowed.
	CodeInstanceType Code = "INSTANCE_TYPE"
	// CodeFeature: an ability that the runner is known not to have.
	CodeFeature Code = "FEATURE"
	// CodeCapacity: it would fit an emptier runner.
	CodeCapacity Code = "CAPACITY"
	// CodeTooLarge: it would not fit even if nothing else ran there.
	CodeTooLarge Code = "TOO_LARGE"
	// CodeRefused: the runner's backend cannot honour the resolved spec.
	CodeRefused Code = "BACKEND_REFUSED"
	// CodeOutscored: it could run here, but the chosen runner scored higher, or came first by name.
	CodeOutscored Code = "OUTSCORED"
	// CodeNotDrawn: it could run here; the two runners compared were drawn by chance.
	CodeNotDrawn Code = "NOT_DRAWN"
	// CodeLaterGroup: it could run here; the order of the profile has the group of the chosen runner before that of this one.
	CodeLaterGroup Code = "LATER_GROUP"
)

// Text returns the message of a code that always means the same, "" for the others.
func Text(c Code) string {
	switch c {
	case CodeGuardrail:
		return "guardrails forbid it"
	case CodeNotRequested:
		return "the request names other runners"
	case CodeNotBound:
		return "the runner binds none of the profiles asked for"
	case CodeOutscored:
		return "the chosen runner scored higher"
	case CodeNotDrawn:
		return "two others were drawn and compared"
	case CodeLaterGroup:
		return "a group that the profile has before it could take it"
	default:
		return ""
	}
}

// Reason is one reason why a runner is not the chosen one. The zero values of the fields behind Message mean that they do
// not apply.
type Reason struct {
	Code    Code
	Message string
	// Path is the field concerned, in snake_case; Value what was asked for, Limit what it collides with, as text.
	Path, Value, Limit string
	// ValueOrigin and LimitOrigin say where both come from.
	ValueOrigin, LimitOrigin *resolve.Origin
}

// Host is what placement knows of one runner.
type Host struct {
	// ID breaks ties; unique among the hosts of a choice.
	ID      string
	GroupID string
	// Connected is the network's part, Cordoned the operator's; Note and CordonNote say why not, or why, in words, and may be empty.
	Connected, Cordoned bool
	Note, CordonNote    string
	// Unable is why its process can run nothing at all, "" when it can.
	Unable string
	// Architecture is a GOARCH value, "" when unknown.
	Architecture string
	// RuntimeClasses is empty when unknown.
	RuntimeClasses []string
	// NodeLabels is nil when unknown: node selectors then filter nothing.
	NodeLabels map[string]string
	// Features are "family:ability". A family of which no ability is listed is unknown and filters nothing.
	Features []string
	// Capacity may be reserved in total, Used is reserved now.
	Capacity, Used core.Amounts
}

// Need is what one resolved launch asks of a runner.
type Need struct {
	Reserve core.Amounts
	// RuntimeClass is "" when the runner's default serves.
	RuntimeClass string
	// NodeSelector is the union of both places of the spec where one can stand; Selector names each key's path.
	NodeSelector map[string]string
	// InstanceTypes is empty when any will do.
	InstanceTypes []string
	// Features are "family:ability".
	Features []string
}

// Label keys that placement itself understands.
const (
	// LabelArch is compared with the runner's architecture, labels known or not.
	LabelArch = "kubernetes.io/arch"
	// LabelInstanceType is where a node says its instance type.
	LabelInstanceType = "node.kubernetes.io/instance-type"
)

// Available returns why h takes no new sandbox at all, nil if it does.
func Available(h *Host) []Reason {
	var out []Reason
	switch {
	case !h.Connected:
		out = append(out, Reason{Code: CodeDisconnected, Message: note("the runner is not connected", h.Note)})
	case h.Unable != "":
		out = append(out, Reason{Code: CodeUnable, Message: note("the runner can run no sandboxes", h.Unable)})
	}
	if h.Cordoned {
		out = append(out, Reason{Code: CodeCordoned, Message: note("the runner takes no new sandboxes", h.CordonNote)})
	}
	return out
}

// Fits returns every reason, in a fixed order, why h cannot take a sandbox with these needs, nil if it can. It does not
// look at availability.
func Fits(h *Host, n *Need) []Reason {
	out := abilities(h, n)
	return append(out, room(h, &n.Reserve)...)
}

// OnlyCapacity reports whether all reasons are about room: the same request may succeed later, unchanged.
func OnlyCapacity(reasons []Reason) bool {
	for _, r := range reasons {
		if r.Code != CodeCapacity && r.Code != CodeTooLarge {
			return false
		}
	}
	return len(reasons) > 0
}

func abilities(h *Host, n *Need) []Reason {
	var out []Reason
	if n.RuntimeClass != "" && len(h.RuntimeClasses) > 0 && !slices.Contains(h.RuntimeClasses, n.RuntimeClass) {
		out = append(out, Reason{
			Code: CodeRuntimeClass, Path: "runtime_class", Value: n.RuntimeClass, Limit: strings.Join(h.RuntimeClasses, ", "),
			Message: fmt.Sprintf("runtime class %s does not work on this runner, which has %s", n.RuntimeClass, strings.Join(h.RuntimeClasses, ", ")),
		})
	}
	if !selected(h, n) {
		out = append(out, labels(h, n)...)
	}
	if have := h.NodeLabels[LabelInstanceType]; have != "" && len(n.InstanceTypes) > 0 && !slices.Contains(n.InstanceTypes, have) {
		out = append(out, Reason{
			Code: CodeInstanceType, Path: "instance_types", Value: strings.Join(n.InstanceTypes, ", "), Limit: have,
			Message: fmt.Sprintf("the runner has instance type %s, allowed are %s", have, strings.Join(n.InstanceTypes, ", ")),
		})
	}
	for _, f := range n.Features {
		family, _, _ := strings.Cut(f, ":")
		switch {
		case slices.Contains(h.Features, f):
		case strings.HasPrefix(f, FeatureProven):
			out = append(out, unproven(h, strings.TrimPrefix(f, FeatureProven)))
		case knows(h.Features, family):
			out = append(out, Reason{Code: CodeFeature, Value: f, Message: fmt.Sprintf("the runner does not offer %s", f)})
		}
	}
	return out
}

// FeatureProven is the family of egress modes that a runner has tried. What it does not list is not proven, also when it lists none.
const FeatureProven = "proven:"

// unproven says what the runner has tried instead.
func unproven(h *Host, kind string) Reason {
	var have []string
	for _, f := range h.Features {
		if t, ok := strings.CutPrefix(f, FeatureProven); ok {
			have = append(have, t)
		}
	}
	text := "none"
	if len(have) > 0 {
		text = strings.Join(have, ", ")
	}
	return Reason{
		Code: CodeFeature, Path: "network.egress.require", Value: "proven", Limit: text,
		Message: fmt.Sprintf("it is demanded that egress of type %s is proven; proven on this runner: %s", kind, text),
	}
}

// label returns what is known of a node label. What is not known matches anything.
func (h *Host) label(key string) (value string, has, known bool) {
	if key == LabelArch && h.Architecture != "" {
		return h.Architecture, true, true
	}
	value, has = h.NodeLabels[key]
	return value, has, h.NodeLabels != nil
}

// selected reports whether the host's known labels match the selector.
func selected(h *Host, n *Need) bool {
	for key, want := range n.NodeSelector {
		if have, has, known := h.label(key); known && (!has || have != want) {
			return false
		}
	}
	return true
}

func labels(h *Host, n *Need) []Reason {
	var out []Reason
	for _, key := range sortedKeys(n.NodeSelector) {
		want := n.NodeSelector[key]
		have, has, known := h.label(key)
		if !known || has && have == want {
			continue
		}
		code, text := CodeNodeLabels, "does not have the label"
		if has {
			text = "has " + have
		}
		if key == LabelArch && h.Architecture != "" {
			code = CodeArchitecture
		}
		out = append(out, Reason{
			Code: code, Path: "node_selector[" + key + "]", Value: want, Limit: have,
			Message: fmt.Sprintf("the sandbox needs a node with %s=%s; this runner %s", key, want, text),
		})
	}
	return out
}

// knows reports whether any ability of the family is listed.
func knows(features []string, family string) bool {
	return slices.ContainsFunc(features, func(f string) bool {
		return len(f) > len(family) && f[len(family)] == ':' && f[:len(family)] == family
	})
}

func note(text, detail string) string {
	if detail == "" {
		return text
	}
	return text + ": " + detail
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
