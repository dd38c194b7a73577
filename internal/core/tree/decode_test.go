package tree_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/durationpb"  // the test's schema imports it
	_ "google.golang.org/protobuf/types/known/fieldmaskpb" // the test's schema imports it
	_ "google.golang.org/protobuf/types/known/structpb"    // the test's schema imports it
	_ "google.golang.org/protobuf/types/known/timestamppb" // the test's schema imports it
	_ "google.golang.org/protobuf/types/known/wrapperspb"  // the test's schema imports it

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// everything returns a message type with fields of all kinds.
func everything(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("test/everything.proto"), Package: proto.String("test"), Syntax: proto.String("proto3"),
		Dependency: []string{
			"google/protobuf/timestamp.proto", "google/protobuf/duration.proto", "google/protobuf/field_mask.proto",
			"google/protobuf/struct.proto", "google/protobuf/wrappers.proto",
		},
		EnumType: []*descriptorpb.EnumDescriptorProto{{Name: proto.String("RunnerState"), Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: proto.String("RUNNER_STATE_UNSPECIFIED"), Number: proto.Int32(0)}, {Name: proto.String("RUNNER_STATE_READY"), Number: proto.Int32(1)},
		}}},
	}
	m := &descriptorpb.DescriptorProto{Name: proto.String("Everything"), OneofDecl: []*descriptorpb.OneofDescriptorProto{{Name: proto.String("either")}}}
	number := int32(0)
	field := func(name string, kind descriptorpb.FieldDescriptorProto_Type, list bool, typeName string) *descriptorpb.FieldDescriptorProto {
		number++
		f := &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(number), Type: kind.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if list {
			f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		if typeName != "" {
			f.TypeName = proto.String(typeName)
		}
		m.Field = append(m.Field, f)
		return f
	}
	message, enum, str := descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, descriptorpb.FieldDescriptorProto_TYPE_ENUM, descriptorpb.FieldDescriptorProto_TYPE_STRING
	for kind := range descriptorpb.FieldDescriptorProto_Type_name {
		k := descriptorpb.FieldDescriptorProto_Type(kind)
		if k == descriptorpb.FieldDescriptorProto_TYPE_GROUP || k == message || k == enum {
			continue
		}
		number = 100 + kind // one number for one kind, whatever the order of the map
		name := strings.ToLower(strings.TrimPrefix(k.String(), "TYPE_"))
		field("a_"+name, k, false, "")
	}
	number = 200
	field("an_enum", enum, false, ".test.RunnerState")
	field("some_enums", enum, true, ".test.RunnerState")
	field("some_strings", str, true, "")
	field("child", message, false, ".test.Everything")
	field("children", message, true, ".test.Everything")
	for _, wk := range []string{"Timestamp", "Duration", "FieldMask", "Struct", "Value", "ListValue", "BoolValue", "StringValue", "Int64Value", "DoubleValue", "BytesValue"} {
		field("wk_"+strings.ToLower(wk), message, false, ".google.protobuf."+wk)
	}
	field("either_a", str, false, "").OneofIndex = proto.Int32(0)
	field("either_b", str, false, "").OneofIndex = proto.Int32(0)
	for i, key := range []descriptorpb.FieldDescriptorProto_Type{str, descriptorpb.FieldDescriptorProto_TYPE_INT32, descriptorpb.FieldDescriptorProto_TYPE_BOOL} {
		name := fmt.Sprintf("Map%dEntry", i)
		m.NestedType = append(m.NestedType, &descriptorpb.DescriptorProto{
			Name: proto.String(name), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
			Field: []*descriptorpb.FieldDescriptorProto{
				{Name: proto.String("key"), Number: proto.Int32(1), Type: key.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()},
				{Name: proto.String("value"), Number: proto.Int32(2), Type: str.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()},
			},
		})
		field(fmt.Sprintf("map%d", i), message, true, ".test.Everything."+name)
	}
	file.MessageType = []*descriptorpb.DescriptorProto{m}
	fd, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Messages().ByName("Everything")
}

func decode(t *testing.T, text string, m proto.Message) (*tree.Presence, error) {
	t.Helper()
	n, err := tree.ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return tree.Decode(n, m)
}

