// Package proto_test holds the schema to what published clients and scripts rely on.
package proto_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/bermhq/berm/gen/berm/v1rpc"
	_ "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
)

var update = flag.Bool("update", false, "write the golden files anew; only additions are compatible")

// TestSchemaIsAsPublished compares every name, number, type and route with a committed list, so that nobody changes one by
// accident. A line that goes or changes breaks clients; a new line does not.
func TestSchemaIsAsPublished(t *testing.T) {
	for _, c := range []struct {
		pkg  protoreflect.FullName
		file string
	}{
		{"coreweave.sandbox.v1beta2", "v1beta2.golden"},
		{"berm.v1", "berm_v1.golden"},
	} {
		t.Run(string(c.pkg), func(t *testing.T) {
			path := filepath.Join("testdata", c.file)
			got := render(c.pkg)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
				t.Errorf("%s is not as published (- published, + now); for an addition run go test ./proto -update:\n%s", c.pkg, d)
			}
		})
	}
}

// TestMessagePackagesCarryNoTransport keeps gRPC and HTTP out of whatever only handles messages.
func TestMessagePackagesCarryNoTransport(t *testing.T) {
	for _, pkg := range []string{"berm/spec", "berm/v1", "coreweave/sandbox/v1beta2"} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "github.com/bermhq/berm/gen/"+pkg).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		deps := strings.Fields(string(out))
		if !slices.Contains(deps, "google.golang.org/protobuf/proto") {
			t.Fatalf("go list %s shows no protobuf: not looking at what it should", pkg)
		}
		for _, d := range deps {
			if d == "net/http" || strings.HasPrefix(d, "google.golang.org/grpc") {
				t.Errorf("gen/%s depends on %s", pkg, d)
			}
		}
	}
}

// render lists a package in a compact form, sorted by name.
func render(pkg protoreflect.FullName) string {
	var blocks []string
	protoregistry.GlobalFiles.RangeFilesByPackage(pkg, func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			blocks = append(blocks, service(f.Services().Get(i)))
		}
		blocks = append(blocks, messages(f.Messages(), pkg)...)
		blocks = append(blocks, enums(f.Enums(), pkg)...)
		return true
	})
	slices.Sort(blocks)
	return strings.Join(blocks, "\n")
}

func service(s protoreflect.ServiceDescriptor) string {
	b := fmt.Sprintf("service %s\n", s.Name())
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		b += fmt.Sprintf("  %s(%s%s) %s%s%s\n", m.Name(), stream(m.IsStreamingClient()), typeName(m.Input(), s.ParentFile().Package()),
			stream(m.IsStreamingServer()), typeName(m.Output(), s.ParentFile().Package()), route(m))
	}
	return b
}

func stream(is bool) string {
	if is {
		return "stream "
	}
	return ""
}

func route(m protoreflect.MethodDescriptor) string {
	rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return ""
	}
	routes := " " + binding(rule)
	for _, more := range rule.GetAdditionalBindings() {
		routes += " or " + binding(more)
	}
	return routes
}

func binding(rule *annotations.HttpRule) string {
	var verb, path string
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		verb, path = "GET", p.Get
	case *annotations.HttpRule_Put:
		verb, path = "PUT", p.Put
	case *annotations.HttpRule_Post:
		verb, path = "POST", p.Post
	case *annotations.HttpRule_Patch:
		verb, path = "PATCH", p.Patch
	case *annotations.HttpRule_Delete:
		verb, path = "DELETE", p.Delete
	}
	return strings.TrimRight(fmt.Sprintf("%s %s %s", verb, path, rule.GetBody()), " ")
}

func messages(ms protoreflect.MessageDescriptors, pkg protoreflect.FullName) []string {
	var blocks []string
	for i := range ms.Len() {
		m := ms.Get(i)
		if m.IsMapEntry() {
			continue
		}
		b := fmt.Sprintf("message %s\n", typeName(m, pkg))
		for j := range m.Fields().Len() {
			b += field(m.Fields().Get(j), pkg)
		}
		for j := range m.ReservedRanges().Len() {
			r := m.ReservedRanges().Get(j) // the end is exclusive
			b += fmt.Sprintf("  reserved %d to %d\n", r[0], r[1]-1)
		}
		for j := range m.ReservedNames().Len() {
			b += fmt.Sprintf("  reserved %q\n", m.ReservedNames().Get(j))
		}
		blocks = append(blocks, b)
		blocks = append(blocks, messages(m.Messages(), pkg)...)
		blocks = append(blocks, enums(m.Enums(), pkg)...)
	}
	return blocks
}

// field is a line such as "  7 env_vars map<string,string> OPTIONAL".
func field(f protoreflect.FieldDescriptor, pkg protoreflect.FullName) string {
	words := []string{fmt.Sprint(f.Number()), string(f.Name())}
	switch {
	case f.IsMap():
		words = append(words, fmt.Sprintf("map<%s,%s>", fieldType(f.MapKey(), pkg), fieldType(f.MapValue(), pkg)))
	case f.IsList():
		words = append(words, "repeated", fieldType(f, pkg))
	case f.HasOptionalKeyword():
		words = append(words, "optional", fieldType(f, pkg))
	default:
		words = append(words, fieldType(f, pkg))
	}
	if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
		words = append(words, "oneof", string(o.Name()))
	}
	behaviors, _ := proto.GetExtension(f.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	for _, b := range behaviors {
		words = append(words, b.String())
	}
	return "  " + strings.Join(words, " ") + "\n"
}

func fieldType(f protoreflect.FieldDescriptor, pkg protoreflect.FullName) string {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return typeName(f.Message(), pkg)
	case protoreflect.EnumKind:
		return typeName(f.Enum(), pkg)
	default:
		return f.Kind().String()
	}
}

func enums(es protoreflect.EnumDescriptors, pkg protoreflect.FullName) []string {
	var blocks []string
	for i := range es.Len() {
		e := es.Get(i)
		b := fmt.Sprintf("enum %s\n", typeName(e, pkg))
		for j := range e.Values().Len() {
			v := e.Values().Get(j)
			b += fmt.Sprintf("  %d %s\n", v.Number(), v.Name())
		}
		for j := range e.ReservedRanges().Len() {
			r := e.ReservedRanges().Get(j) // the end is inclusive
			b += fmt.Sprintf("  reserved %d to %d\n", r[0], r[1])
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// typeName drops the package when it is the one rendered.
func typeName(d protoreflect.Descriptor, pkg protoreflect.FullName) string {
	return strings.TrimPrefix(string(d.FullName()), string(pkg)+".")
}
