package spec

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// Registry holds the fields of one message type. It is immutable and safe for concurrent use.
type Registry struct {
	mt     protoreflect.MessageType
	fields []*Field
	root   *group
	// byPath finds fields, groups finds messages, by snake_case and by camelCase path.
	byPath map[string]*Field
	groups map[string]*group
	// ruled are the fields with rules about a sibling.
	ruled    []*Field
	problems []string
}

// group is a message that is merged field by field. Its leaves are fields[lo:hi].
type group struct {
	path, name, jsonName string
	// wireName is the name under which the wire carries the message as text, "" when it does not.
	wireName  string
	doc       string
	guardrail bool
	members   []*member
	// byJSON and byWire are the members in the order of canonical text.
	byJSON, byWire []*member
	byName         map[string]*member
	// inline is the map whose entries may stand directly in the message.
	inline *Field
	lo, hi int
	// authored counts the leaves that people write.
	authored int
}

// member is a field or a message of a group; exactly one of the two is set.
type member struct {
	name, jsonName string
	field          *Field
	group          *group
}

func (m *member) wireName() string {
	if m.group != nil && m.group.wireName != "" {
		return m.group.wireName
	}
	return m.jsonName
}

// profile is the registry of the profile spec, built on first use.
var profile = sync.OnceValue(func() *Registry { return NewRegistry((*specpb.ProfileSpec)(nil).ProtoReflect().Descriptor()) })

// Profile returns the registry of the profile spec.
func Profile() *Registry { return profile() }

// NewRegistry reads the fields of a message and their options. It never fails: what is wrong with the schema is told by
// Problems.
func NewRegistry(md protoreflect.MessageDescriptor) *Registry {
	r := &Registry{mt: messageType(md), byPath: map[string]*Field{}, groups: map[string]*group{}}
	r.root = r.group(md, &group{}, nil, "")
	for _, f := range r.fields {
		r.link(f)
	}
	return r
}

// messageType prefers generated code, which is faster, when it is for the very same descriptor.
func messageType(md protoreflect.MessageDescriptor) protoreflect.MessageType {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err == nil && mt.Descriptor() == md {
		return mt
	}
	return dynamicpb.NewMessageType(md)
}

// Fields returns all fields in the order of the schema.
func (r *Registry) Fields() []*Field { return slices.Clone(r.fields) }

// Problems returns what is wrong with the schema: fields without a doc or without a verdict of one of the backends, and
// shapes that layers cannot carry.
func (r *Registry) Problems(backends ...string) []string {
	all := slices.Clone(r.problems)
	for _, f := range r.fields {
		if f.Doc == "" {
			all = append(all, f.Path+": no doc")
		}
		for _, b := range backends {
			if f.Verdict(b).Verdict == specpb.Verdict_VERDICT_UNSPECIFIED {
				all = append(all, fmt.Sprintf("%s: no verdict of backend %s", f.Path, b))
			}
		}
		if f.fd.Message() == nil && !f.fd.IsList() && !f.fd.HasPresence() {
			all = append(all, f.Path+": not optional, so that its default value cannot be told from absence")
		}
		if od := f.fd.ContainingOneof(); od != nil && !od.IsSynthetic() {
			all = append(all, f.Path+": member of a oneof, which does not merge field by field")
		}
	}
	return all
}

func rulesOf(fd protoreflect.FieldDescriptor) *specpb.FieldRules {
	if fd.Options() == nil {
		return &specpb.FieldRules{}
	}
	if rules, ok := proto.GetExtension(fd.Options(), specpb.E_Field).(*specpb.FieldRules); ok && rules != nil {
		return rules
	}
	return &specpb.FieldRules{}
}

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
		Open: rules.GetOpen(), Derived: rules.GetDerived(), Sensitive: rules.GetSensitive(), Additive: rules.GetAdditive(),
		Guardrail: g.guardrail || rules.GetGuardrail(), Meet: rules.GetMeet(),
		MaxItems: int(rules.GetMaxItems()), MaxBytes: int(rules.GetMaxBytes()), Min: rules.GetMin(), Max: rules.GetMax(),
		Enforcement: map[string]Verdict{},
		index:       len(r.fields), fd: fd, chain: chain, rules: rules,
	}
	for _, e := range rules.GetEnforcement() {
		f.Enforcement[e.GetBackend()] = Verdict{Verdict: e.GetVerdict(), Note: e.GetNote()}
	}
	f.MaxItems, f.MaxBytes, f.Max = limits(fd, rules)
	if !f.Derived {
		g.authored++
	}
	r.fields = append(r.fields, f)
	r.byPath[f.Path], r.byPath[f.JSONPath] = f, f
	return f
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

// ByPath finds a field by its path in snake_case or camelCase. Below an open object the rest of the path is the key,
// behind a map a key in brackets names one entry; otherwise key is "".
func (r *Registry) ByPath(path string) (f *Field, key string, ok bool) {
	if f = r.byPath[path]; f != nil {
		return f, "", true
	}
	if open := strings.IndexByte(path, '['); open > 0 && strings.HasSuffix(path, "]") {
		if f = r.byPath[path[:open]]; f != nil && f.Kind == KindMap && len(path) > open+2 {
			return f, path[open+1 : len(path)-1], true
		}
	}
	for dot := len(path); ; {
		if dot = strings.LastIndexByte(path[:dot], '.'); dot < 0 {
			return nil, "", false
		}
		if f = r.byPath[path[:dot]]; f != nil {
			return f, path[dot+1:], f.Open && dot+1 < len(path)
		}
	}
}

// canonicalPath returns the snake_case path of a field, a key of an open object, or a message.
func (r *Registry) canonicalPath(path string) (string, bool) {
	if g := r.groups[path]; g != nil {
		return g.path, true
	}
	f, key, ok := r.ByPath(path)
	if !ok {
		return "", false
	}
	return f.PathOf(key), true
}

// pathNames returns all paths, for suggestions.
func (r *Registry) pathNames() []string {
	var names []string
	var walk func(g *group)
	walk = func(g *group) {
		for _, m := range g.members {
			if m.group != nil {
				names = append(names, m.group.path)
				walk(m.group)
				continue
			}
			names = append(names, m.field.Path)
		}
	}
	walk(r.root)
	return names
}

// Descriptor returns the message whose fields the registry holds.
func (r *Registry) Descriptor() protoreflect.MessageDescriptor { return r.mt.Descriptor() }
