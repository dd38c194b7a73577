package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/controlplane"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/rest"
)

type bindingService struct {
	bermv1rpc.UnsafeBindingServiceServer
	*Front
}

var _ bermv1rpc.BindingServiceServer = (*bindingService)(nil)

func (s *bindingService) AddBinding(ctx context.Context, r *bermv1.AddBindingRequest) (*v1beta2pb.Runner, error) {
	wrong := &rest.Problems{}
	rest.EnvelopeOf("binding", r.GetBinding(), wrong)
	b := controlplane.BindingInput(r.GetBinding(), "binding", wrong)
	if err := wrong.Fault(); err != nil {
		return nil, err
	}
	return s.runner(s.control.AddBinding(ctx, edge.Principal(ctx), r.GetId(), b, stateOf(ctx, r)))
}

func (s *bindingService) UpdateBinding(ctx context.Context, r *bermv1.UpdateBindingRequest) (*v1beta2pb.Runner, error) {
	wrong := &rest.Problems{}
	m := r.GetBinding()
	e := rest.EnvelopeOf("binding", m, wrong)
	patch := control.BindingPatch{
		Binding: controlplane.BindingInput(m, "binding", wrong),
		Mask: controlplane.MaskFrom(r.GetUpdateMask(), control.BindingPaths(), e, m, func() []string {
			return controlplane.PresentPaths(e.Object, m.ProtoReflect().Descriptor(), "", func(string) bool { return true })
		}, wrong),
	}
	if err := wrong.Fault(); err != nil {
		return nil, err
	}
	return s.runner(s.control.UpdateBinding(ctx, edge.Principal(ctx), r.GetId(), r.GetProfileName(), patch, stateOf(ctx, r)))
}

func (s *bindingService) RemoveBinding(ctx context.Context, r *bermv1.RemoveBindingRequest) (*v1beta2pb.Runner, error) {
	return s.runner(s.control.RemoveBinding(ctx, edge.Principal(ctx), r.GetId(), r.GetProfileName(), r.GetNewDefault(), stateOf(ctx, r)))
}

func (s *bindingService) SetDefaultBinding(ctx context.Context, r *bermv1.SetDefaultBindingRequest) (*v1beta2pb.Runner, error) {
	return s.runner(s.control.SetDefaultBinding(ctx, edge.Principal(ctx), r.GetId(), r.GetProfileName(), stateOf(ctx, r)))
}

func stateOf(ctx context.Context, r interface{ GetEtag() string }) control.EditState {
	return control.EditState{Etag: r.GetEtag(), Reason: rest.ReasonOf(ctx)}
}

func (s *bindingService) runner(v *control.RunnerView, warnings []string, err error) (*v1beta2pb.Runner, error) {
	if err != nil {
		return nil, err
	}
	return s.runners.RunnerMessage(v, warnings)
}
