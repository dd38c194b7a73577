package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/server/edge"
)

type abilityService struct {
	bermv1rpc.UnsafeAbilityServiceServer
	*Front
}

var _ bermv1rpc.AbilityServiceServer = (*abilityService)(nil)

func (s *abilityService) GetRunnerAbilities(ctx context.Context, r *bermv1.GetRunnerAbilitiesRequest) (*bermv1.RunnerAbilities, error) {
	v, err := s.control.GetRunner(ctx, edge.Principal(ctx), r.GetRunnerId())
	if err != nil {
		return nil, err
	}
	out := &bermv1.RunnerAbilities{RunnerId: v.Runner.RunnerID}
	info := v.Status.Info
	if info == nil {
		return out, nil
	}
	out.Backend, out.Architecture, out.Refusal, out.Features = info.Kind, info.Architecture, info.Refusal, info.Features
	out.DefaultRuntimeClass, out.Unenforced = info.DefaultRuntimeClass, info.Unenforced
	for _, class := range info.RuntimeClasses {
		rt := info.Of(class)
		a := &bermv1.RuntimeAbilities{Name: rt.Name, Program: rt.Program, Isolation: rt.Isolation, Unenforced: rt.Unenforced}
		for _, e := range rt.Enforcement {
			a.Enforcement = append(a.Enforcement, &bermv1.Enforcement{Name: e.Name, Works: e.Works, Note: e.Note})
		}
		out.Runtimes = append(out.Runtimes, a)
	}
	return out, nil
}
