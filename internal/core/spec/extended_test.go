package spec_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	_ "google.golang.org/protobuf/types/known/durationpb"  // the extended schema imports it
	_ "google.golang.org/protobuf/types/known/timestamppb" // the extended schema imports it

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/spec"
)

// extended returns the fields of the profile spec as it would be after somebody added fields of every kind to it: to the
// spec itself, to a message in it, and in a message of their own.
func extended(t *testing.T) *spec.Registry {
	t.Helper()
	file := protodesc.ToFileDescriptorProto((*specpb.ProfileSpec)(nil).ProtoReflect().Descriptor().ParentFile())
	file.Dependency = append(file.Dependency, "google/protobuf/timestamp.proto", "google/protobuf/duration.proto")
	file.EnumType = append(file.EnumType, &descriptorpb.EnumDescriptorProto{
		Name: proto.String("Color"),
		Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: proto.String("COLOR_UNSPECIFIED"), Number: proto.Int32(0)}, {Name: proto.String("COLOR_RED"), Number: proto.Int32(1)}, {Name: proto.String("COLOR_BLUE"), Number: proto.Int32(2)},
		},
	})
	solo := &descriptorpb.DescriptorProto{Name: proto.String("Solo")}
	add(solo, 1, "alone", str, optional, "a", nil)
	file.MessageType = append(file.MessageType, storage(), volume(), solo)
	for _, m := range file.MessageType {
		switch m.GetName() {
		case "ProfileSpec":
			add(m, 100, "shell", str, optional, "bash", nil)
			add(m, 101, "storage", descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, optional, "", nil).TypeName = proto.String(".berm.spec.Storage")
			// A message with one field: its null and the field's are told apart.
			add(m, 102, "solo", descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, optional, "", nil).TypeName = proto.String(".berm.spec.Solo")
		case "Namespace":
			add(m, 100, "quota_count", descriptorpb.FieldDescriptorProto_TYPE_INT64, optional, "3", nil)
		}
	}
	fd, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	r := spec.NewRegistry(fd.Messages().ByName("ProfileSpec"))
	if p := r.Problems(backends()...); len(p) > 0 {
		t.Fatalf("problems: %s", p)
	}
	if added := len(r.Fields()) - len(spec.Fields()); added != 16 {
		t.Fatalf("%d fields added", added)
	}
	return r
}

const (
	str      = descriptorpb.FieldDescriptorProto_TYPE_STRING
	optional = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
	repeated = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
)

// storage is a message with a field of every kind.
func storage() *descriptorpb.DescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: proto.String("Storage")}
	message := descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	add(m, 1, "encrypted", descriptorpb.FieldDescriptorProto_TYPE_BOOL, optional, "true", nil)
	add(m, 2, "ratio", descriptorpb.FieldDescriptorProto_TYPE_DOUBLE, optional, "0.5", nil)
	add(m, 3, "tint", descriptorpb.FieldDescriptorProto_TYPE_ENUM, optional, "COLOR_RED", nil).TypeName = proto.String(".berm.spec.Color")
	add(m, 4, "key", descriptorpb.FieldDescriptorProto_TYPE_BYTES, optional, "AAEC", nil)
	add(m, 5, "since", message, optional, `"2026-05-14T12:00:00Z"`, nil).TypeName = proto.String(".google.protobuf.Timestamp")
	add(m, 6, "every", message, optional, "1.5s", nil).TypeName = proto.String(".google.protobuf.Duration")
	add(m, 7, "sizes", descriptorpb.FieldDescriptorProto_TYPE_INT32, repeated, "[1, 2]", nil)
	add(m, 8, "root", message, optional, "{name: a}", &specpb.FieldRules{Atomic: true}).TypeName = proto.String(".berm.spec.Volume")
	add(m, 9, "volumes", message, repeated, "[{name: a, sizes: [1]}]", nil).TypeName = proto.String(".berm.spec.Volume")
	add(m, 10, "driver_options", message, optional, "{a: 1}", &specpb.FieldRules{Open: true, MaxBytes: 4096}).TypeName = proto.String(".google.protobuf.Struct")
	add(m, 11, "class", str, optional, "fast", &specpb.FieldRules{Values: []string{"fast", "slow"}})
	add(m, 12, "weights", message, repeated, "{a: 1}", &specpb.FieldRules{Additive: true}).TypeName = entryOf(m, "WeightsEntry",
		descriptorpb.FieldDescriptorProto_TYPE_UINT32, nil)
	add(m, 13, "by_name", message, repeated, "{a: {name: a}}", nil).TypeName = entryOf(m, "ByNameEntry", message,
		proto.String(".berm.spec.Volume"))
	return m
}

func volume() *descriptorpb.DescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: proto.String("Volume")}
	add(m, 1, "name", str, optional, "a", &specpb.FieldRules{Required: true})
	add(m, 2, "sizes", descriptorpb.FieldDescriptorProto_TYPE_INT64, repeated, "[1]", nil)
	return m
}

// entryOf adds the message of a map's entries to m and returns its name.
func entryOf(m *descriptorpb.DescriptorProto, name string, kind descriptorpb.FieldDescriptorProto_Type, value *string) *string {
	e := &descriptorpb.DescriptorProto{Name: proto.String(name), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)}}
	e.Field = []*descriptorpb.FieldDescriptorProto{
		{Name: proto.String("key"), Number: proto.Int32(1), Type: str.Enum(), Label: optional.Enum()},
		{Name: proto.String("value"), Number: proto.Int32(2), Type: kind.Enum(), Label: optional.Enum(), TypeName: value},
	}
	m.NestedType = append(m.NestedType, e)
	return proto.String(".berm.spec." + m.GetName() + "." + name)
}

// add adds a field with rules that make it complete: doc, example and verdicts.
func add(
	m *descriptorpb.DescriptorProto, number int32, name string, kind descriptorpb.FieldDescriptorProto_Type,
	label descriptorpb.FieldDescriptorProto_Label, example string, rules *specpb.FieldRules,
) *descriptorpb.FieldDescriptorProto {
	if rules == nil {
		rules = &specpb.FieldRules{}
	}
	rules.Doc, rules.Example = "What "+name+" means.", example
	for _, b := range backends() {
		rules.Enforcement = append(rules.Enforcement, &specpb.Enforcement{Backend: b, Verdict: specpb.Verdict_VERDICT_RECORDED})
	}
	f := &descriptorpb.FieldDescriptorProto{
		Name: proto.String(name), Number: proto.Int32(number), Type: kind.Enum(), Label: label.Enum(),
		Options: &descriptorpb.FieldOptions{},
	}
	proto.SetExtension(f.Options, specpb.E_Field, rules)
	if label == optional && kind != descriptorpb.FieldDescriptorProto_TYPE_MESSAGE && m.GetName() != "Volume" {
		f.Proto3Optional = proto.Bool(true)
		f.OneofIndex = proto.Int32(int32(len(m.OneofDecl)))
		m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("_" + name)})
	}
	m.Field = append(m.Field, f)
	return f
}
