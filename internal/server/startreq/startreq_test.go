package startreq

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core/fault"
)

// fill sets a field, and everything below it, to something.
func fill(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	one := func(fd protoreflect.FieldDescriptor, fresh func() protoreflect.Value) protoreflect.Value {
		switch fd.Kind() {
		case protoreflect.StringKind:
			return protoreflect.ValueOfString("x")
		case protoreflect.BytesKind:
			return protoreflect.ValueOfBytes([]byte("x"))
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(true)
		case protoreflect.Int32Kind:
			return protoreflect.ValueOfInt32(7)
		case protoreflect.Int64Kind:
			return protoreflect.ValueOfInt64(7)
		case protoreflect.EnumKind:
			return protoreflect.ValueOfEnum(1)
		default:
			v := fresh()
			for i := range fd.Message().Fields().Len() {
				fill(v.Message(), fd.Message().Fields().Get(i))
			}
			return v
		}
	}
	switch {
	case fd.IsList():
		list := m.Mutable(fd).List()
		list.Append(one(fd, list.NewElement))
	case fd.IsMap():
		entries := m.Mutable(fd).Map()
		entries.Set(protoreflect.ValueOfString("k").MapKey(), one(fd.MapValue(), entries.NewValue))
	default:
		m.Set(fd, one(fd, func() protoreflect.Value { return m.NewField(fd) }))
	}
}

// TestEveryFieldHasARow proves that no field of the request is dropped: each has one row, and each changes the launch, but
// for those about the call itself.
func TestEveryFieldHasARow(t *testing.T) {
	table := NewTable()
	fields := (&v1beta2pb.StartSandboxRequest{}).ProtoReflect().Descriptor().Fields()
	rowOf := map[protoreflect.Name]row{}
	for _, r := range table.rows {
		if _, dup := rowOf[r.field]; dup {
			t.Errorf("%s has two rows", r.field)
		}
		rowOf[r.field] = r
		if fields.ByName(r.field) == nil {
			t.Errorf("the row %s is of no field", r.field)
		}
		if r.to < layer || r.to > unsupported || (r.set == nil) != (r.to == call || r.to == unsupported) {
			t.Errorf("the row %s says neither where the field goes nor that it goes nowhere", r.field)
		}
	}
	for i := range fields.Len() {
		fd := fields.Get(i)
		r, ok := rowOf[fd.Name()]
		if !ok {
			t.Errorf("%s has no row: it would be silently ignored", fd.Name())
			continue
		}
		req := &v1beta2pb.StartSandboxRequest{}
		fill(req.ProtoReflect(), fd)
		// The pair goes together.
		if req.ResourceLimits != nil {
			req.ResourceRequests = &v1beta2pb.ResourceRequest{}
		} else if req.ResourceRequests != nil {
			req.ResourceLimits = &v1beta2pb.ResourceRequest{}
		}
		l, err := table.Launch(req)
		if err != nil {
			t.Errorf("%s: %v", fd.Name(), err)
			continue
		}
		switch named := slices.Contains(l.GetUnsupported(), string(fd.Name())); {
		case r.to == unsupported && !named:
			t.Errorf("%s is not named as unsupported", fd.Name())
		case r.to != unsupported && named:
			t.Errorf("%s is named as unsupported", fd.Name())
		case r.to == call && !proto.Equal(l, &specpb.Launch{}):
			t.Errorf("%s is about the call and changed the launch: %v", fd.Name(), l)
		case r.to != call && proto.Equal(l, &specpb.Launch{}):
			t.Errorf("%s does not reach the launch", fd.Name())
		}
	}
}

// TestThereAndBack: a request made of a launch asks for that launch, whatever it holds.
func TestThereAndBack(t *testing.T) {
	l := &specpb.Launch{}
	fields := l.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); fd.Name() != "unsupported" && fd.Name() != "fork_of" { // Neither comes with a launch.
			fill(l.ProtoReflect(), fd)
		}
	}
	// A GPU is asked for by type or by memory.
	l.ResourceLimits.Gpu.MemoryGb, l.ResourceRequests.Gpu.Type = 0, ""
	back, err := NewTable().Launch(Request(l))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(l, back, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	empty, err := NewTable().Launch(Request(&specpb.Launch{}))
	if err != nil || !proto.Equal(empty, &specpb.Launch{}) {
		t.Errorf("an empty launch came back as %v, %v", empty, err)
	}
}

func TestAmounts(t *testing.T) {
	one, two := &v1beta2pb.ResourceRequest{Cpu: "1"}, &v1beta2pb.ResourceRequest{Cpu: "2"}
	for name, c := range map[string]struct {
		in              *v1beta2pb.StartSandboxRequest
		requests, limit string
		refused         string
	}{
		"resources set both":         {in: &v1beta2pb.StartSandboxRequest{Resources: one}, requests: "1", limit: "1"},
		"the pair sets each":         {in: &v1beta2pb.StartSandboxRequest{ResourceRequests: one, ResourceLimits: two}, requests: "1", limit: "2"},
		"the pair is looked at only": {in: &v1beta2pb.StartSandboxRequest{Resources: &v1beta2pb.ResourceRequest{Cpu: "9"}, ResourceRequests: one, ResourceLimits: two}, requests: "1", limit: "2"},
		"limits alone":               {in: &v1beta2pb.StartSandboxRequest{ResourceLimits: one}, refused: "resource_requests"},
		"requests alone":             {in: &v1beta2pb.StartSandboxRequest{ResourceRequests: one, Resources: two}, refused: "resource_limits"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := NewTable().Launch(c.in)
			if c.refused != "" {
				if !fault.HasReason(err, fault.ReasonInvalidRequest) || fault.From(err).Fields[0].Path != c.refused {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || l.GetResourceRequests().GetCpu() != c.requests || l.GetResourceLimits().GetCpu() != c.limit {
				t.Errorf("got %v, %v", l, err)
			}
		})
	}
}
