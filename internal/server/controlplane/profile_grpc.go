package controlplane

import (
	"context"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/rest"
)

// profileService is the gRPC form of profiles.
type profileService struct {
	v1beta2rpc.UnsafeProfileTemplateServiceServer
	front *Front
}

var _ v1beta2rpc.ProfileTemplateServiceServer = (*profileService)(nil)

func (s *profileService) CreateProfileTemplate(ctx context.Context, r *v1beta2pb.CreateProfileTemplateRequest) (*v1beta2pb.ProfileTemplate, error) {
	wrong := &rest.Problems{}
	m := r.GetProfileTemplate()
	e := rest.EnvelopeOf("profile_template", m, wrong)
	e.OutputOnly(m.ProtoReflect().Descriptor(), wrong)
	if m.GetEtag() != "" {
		wrong.Refuse(nil, "profile_template.etag", "belongs to updates: a new profile has no state yet")
	}
	layer, err := specLayer(m.GetSpec(), "profile_template.spec")
	wrong.Merge(err)
	if err := wrong.Fault(); err != nil {
		return nil, err
	}
	p, err := s.front.control.CreateProfile(ctx, edge.Principal(ctx), profileInput(m, layer, rest.ReasonOf(ctx)))
	if err != nil {
		return nil, err
	}
	return profileProto(p, nil)
}

func (s *profileService) GetProfileTemplate(ctx context.Context, r *v1beta2pb.GetProfileTemplateRequest) (*v1beta2pb.ProfileTemplate, error) {
	p, err := s.front.control.GetProfile(ctx, edge.Principal(ctx), r.GetId())
	if err != nil {
		return nil, err
	}
	return profileProto(p, nil)
}

func (s *profileService) ListProfileTemplates(ctx context.Context, r *v1beta2pb.ListProfileTemplatesRequest) (*v1beta2pb.ListProfileTemplatesResponse, error) {
	list, next, err := s.front.control.ListProfiles(ctx, edge.Principal(ctx), profileSelection(r), pageFrom(r))
	if err != nil {
		return nil, err
	}
	out := &v1beta2pb.ListProfileTemplatesResponse{NextPageToken: next}
	for _, p := range list {
		m, err := profileProto(p, nil)
		if err != nil {
			return nil, err
		}
		out.ProfileTemplates = append(out.ProfileTemplates, m)
	}
	return out, nil
}

func (s *profileService) UpdateProfileTemplate(ctx context.Context, r *v1beta2pb.UpdateProfileTemplateRequest) (*v1beta2pb.ProfileTemplate, error) {
	wrong := &rest.Problems{}
	m := r.GetProfileTemplate()
	e := rest.EnvelopeOf("profile_template", m, wrong)
	layer, err := specLayer(m.GetSpec(), "profile_template.spec")
	wrong.Merge(err)
	mask := MaskFrom(r.GetUpdateMask(), control.ProfilePaths(), e, m, func() []string {
		top := func(string) bool { return true }
		paths := PresentPaths(rest.Without(e.Object, "spec", "etag"), m.ProtoReflect().Descriptor(), "", top)
		return append(paths, specPaths(e.Object.Get("spec"), layer)...)
	}, wrong)
	if err := wrong.Fault(); err != nil {
		return nil, err
	}
	p, warnings, err := s.front.control.UpdateProfile(ctx, edge.Principal(ctx), r.GetId(),
		control.ProfilePatch{Mask: mask, Profile: profileInput(m, layer, rest.ReasonOf(ctx)), Etag: m.GetEtag()})
	if err != nil {
		return nil, err
	}
	return profileProto(p, warnings)
}

func (s *profileService) DeleteProfileTemplate(ctx context.Context, r *v1beta2pb.DeleteProfileTemplateRequest) (*v1beta2pb.DeleteProfileTemplateResponse, error) {
	if err := s.front.control.DeleteProfile(ctx, edge.Principal(ctx), r.GetId(), control.DeleteOptions{Etag: r.GetEtag(), Reason: rest.ReasonOf(ctx)}); err != nil {
		return nil, err
	}
	return &v1beta2pb.DeleteProfileTemplateResponse{}, nil
}
