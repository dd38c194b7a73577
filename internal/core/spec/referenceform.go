package spec

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// formText says in words what a value must look like.
func formText(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if rules.GetDerived() {
		add("computed at launch; refused elsewhere")
	}
	if rules.GetRequired() {
		add("required")
	}
	if k := formatText(rules.GetKeyFormat()); k != "" {
		add("keys: %s", k)
	}
	if v := rules.GetValues(); len(v) > 0 {
		add("one of %s", strings.Join(v, ", "))
	}
	for _, a := range rules.GetAliases() {
		add("%s is accepted for %s", a.GetOld(), a.GetValue())
	}
	if f := formatText(rules.GetFormat()); f != "" {
		add("%s", f)
	}
	parts = append(parts, limitTexts(fd, rules)...)
	if s := rules.GetAtMost(); s != "" {
		add("not above %s", s)
	}
	if c := rules.GetOnlyWhen(); c != nil {
		add("only when %s", conditionText(c))
	}
	if c := rules.GetRequiredWhen(); c != nil {
		add("required when %s", conditionText(c))
	}
	if rules.GetAdditive() {
		add("a request adds entries of its own")
	}
	if m := meetText(rules.GetMeet()); m != "" {
		add("%s", m)
	}
	return strings.Join(parts, "; ")
}

func limitTexts(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules) []string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	amount := func(i int64) string { return fmt.Sprint(i) }
	if f := rules.GetFormat(); isQuantity(f) {
		amount = amountText(f)
	}
	switch least, most := rules.GetMin(), rules.GetMax(); {
	case least != 0 && most != 0:
		add("%s to %s", amount(least), amount(most))
	case least != 0:
		add("at least %s", amount(least))
	case most != 0:
		add("at most %s", amount(most))
	}
	what := "elements"
	if fd.IsMap() {
		what = "entries"
	} else if rules.GetOpen() {
		what = "keys"
	}
	if n := rules.GetMaxItems(); n != 0 {
		add("at most %d %s", n, what)
	}
	if n := rules.GetMaxBytes(); n != 0 {
		add("at most %d bytes", n)
	}
	return parts
}

func formatText(f specpb.Format) string {
	switch f {
	case specpb.Format_FORMAT_CPU:
		return "CPU quantity, no finer than 1m"
	case specpb.Format_FORMAT_MEMORY:
		return "memory quantity, in bytes"
	case specpb.Format_FORMAT_IMAGE:
		return "image reference"
	case specpb.Format_FORMAT_IMAGE_PATTERN:
		return "image pattern: * within a path segment, ** across segments"
	case specpb.Format_FORMAT_DNS_LABEL:
		return "DNS label"
	case specpb.Format_FORMAT_DNS_LABEL_PREFIX:
		return "prefix of DNS labels"
	case specpb.Format_FORMAT_CIDR:
		return "CIDR range without host bits"
	case specpb.Format_FORMAT_DNS_NAME:
		return `host name, may start with "*."`
	case specpb.Format_FORMAT_HOST_TEMPLATE:
		return "host name with {{.SandboxID}} in it"
	case specpb.Format_FORMAT_QUALIFIED_KEY:
		return "label or annotation key"
	case specpb.Format_FORMAT_LABEL_VALUE:
		return "label value"
	case specpb.Format_FORMAT_MODE_NAME:
		return "mode name"
	case specpb.Format_FORMAT_FIELD_PATH:
		return "path of a field or message of this page"
	case specpb.Format_FORMAT_UNSPECIFIED:
	}
	return ""
}

func meetText(m specpb.Meet) string {
	switch m {
	case specpb.Meet_MEET_MINIMUM:
		return "the smallest of all layers holds"
	case specpb.Meet_MEET_INTERSECTION:
		return "must be in the set of every layer"
	case specpb.Meet_MEET_UNION:
		return "the entries of all layers hold"
	case specpb.Meet_MEET_CONJUNCTION:
		return "must match in every layer"
	case specpb.Meet_MEET_ANY:
		return "true if any layer says so"
	case specpb.Meet_MEET_UNSPECIFIED:
	}
	return ""
}
