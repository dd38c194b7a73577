package bermv1

import (
	"context"
	"fmt"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/controlplane"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/rest"
	"github.com/bermhq/berm/internal/server/wire"
	"github.com/bermhq/berm/internal/store"
)

type applyService struct {
	bermv1rpc.UnsafeApplyServiceServer
	*Front
}

var _ bermv1rpc.ApplyServiceServer = (*applyService)(nil)

func (s *applyService) Apply(ctx context.Context, r *bermv1.ApplyRequest) (*bermv1.ApplyResponse, error) {
	if n := r.GetLaunches(); n < 0 || n > control.MaxPreviewLaunches {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid apply").WithField("launches", "is %d, must be from 0 to %d", n, control.MaxPreviewLaunches)
	}
	a := control.Application{Owner: r.GetOwner(), TakeOver: r.GetTakeOver(), Prune: r.GetPrune(), Reason: rest.ReasonOf(ctx)}
	var err error
	if a.Objects, err = applyObjects(r.GetObjects()); err != nil {
		return nil, err
	}
	out := &bermv1.ApplyResponse{}
	apply := func(ctx context.Context) error {
		list, warnings, err := s.control.Apply(ctx, edge.Principal(ctx), a)
		out.Objects, out.Warnings = appliedObjects(list), warnings
		return err
	}
	if !r.GetPreview() {
		return out, apply(ctx)
	}
	p, err := s.control.Preview(ctx, edge.Principal(ctx), int(r.GetLaunches()), apply)
	if err != nil {
		return nil, err
	}
	p.Changes = nil
	out.Effect = effect(p, nil)
	return out, nil
}

// applyObjects reads the bodies as those of the REST calls that make the objects.
func applyObjects(list []*bermv1.ApplyObject) ([]control.ApplyObject, error) {
	if len(list) > control.MaxApplied {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "%d objects, the limit of one apply is %d", len(list), control.MaxApplied)
	}
	wrong := &rest.Problems{}
	out := make([]control.ApplyObject, len(list))
	for i, m := range list {
		o := control.ApplyObject{Kind: store.Kind(m.GetKind()), Name: m.GetName(), Etag: m.Etag, Delete: m.GetDelete()}
		if err := applyBody(&o, m.GetBody()); err != nil {
			wrong.Merge(below(fmt.Sprintf("objects[%d]", i), err))
		}
		out[i] = o
	}
	if err := wrong.Fault(); err != nil {
		f := fault.From(err).Clone()
		f.Message = "the objects cannot be applied"
		return nil, f
	}
	return out, nil
}

func applyBody(o *control.ApplyObject, text string) error {
	switch {
	case o.Delete && text != "":
		return fault.Invalidf(fault.ReasonFieldInvalid, "invalid apply").WithField("body", "is given, and the object is to be deleted")
	case o.Delete:
		return nil
	case text == "":
		return fault.Invalidf(fault.ReasonFieldInvalid, "invalid apply").WithField("body", "must be given, unless delete is")
	}
	n, err := tree.ParseJSON([]byte(text))
	if err != nil {
		return err
	}
	if n.Kind != tree.Object {
		return fault.Invalidf(fault.ReasonSyntax, "invalid apply").WithField("body", "is %s, expected an object", n.Kind)
	}
	under := func(key string) *tree.Node {
		return &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: key, Value: n}}}
	}
	switch o.Kind {
	case store.KindZone:
		in, err := decodeZone(under("zone"), o.Name)
		o.Zone = &in
		return err
	case store.KindProfile:
		in, err := controlplane.NewProfile(under("profileTemplate"))
		o.Profile = &in
		if err == nil && in.DisplayName != "" && in.DisplayName != o.Name {
			err = fault.Invalidf(fault.ReasonFieldInvalid, "invalid apply").WithField("profile_template.display_name", "is %.80q, and the name beside it is %.80q", in.DisplayName, o.Name)
		}
		return err
	case store.KindRunner:
		body := under("runner")
		body.Keys = append(body.Keys, tree.Key{Name: "runnerId", Value: &tree.Node{Kind: tree.String, Text: o.Name}})
		in, err := controlplane.NewRunner(body)
		o.Runner = &in
		return err
	case store.KindTests:
	}
	return nil // another kind is refused by the use case
}

// below puts a path before those of the violations of an error.
func below(at string, err error) error {
	f := fault.From(err).Clone()
	if len(f.Fields) == 0 {
		f.Fields = []fault.Field{{Description: f.Message}}
	}
	for i := range f.Fields {
		f.Fields[i].Path, f.Fields[i].Line, f.Fields[i].Column = tree.Join(at, f.Fields[i].Path), 0, 0
	}
	return f
}

func appliedObjects(list []control.Applied) []*bermv1.AppliedObject {
	out := make([]*bermv1.AppliedObject, len(list))
	for i, o := range list {
		out[i] = &bermv1.AppliedObject{
			Kind: string(o.Kind), Name: o.Name, Action: string(o.Action), Etag: o.Etag, Changes: changeMessages(o.Changes), PreviousOwner: o.PreviousOwner, Pruned: o.Pruned,
		}
	}
	return out
}

// effect is a preview as it is sent.
func effect(p *control.Preview, warnings []string) *bermv1.PreviewEditResponse {
	out := &bermv1.PreviewEditResponse{
		Changes: changeMessages(p.Changes), Warnings: warnings, Bindings: groups(p.Bindings), Launches: groups(p.Launches),
		LaunchesSeen: wire.Count(p.LaunchesSeen), Sandboxes: groups(p.Sandboxes), SandboxesSeen: wire.Count(p.SandboxesSeen), MoreSandboxes: p.More,
		TestsSeen: wire.Count(p.TestsSeen), RefusedByTests: p.Refusal() != nil,
	}
	for i := range p.Tests[:min(len(p.Tests), maxResults)] {
		out.Tests = append(out.Tests, testEffect(&p.Tests[i]))
	}
	return out
}
