package spec

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// Kind is what a field holds.
type Kind uint8

// The kinds.
const (
	KindString Kind = iota + 1
	KindBool
	KindInt
	KindNumber
	KindEnum
	KindBytes
	KindList
	KindMap
	// KindMessage is a message that is one value.
	KindMessage
	// KindOpen is an open JSON object, of which each top-level key is one value.
	KindOpen
)

// String returns the kind as the reference names it.
func (k Kind) String() string {
	names := [...]string{"", "string", "boolean", "integer", "number", "enum", "bytes", "list", "map", "object", "open object"}
	if int(k) < len(names) {
		return names[k]
	}
	return ""
}

// Verdict is what one backend does with a field.
type Verdict struct {
	Verdict specpb.Verdict
	// Note says on what it depends, when it does.
	Note string
}

// String returns the verdict with its note: "recorded: counts for placement".
func (v Verdict) String() string {
	if v.Note != "" {
		return v.Text() + ": " + v.Note
	}
	return v.Text()
}

// Text returns "enforced", "recorded" or "refused".
func (v Verdict) Text() string {
	switch v.Verdict {
	case specpb.Verdict_VERDICT_ENFORCED:
		return "enforced"
	case specpb.Verdict_VERDICT_RECORDED:
		return "recorded"
	case specpb.Verdict_VERDICT_REFUSED:
		return "refused"
	case specpb.Verdict_VERDICT_UNSPECIFIED:
	}
	return "undeclared"
}

// Field describes one field of the spec. It is immutable; callers do not write to its slices and maps.
type Field struct {
	// Path and JSONPath name the field from the root: "resource_defaults.cpu_limit", "resourceDefaults.cpuLimit".
	Path, JSONPath string
	// Name is the last part of Path.
	Name         string
	Doc, Example string
	Kind         Kind
	// Format is that of the string, of each element of a list or of each value of a map; KeyFormat that of a map's keys.
	Format, KeyFormat specpb.Format
	// Values is the closed set of a string, nil when it is open.
	Values []string
	// Open: each top-level key is a value of its own.
	Open bool
	// Derived: computed at launch, refused in what people write.
	Derived bool
	// Sensitive: never shown in full.
	Sensitive bool
	// Guardrail: bounds requests; combined over all layers by Meet, never cleared.
	Guardrail bool
	// ZoneOnly: refused outside of zone defaults.
	ZoneOnly bool
	// ProfileOnly: refused outside of profiles.
	ProfileOnly bool
	// Additive: a request adds entries to the map instead of replacing it.
	Additive bool
	Meet     specpb.Meet
	// MaxItems bounds lists, maps and open objects, MaxBytes strings and open objects. Min and Max bound integers, and
	// quantities in thousandths of a CPU or in bytes.
	MaxItems, MaxBytes int
	Min, Max           int64
	// Enforcement tells for each backend kind what it does with the field, KeyEnforcement with keys of an open object for which
	// it is something else.
	Enforcement    map[string]Verdict
	KeyEnforcement map[string]map[string]Verdict

	index int
	fd    protoreflect.FieldDescriptor
	// chain leads from the root message to the message that holds the field.
	chain []protoreflect.FieldDescriptor
	rules *specpb.FieldRules
	// atMost and the fields of the conditions are siblings, nil when the field has no such rule.
	atMost       *Field
	onlyWhen     *condition
	requiredWhen *condition
}

type condition struct {
	field  *Field
	values []string
}

// Index is the field's position in Fields, by which leaves are sorted.
func (f *Field) Index() int { return f.index }

// Verdict returns what a backend kind does with the field. Without a declaration that is VERDICT_UNSPECIFIED, which a
// test makes impossible for the backends there are.
func (f *Field) Verdict(backend string) Verdict { return f.Enforcement[backend] }

// VerdictOf is Verdict for one key of an open object.
func (f *Field) VerdictOf(backend, key string) Verdict {
	if v, ok := f.KeyEnforcement[backend][key]; ok {
		return v
	}
	return f.Enforcement[backend]
}

// PathOf returns the path of the field, or of one key of an open object ("pod.spec.nodeSelector") or of one entry of a
// map ("pod.metadata.annotations[team]").
func (f *Field) PathOf(key string) string {
	switch {
	case key == "":
		return f.Path
	case f.Open:
		return f.Path + "." + key
	}
	return f.Path + "[" + key + "]"
}

func kindOf(fd protoreflect.FieldDescriptor, open bool) Kind {
	switch {
	case open:
		return KindOpen
	case fd.IsMap():
		return KindMap
	case fd.IsList():
		return KindList
	}
	switch fd.Kind() {
	case protoreflect.StringKind:
		return KindString
	case protoreflect.BoolKind:
		return KindBool
	case protoreflect.EnumKind:
		return KindEnum
	case protoreflect.BytesKind:
		return KindBytes
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return KindNumber
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return KindMessage
	default:
		return KindInt
	}
}

// Descriptor returns the protobuf description of the field.
func (f *Field) Descriptor() protoreflect.FieldDescriptor { return f.fd }

// Rules returns the options of the field.
func (f *Field) Rules() *specpb.FieldRules { return f.rules }

// RulesOf returns the options of any field of the schema, also of one inside a value; never nil.
func RulesOf(fd protoreflect.FieldDescriptor) *specpb.FieldRules { return rulesOf(fd) }
