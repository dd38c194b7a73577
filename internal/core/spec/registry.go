package spec

import (
	"fmt"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// Registry holds the fields of one message type. It never changes, but for what it remembers, and is safe for concurrent use.
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
	// known are values that were read lately.
	known *lru.Cache[valueID, *datum]
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
	r := &Registry{mt: messageType(md), byPath: map[string]*Field{}, groups: map[string]*group{}, known: newKnown()}
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

// Descriptor returns the message whose fields the registry holds.
func (r *Registry) Descriptor() protoreflect.MessageDescriptor { return r.mt.Descriptor() }
