package app

import (
	"encoding/json"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
)

// plannedID stands in the pod of a plan for the id that a launch would make.
const plannedID = "00000000-0000-0000-0000-000000000000"

// podOf renders the pod that a plan would become on a cluster.
func (a *app) podOf(p core.Principal, pl *plan.Plan) (json.RawMessage, error) {
	options := kube.Options{AllowPrivileged: true} // The owner's word is asked where the runner is: a plan has it already.
	if _, here := a.cfg.Kube.Clusters[pl.Runner.Runner.RunnerID]; here {
		options.Network, options.DeniedEgress = a.cfg.Kube.Network, a.cfg.Kube.DeniedEgress
	}
	pod, err := kube.PodFor(kube.PodInput{
		Work: backend.Work{
			SandboxID: plannedID, OrgID: p.OrgID, UserID: p.TokenID, RunnerID: pl.Runner.Runner.RunnerID, ProfileName: pl.Binding.Name,
			ZoneName: pl.Runner.Runner.Zone, Spec: pl.Resolved.Message(), Digest: pl.Digest, Launch: pl.Launch,
			LifetimeSeconds: pl.LifetimeSeconds, Privileged: pl.Runner.Runner.Managed.AllowPrivilegedProfileAnnotation,
		},
		Options: options,
	})
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		return nil, fault.Internalf(err, "show the pod")
	}
	return raw, nil
}
