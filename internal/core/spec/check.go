package spec

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// check notes what the rules of a field forbid. Values of a wrong type, which decoding has noted, are passed over.
func (d *layerDecoder) check(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules, n *tree.Node, at string) {
	items, _, _ := limits(fd, rules)
	switch {
	case fd.IsMap() && n.Kind != tree.Object, fd.IsList() && n.Kind != tree.List:
	case fd.IsMap():
		d.checkCount(len(n.Keys), items, "entries", n, at)
		for _, k := range n.Keys {
			path := at + "[" + k.Name + "]"
			d.checkKey(rules.GetKeyFormat(), k, path)
			d.checkSingle(fd.MapValue(), rules, k.Value, path)
		}
	case fd.IsList():
		d.checkCount(len(n.Items), items, "elements", n, at)
		for i, item := range n.Items {
			path := at + "[" + strconv.Itoa(i) + "]"
			if item.Kind == tree.String && item.Text == "" {
				d.problems.Add(item, path, "an element is empty")
				continue
			}
			d.checkSingle(fd, rules, item, path)
		}
	default:
		d.checkSingle(fd, rules, n, at)
	}
}

func (d *layerDecoder) checkCount(count, most int, what string, n *tree.Node, at string) {
	if count > most {
		d.problems.AddReason(fault.ReasonLimitExceeded, n, at, "%d %s, the limit is %d", count, what, most)
	}
}

func (d *layerDecoder) checkKey(format specpb.Format, k tree.Key, at string) {
	if k.Name == "" {
		d.problems.Add(k.Value, at, "a key is empty")
		return
	}
	if why := d.checkText(format, k.Name, MaxKey); why != "" {
		d.problems.Add(k.Value, at, "the key %s", why)
	}
}

func (d *layerDecoder) checkSingle(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules, n *tree.Node, at string) {
	_, size, most := limits(fd, rules)
	switch {
	case fd.Message() != nil:
		if !tree.WellKnown(fd.Message()) && n.Kind == tree.Object {
			d.checkMessage(fd.Message(), n, at)
		}
	case fd.Kind() == protoreflect.StringKind && n.Kind != tree.String:
	case fd.Kind() == protoreflect.StringKind:
		if why := d.checkString(rules, n.Text, size, most); why != "" {
			d.problems.Add(n, at, "%s", why)
		}
	case kindOfScalar(fd) == KindInt && (n.Kind == tree.Number || n.Kind == tree.String):
		if why := checkInt(n.Text, rules.GetMin(), most); why != "" {
			d.problems.Add(n, at, "%s", why)
		}
	case fd.Kind() == protoreflect.BytesKind:
		d.checkCount(len(n.Text), size, "characters", n, at)
	}
}

func (d *layerDecoder) checkString(rules *specpb.FieldRules, text string, size int, most int64) string {
	if values := rules.GetValues(); len(values) > 0 {
		if !slices.Contains(values, text) {
			return tree.NoneOf(text, values)
		}
		return ""
	}
	if isQuantity(rules.GetFormat()) {
		return checkQuantity(rules, text, most)
	}
	return d.checkText(rules.GetFormat(), text, size)
}

func (d *layerDecoder) checkText(format specpb.Format, text string, size int) string {
	if len(text) > size {
		return "is longer than " + strconv.Itoa(size) + " bytes"
	}
	if i := strings.IndexFunc(text, func(c rune) bool { return c < 0x20 && c != '\n' && c != '\t' || c == 0x7f }); i >= 0 {
		return "holds the control character " + strconv.QuoteRune(rune(text[i]))
	}
	if format == specpb.Format_FORMAT_FIELD_PATH {
		return d.checkPath(text)
	}
	return checkFormat(format, text)
}

func (d *layerDecoder) checkPath(text string) string {
	path, ok := d.registry.CanonicalPath(text)
	if !ok {
		why := strconv.Quote(text) + " is no field of a spec"
		if s := tree.Suggest(text, d.registry.pathNames()); s != "" {
			why += "; did you mean " + strconv.Quote(s) + "?"
		}
		return why
	}
	if d.registry.isGuardrail(path) {
		return strconv.Quote(text) + " is a guardrail, which no request can reach"
	}
	return ""
}

func (r *Registry) isGuardrail(path string) bool {
	if g := r.groups[path]; g != nil {
		return g.guardrail
	}
	f, _, ok := r.ByPath(path)
	return ok && f.Guardrail
}

func kindOfScalar(fd protoreflect.FieldDescriptor) Kind {
	switch fd.Kind() {
	case protoreflect.StringKind, protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.BytesKind,
		protoreflect.FloatKind, protoreflect.DoubleKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return 0
	default:
		return KindInt
	}
}

func checkInt(text string, least, most int64) string {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || f != math.Trunc(f):
		return "" // decoding has noted it
	case f < float64(least):
		if least == 0 {
			return text + " is negative"
		}
		return text + " is below the smallest allowed, " + strconv.FormatInt(least, 10)
	case f > float64(most):
		return text + " is above the largest allowed, " + strconv.FormatInt(most, 10)
	}
	return ""
}

// checkMessage checks the fields of a message that is one value, with the rules between them.
func (d *layerDecoder) checkMessage(md protoreflect.MessageDescriptor, n *tree.Node, at string) {
	fields := md.Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		rules := rulesOf(fd)
		v := field(n, fd)
		path := tree.Join(at, string(fd.Name()))
		if v != nil {
			d.check(fd, rules, v, path)
		}
		empty := v == nil || len(v.Items)+len(v.Keys)+len(v.Text) == 0
		switch only, needs := rules.GetOnlyWhen(), rules.GetRequiredWhen(); {
		case rules.GetRequired() && empty:
			d.problems.Add(n, path, "must be given%s", oneOf(rules.GetValues()))
		case needs != nil && empty && holds(n, md, needs):
			d.problems.Add(n, path, "must be given when %s", conditionText(needs))
		case only != nil && !empty && !holds(n, md, only):
			d.problems.Add(v, path, "has a meaning only when %s", conditionText(only))
		}
	}
}

func oneOf(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return ": one of " + joinNames(values)
}

func field(n *tree.Node, fd protoreflect.FieldDescriptor) *tree.Node {
	if v := n.Get(string(fd.Name())); v != nil {
		return v
	}
	return n.Get(fd.JSONName())
}

func (d *layerDecoder) openLimits(f *Field, n *tree.Node, at string) {
	d.checkCount(len(n.Keys), f.MaxItems, "keys", n, at)
	if size := len(n.JSON()); size > f.MaxBytes {
		d.problems.AddReason(fault.ReasonLimitExceeded, n, at, "%d bytes as JSON, the limit is %d", size, f.MaxBytes)
	}
	for _, k := range n.Keys {
		if why := d.checkText(specpb.Format_FORMAT_UNSPECIFIED, k.Name, MaxKey); why != "" {
			d.problems.Add(k.Value, at, "the key %s", why)
		}
	}
}

func conditionText(c *specpb.Condition) string {
	return c.GetField() + " is " + strings.Join(c.GetValues(), " or ")
}
