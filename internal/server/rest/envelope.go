package rest

import (
	"slices"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// Envelope is the body of a write: an object under its name and, in an update, a mask.
type Envelope struct {
	// Name is that of the object: "profile_template". Object is what stands there, never nil.
	Name   string
	Object *tree.Node
	// mask is the text of update_mask, nil when it was not given.
	mask *tree.Node
}

// Unwrap decodes the body of a write into the request message m, all but two parts: the mask, and the field of the object that
// holds a layer, whose nulls a message cannot carry. What is wrong is added to wrong.
func Unwrap(n *tree.Node, m proto.Message, name, layer string, wrong *Problems) *Envelope {
	e := &Envelope{Name: name}
	plain := &tree.Node{Kind: tree.Object, Line: n.Line, Col: n.Col}
	for _, k := range n.Keys {
		switch tree.Camel(k.Name) {
		case "updateMask":
			if e.mask != nil {
				wrong.Add(nil, "update_mask", "given twice")
			}
			e.mask = k.Value
			continue
		case tree.Camel(name):
			if e.Object == nil {
				e.Object = k.Value
			}
			k.Value = Without(k.Value, layer)
		}
		plain.Keys = append(plain.Keys, k)
	}
	if !hasField(m, "update_mask") && e.mask != nil {
		wrong.Add(e.mask, "update_mask", "belongs to updates, not to this request")
	}
	_, err := tree.Decode(plain, m)
	wrong.Merge(err)
	switch {
	case e.Object == nil || e.Object.Kind == tree.Null:
		wrong.Add(e.Object, name, "must be given; the body is {%q: {…}}", tree.Camel(name))
		e.Object = &tree.Node{Kind: tree.Object}
	case e.Object.Kind != tree.Object: // said by Decode
		e.Object = &tree.Node{Kind: tree.Object}
	}
	return e
}

// EnvelopeOf is Unwrap for a request over gRPC: its object holds the fields that are present in m.
func EnvelopeOf(name string, m proto.Message, wrong *Problems) *Envelope {
	e := &Envelope{Name: name, Object: &tree.Node{Kind: tree.Object}}
	if !m.ProtoReflect().IsValid() {
		wrong.Add(nil, name, "must be given")
		return e
	}
	n, err := tree.FromMessage(m)
	if err != nil {
		wrong.Add(nil, name, "%v", err)
		return e
	}
	e.Object = n
	return e
}

func hasField(m proto.Message, name protoreflect.Name) bool {
	return m.ProtoReflect().Descriptor().Fields().ByName(name) != nil
}

// Without returns an object lacking keys, in snake_case; anything else as it is.
func Without(n *tree.Node, names ...string) *tree.Node {
	if n == nil || n.Kind != tree.Object {
		return n
	}
	out := *n
	out.Keys = slices.DeleteFunc(slices.Clone(n.Keys), func(k tree.Key) bool { return canonical(k.Name, names) != "" })
	return &out
}

// OutputOnly refuses fields that the server makes.
func (e *Envelope) OutputOnly(md protoreflect.MessageDescriptor, wrong *Problems) {
	refuseOutput(e.Object, md, e.Name, wrong)
}

func refuseOutput(n *tree.Node, md protoreflect.MessageDescriptor, at string, wrong *Problems) {
	if n == nil || n.Kind != tree.Object {
		return
	}
	for _, k := range n.Keys {
		fd := md.Fields().ByName(protoreflect.Name(k.Name))
		if fd == nil {
			fd = md.Fields().ByJSONName(k.Name)
		}
		if fd == nil {
			continue // said by Decode
		}
		path := tree.Join(at, string(fd.Name()))
		if behaves(fd, annotations.FieldBehavior_OUTPUT_ONLY) {
			wrong.Refuse(k.Value, path, "is made by the server; leave it out")
		} else if fd.Message() != nil && !fd.IsList() && !fd.IsMap() && !tree.WellKnown(fd.Message()) {
			refuseOutput(k.Value, fd.Message(), path, wrong)
		}
	}
}

func behaves(fd protoreflect.FieldDescriptor, want annotations.FieldBehavior) bool {
	list, _ := proto.GetExtension(fd.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	return slices.Contains(list, want)
}

// MaskPaths returns the paths of an update: those of the mask, in the body or the query, or, without one, those that implied
// makes of the keys in the body. An update without a mask that sets what the server makes is refused.
func (e *Envelope) MaskPaths(query map[string]string, allowed []string, md protoreflect.MessageDescriptor, implied func() []string, wrong *Problems) []string {
	text, given := query["update_mask"]
	if e.mask != nil && e.mask.Kind != tree.Null {
		if given {
			wrong.Add(e.mask, "update_mask", "given in the body and in the query; give it once")
			return nil
		}
		if e.mask.Kind != tree.String {
			wrong.Add(e.mask, "update_mask", "expected field paths separated by commas in a string, got %s", e.mask.Kind)
			return nil
		}
		text = e.mask.Text
	}
	paths, err := spec.ParseMask(text, allowed)
	wrong.Merge(err)
	if err == nil && len(paths) == 0 {
		e.OutputOnly(md, wrong)
		return implied()
	}
	return paths
}

// Problems collects what is wrong with a body over several decoders.
type Problems struct {
	tree.Problems
	others *fault.Error
}

// Merge adds the violations of a fault. One without violations, such as a mask that is too long, stands for all.
func (p *Problems) Merge(err error) {
	if err == nil {
		return
	}
	f := fault.From(err)
	if p.others == nil {
		p.others = f.Clone()
		return
	}
	if p.others.Reason != f.Reason {
		p.others.Reason = fault.ReasonFieldInvalid
	}
	p.others.Fields = append(p.others.Fields, f.Fields...)
}

// Fault returns everything as one fault, nil when nothing is wrong.
func (p *Problems) Fault() error {
	own := p.Err("invalid request body")
	if p.others == nil {
		return own
	}
	p.Merge(own)
	return p.others
}
