package spec

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// group fills g with the members of md, depth first, so that the leaves of every group are contiguous.
func (r *Registry) group(
	md protoreflect.MessageDescriptor, g *group, chain []protoreflect.FieldDescriptor, jsonPath string,
) *group {
	g.lo = len(r.fields)
	g.byName = map[string]*member{}
	fields := md.Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		rules := rulesOf(fd)
		m := &member{name: string(fd.Name()), jsonName: fd.JSONName()}
		path, json := tree.Join(g.path, m.name), tree.Join(jsonPath, m.jsonName)
		if isLeaf(fd, rules, len(chain)) {
			m.field = r.leaf(fd, rules, g, chain, json)
			if rules.GetInlineEntries() {
				g.inline = m.field
			}
		} else {
			m.group = &group{
				path: path, name: m.name, jsonName: m.jsonName, wireName: rules.GetWireJsonName(),
				doc: rules.GetDoc(), guardrail: g.guardrail || rules.GetGuardrail(),
			}
			r.group(fd.Message(), m.group, append(slices.Clone(chain), fd), json)
			g.authored += m.group.authored
			r.groups[path], r.groups[json] = m.group, m.group
			if m.group.doc == "" {
				r.problems = append(r.problems, path+": no doc")
			}
		}
		r.join(g, m)
	}
	g.hi = len(r.fields)
	g.byJSON = sorted(g.members, func(m *member) string { return m.jsonName })
	g.byWire = sorted(g.members, (*member).wireName)
	return g
}

func (r *Registry) join(g *group, m *member) {
	g.members = append(g.members, m)
	for _, name := range []string{m.name, m.jsonName, m.wireName(), snake(m.wireName())} {
		if other := g.byName[name]; other != nil && other != m {
			r.problems = append(r.problems, fmt.Sprintf("%s: two fields are called %s", g.path, name))
		}
		g.byName[name] = m
	}
}

func isLeaf(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules, depth int) bool {
	return fd.Message() == nil || fd.IsList() || fd.IsMap() || rules.GetAtomic() || rules.GetOpen() ||
		tree.WellKnown(fd.Message()) || depth >= maxSchemaDepth
}

func (r *Registry) leaf(
	fd protoreflect.FieldDescriptor, rules *specpb.FieldRules, g *group, chain []protoreflect.FieldDescriptor, jsonPath string,
) *Field {
	f := &Field{
		Path: tree.Join(g.path, string(fd.Name())), JSONPath: jsonPath, Name: string(fd.Name()),
		Doc: rules.GetDoc(), Example: rules.GetExample(), Kind: kindOf(fd, rules.GetOpen()),
		Format: rules.GetFormat(), KeyFormat: rules.GetKeyFormat(), Values: rules.GetValues(),
		Open: rules.GetOpen(), Derived: rules.GetDerived(), Sensitive: rules.GetSensitive(), Additive: rules.GetAdditive(), ZoneOnly: rules.GetZoneOnly(), ProfileOnly: rules.GetProfileOnly(),
		Guardrail: g.guardrail || rules.GetGuardrail(), Meet: rules.GetMeet(),
		MaxItems: int(rules.GetMaxItems()), MaxBytes: int(rules.GetMaxBytes()), Min: rules.GetMin(), Max: rules.GetMax(),
		Enforcement: map[string]Verdict{}, KeyEnforcement: map[string]map[string]Verdict{},
		index: len(r.fields), fd: fd, chain: chain, rules: rules,
	}
	for _, e := range rules.GetEnforcement() {
		f.enforce(e)
	}
	f.MaxItems, f.MaxBytes, f.Max = limits(fd, rules)
	if !f.Derived {
		g.authored++
	}
	r.fields = append(r.fields, f)
	r.byPath[f.Path], r.byPath[f.JSONPath] = f, f
	return f
}

// enforce notes what a backend does with the field, or with keys of it.
func (f *Field) enforce(e *specpb.Enforcement) {
	v := Verdict{Verdict: e.GetVerdict(), Note: e.GetNote()}
	if len(e.GetKeys()) == 0 {
		f.Enforcement[e.GetBackend()] = v
		return
	}
	if f.KeyEnforcement[e.GetBackend()] == nil {
		f.KeyEnforcement[e.GetBackend()] = map[string]Verdict{}
	}
	for _, key := range e.GetKeys() {
		f.KeyEnforcement[e.GetBackend()][key] = v
	}
}

// limits returns the limits of a field with the defaults filled in.
func limits(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules) (items, bytes int, most int64) {
	items, bytes, most = int(rules.GetMaxItems()), int(rules.GetMaxBytes()), rules.GetMax()
	if items == 0 {
		items = MaxItems
	}
	if bytes == 0 {
		bytes = MaxText
	}
	if most == 0 {
		switch {
		case rules.GetFormat() == specpb.Format_FORMAT_CPU:
			most = MaxCPUMillis
		case rules.GetFormat() == specpb.Format_FORMAT_MEMORY:
			most = MaxMemoryBytes
		case kindOfScalar(fd) == KindInt:
			most = MaxInt
		}
	}
	return items, bytes, most
}

// link finds the siblings that the rules of f name.
func (r *Registry) link(f *Field) {
	sibling := func(name string) *Field {
		path := strings.TrimSuffix(f.Path, f.Name) + name
		s := r.byPath[path]
		if s == nil {
			r.problems = append(r.problems, fmt.Sprintf("%s: its rules name %s, which is no field", f.Path, path))
		}
		return s
	}
	when := func(c *specpb.Condition) *condition {
		if c == nil {
			return nil
		}
		return &condition{field: sibling(c.GetField()), values: c.GetValues()}
	}
	if name := f.rules.GetAtMost(); name != "" {
		f.atMost = sibling(name)
	}
	f.onlyWhen, f.requiredWhen = when(f.rules.GetOnlyWhen()), when(f.rules.GetRequiredWhen())
	if f.atMost != nil || f.onlyWhen != nil || f.requiredWhen != nil {
		r.ruled = append(r.ruled, f)
	}
}

func sorted(members []*member, name func(*member) string) []*member {
	s := slices.Clone(members)
	slices.SortFunc(s, func(a, b *member) int { return strings.Compare(name(a), name(b)) })
	return s
}

// snake returns a camelCase name in snake_case.
func snake(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}