// TestDecodeAll: what is decoded is encoded as the canonical text again, for every kind of field.
func TestDecodeAll(t *testing.T) {
	md := everything(t)
	for text, want := range map[string]string{
		`{"a_double":1.5,"aFloat":0.5,"a_int64":"-9223372036854775808","aUint64":18446744073709551615}`: `{"aDouble":1.5,"aFloat":0.5,"aInt64":-9223372036854775808,"aUint64":18446744073709551615}`,
		`{"a_int32":1e3,"a_fixed32":4294967295,"a_sint64":2.0}`:                                         `{"aFixed32":4294967295,"aInt32":1000,"aSint64":2}`,
		`{"a_bool":true,"a_string":"x","a_bytes":"_-8"}`:                                                `{"aBool":true,"aBytes":"/+8=","aString":"x"}`,
		`{"an_enum":"READY","some_enums":["RUNNER_STATE_READY",1,"UNSPECIFIED"]}`: `{"anEnum":"RUNNER_STATE_READY","someEnums":` +
			`["RUNNER_STATE_READY","RUNNER_STATE_READY","RUNNER_STATE_UNSPECIFIED"]}`,
		`{"child":{"child":{"some_strings":["a",""]}},"children":[{},{"a_bool":true}]}`: `{"child":{"child":{"someStrings":["a",""]}},"children":[{},{"aBool":true}]}`,
		`{"wk_timestamp":"2026-05-14T12:00:00.5Z","wk_duration":"1.5s","wk_fieldmask":"a_b.c,dE"}`: `{"wkDuration":"1.500s","wkFieldmask":"aB.c,dE",` +
			`"wkTimestamp":"2026-05-14T12:00:00.500Z"}`,
		`{"wk_struct":{"a":[1,null,{"b":"c"}]},"wk_value":null,"wk_listvalue":[1]}`: `{"wkListvalue":[1],"wkStruct":{"a":[1,null,{"b":"c"}]},"wkValue":null}`,
		`{"wk_boolvalue":false,"wk_stringvalue":"","wk_int64value":"7","wk_doublevalue":1,"wk_bytesvalue":"AAEC"}`: `{"wkBoolvalue":false,"wkBytesvalue":"AAEC",` +
			`"wkDoublevalue":1,"wkInt64value":"7","wkStringvalue":""}`,
		`{"either_b":"x","either_a":null}`:                                  `{"eitherB":"x"}`,
		`{"map0":{"a b":"c","":"d"},"map1":{"-1":"a"},"map2":{"true":"a"}}`: `{"map0":{"":"d","a b":"c"},"map1":{"-1":"a"},"map2":{"true":"a"}}`,
	} {
		m := dynamicpb.NewMessage(md)
		if _, err := decode(t, text, m); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		n, err := tree.FromMessage(m)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, string(n.JSON())); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
		again := dynamicpb.NewMessage(md)
		if _, err := tree.Decode(n, again); err != nil || !proto.Equal(m, again) {
			t.Errorf("%s came back as %s, %v", n.JSON(), again, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	md := everything(t)
	for text, want := range map[string]string{
		`[]`:                       "FIELD_INVALID :: expected an object, got a list",
		`{"a_bol":true}`:           `FIELD_UNKNOWN a_bol: unknown field "a_bol"; did you mean "a_bool"?`,
		`{"child":{"aStrng":"x"}}`: `FIELD_UNKNOWN child.aStrng: unknown field "aStrng"; did you mean "aString"?`,
		`{"children":[{},{"a_bool":1,"a_string":true}]}`: "FIELD_INVALID children[1].a_bool: expected true or false, got a number (1)|" +
			"children[1].a_string: expected a string, got a boolean (true); write it in quotes",
		`{"a_bool":true,"aBool":false}`:        `FIELD_INVALID a_bool: given twice, as "a_bool" and as "aBool"`,
		`{"a_int32":2147483648}`:               "FIELD_INVALID a_int32: 2147483648 is out of the range of a 32-bit integer",
		`{"a_int32":1.5}`:                      "FIELD_INVALID a_int32: expected a 32-bit integer, got a number (1.5)",
		`{"a_int64":"x"}`:                      `FIELD_INVALID a_int64: expected a 64-bit integer, got a string ("x")`,
		`{"a_uint32":-1}`:                      "FIELD_INVALID a_uint32: expected a 32-bit integer that is not negative, got a number (-1)",
		`{"a_float":1e300}`:                    "FIELD_INVALID a_float: 1e300 is out of range",
		`{"a_double":"NaN"}`:                   `FIELD_INVALID a_double: expected a number, got a string ("NaN")`,
		`{"a_bytes":"*"}`:                      "FIELD_INVALID a_bytes: not base64: illegal base64 data at input byte 0",
		`{"an_enum":"REDY"}`:                   `FIELD_INVALID an_enum: "REDY" is none of UNSPECIFIED, READY; did you mean "READY"?`,
		`{"an_enum":7}`:                        "FIELD_INVALID an_enum: 7 is no value of RunnerState",
		`{"an_enum":true}`:                     "FIELD_INVALID an_enum: expected one of UNSPECIFIED, READY, got a boolean (true)",
		`{"some_strings":"a"}`:                 "FIELD_INVALID some_strings: expected a list, got a string",
		`{"some_strings":[null]}`:              "FIELD_INVALID some_strings[0]: null is not allowed in a list; leave it out",
		`{"map0":{"a":null},"map1":[]}`:        "FIELD_INVALID map0[a]: null is not allowed in a map: a map is one value, write out all of it|map1: expected an object, got a list",
		`{"map1":{"x":"a"}}`:                   "FIELD_INVALID map1[x]: expected a 32-bit integer, got a number (x)",
		`{"either_a":"x","either_b":"y"}`:      "FIELD_INVALID either_b: give either this or either_a, not both",
		`{"wk_timestamp":"yesterday"}`:         `FIELD_INVALID wk_timestamp: expected a time such as "2026-05-14T12:00:00Z", got a string ("yesterday")`,
		`{"wk_duration":5}`:                    `FIELD_INVALID wk_duration: expected a duration in seconds such as "1.5s", got a number (5)`,
		`{"wk_struct":[]}`:                     "FIELD_INVALID wk_struct: expected an object, got a list",
		`{"wk_struct":{"a":9007199254740993}}`: "FIELD_INVALID wk_struct: 9007199254740993 cannot be kept exactly: integers in open JSON go up to 2^53",
		`{"wk_value":[-9007199254740993]}`:     "FIELD_INVALID wk_value: -9007199254740993 cannot be kept exactly: integers in open JSON go up to 2^53",
		`{"a_bol":1,"a_bool":1}`: `FIELD_INVALID a_bol: unknown field "a_bol"; did you mean "a_bool"?|` +
			"a_bool: expected true or false, got a number (1)",
	} {
		_, err := decode(t, text, dynamicpb.NewMessage(md))
		e := fault.From(err)
		var parts []string
		for _, f := range e.Fields {
			path := f.Path
			if path == "" {
				path = ":"
			}
			parts = append(parts, path+": "+f.Description)
			if f.Line != 1 || f.Column < 1 {
				t.Errorf("%s: position %d:%d", text, f.Line, f.Column)
			}
		}
		if got := e.Reason + " " + strings.Join(parts, "|"); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestPresence(t *testing.T) {
	m := &specpb.Launch{}
	p, err := decode(t, `{"containerImage":"","resource_limits":{"cpu":null},"tags":[],"egress_mode":null,"mountedFiles":[{"path":"/a"}]}`, m)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"container_image", "resource_limits", "resource_limits.cpu", "tags", "egress_mode", "mounted_files"}
	if diff := cmp.Diff(want, p.Paths()); diff != "" {
		t.Error(diff)
	}
	if !p.Null("egress_mode") || !p.Null("resource_limits.cpu") || p.Null("tags") || !p.Has("tags") || p.Has("args") {
		t.Errorf("presence %v", p)
	}
	wantMessage := &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{}, MountedFiles: []*specpb.MountedFile{{Path: "/a"}}}
	if diff := cmp.Diff(wantMessage, m, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// FuzzDecode: no document panics, and what is accepted survives the way to text and back.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"container_image":"a","mounted_files":[{"content":"AAEC"}],"ports":[{"containerPort":1}],"environment_variables":{"a":"b"}}`))
	f.Add([]byte(`{"resource_limits":{"gpu":{"count":"3"}},"max_lifetime_seconds":1e3,"tags":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := tree.ParseJSON(text)
		if err != nil {
			return
		}
		m := &specpb.Launch{}
		if _, err := tree.Decode(n, m); err != nil {
			return
		}
		back, err := tree.FromMessage(m)
		if err != nil {
			t.Fatal(err)
		}
		again := &specpb.Launch{}
		if _, err := tree.Decode(back, again); err != nil || !proto.Equal(m, again) {
			t.Fatalf("%s came back as %s, %v", m, again, err)
		}
	})
}
