// Package bermv1 is the front of what Berm adds to the published interface: sandboxes in full, explain, plan, logs, zones,
// organizations, tokens and revisions. It converts, calls internal/control and converts back.
//
// REST comes from the annotations of the services, but for zones, whose defaults know null: those are written by hand.
package bermv1

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/server/controlplane"
	"github.com/bermhq/berm/internal/server/rest"
	"github.com/bermhq/berm/internal/server/startreq"
)

// Prefix is where the REST form lives.
const Prefix = "/berm/v1/"

// PodFunc renders the Kubernetes pod of a plan as JSON.
type PodFunc func(p core.Principal, pl *plan.Plan) (json.RawMessage, error)

// Front serves berm.v1. It is safe for concurrent use.
type Front struct {
	control *control.Service
	runners *controlplane.Front
	pod     PodFunc
	onDrain func(func()) func() bool
	table   *startreq.Table
	// byHand and gateway serve edits over REST, see ServeEdits.
	byHand, gateway http.Handler
}

// New returns the front of a control service. runners is the front that runners have there: they look the same here. pod renders the pods of plans; nil refuses to. onDrain calls a function when the
// server has no more time for streams; the result takes it back.
func New(c *control.Service, runners *controlplane.Front, pod PodFunc, onDrain func(func()) (stop func() bool)) *Front {
	return &Front{control: c, runners: runners, pod: pod, onDrain: onDrain, table: startreq.NewTable()}
}

// Register registers the gRPC form with the function given.
func (f *Front) Register(register func(*grpc.ServiceDesc, any)) {
	register(&bermv1rpc.ExplainService_ServiceDesc, &explainService{Front: f})
	register(&bermv1rpc.AbilityService_ServiceDesc, &abilityService{Front: f})
	register(&bermv1rpc.AuditService_ServiceDesc, &auditService{Front: f})
	register(&bermv1rpc.BindingService_ServiceDesc, &bindingService{Front: f})
	register(&bermv1rpc.CheckpointService_ServiceDesc, &checkpointService{Front: f})
	register(&bermv1rpc.ExecService_ServiceDesc, &execService{Front: f})
	register(&bermv1rpc.FileService_ServiceDesc, &fileService{Front: f})
	register(&bermv1rpc.LeaseService_ServiceDesc, &leaseService{Front: f})
	register(&bermv1rpc.LintService_ServiceDesc, &lintService{Front: f})
	register(&bermv1rpc.LogService_ServiceDesc, &logService{Front: f})
	register(&bermv1rpc.PortService_ServiceDesc, &portService{Front: f})
	register(&bermv1rpc.OrgService_ServiceDesc, &orgService{Front: f})
	register(&bermv1rpc.TokenService_ServiceDesc, &tokenService{Front: f})
	register(&bermv1rpc.PolicyTestService_ServiceDesc, &policyTestService{Front: f})
	register(&bermv1rpc.PreviewService_ServiceDesc, &previewService{Front: f})
	register(&bermv1rpc.RevisionService_ServiceDesc, &revisionService{Front: f})
	register(&bermv1rpc.RebaseService_ServiceDesc, &rebaseService{Front: f})
	register(&bermv1rpc.ApplyService_ServiceDesc, &applyService{Front: f})
	register(&bermv1rpc.ZoneService_ServiceDesc, &zoneService{Front: f})
	register(&bermv1rpc.ImageService_ServiceDesc, &imageService{Front: f})
	register(&bermv1rpc.EnrolmentService_ServiceDesc, &enrolmentService{Front: f})
	register(&bermv1rpc.MaintenanceService_ServiceDesc, &maintenanceService{Front: f})
	register(&bermv1rpc.SecretService_ServiceDesc, &secretService{Front: f})
	register(&bermv1rpc.WatchService_ServiceDesc, &watchService{Front: f})
}

// Route adds the part of the REST form that is written by hand.
func (f *Front) Route(rt *rest.Router) {
	const zones = Prefix + "zones"
	rt.Handle(http.MethodGet, zones, f.listZones)
	rt.Handle(http.MethodGet, zones+"/{name}", f.getZone)
	rt.Handle(http.MethodPut, zones+"/{name}", f.putZone)
	rt.Handle(http.MethodDelete, zones+"/{name}", f.deleteZone)
}

// Gateway returns the rest of the REST form.
func (f *Front) Gateway(ctx context.Context) (http.Handler, error) {
	mux, err := rest.NewGateway("berm.v1.ExplainService", "berm.v1.ExecService", "berm.v1.ImageService", "berm.v1.EnrolmentService", "berm.v1.MaintenanceService", "berm.v1.AbilityService", "berm.v1.ApplyService", "berm.v1.AuditService", "berm.v1.BindingService", "berm.v1.CheckpointService", "berm.v1.PortService", "berm.v1.OrgService", "berm.v1.TokenService", "berm.v1.RevisionService", "berm.v1.RebaseService", "berm.v1.PreviewService", "berm.v1.PolicyTestService", "berm.v1.LintService", "berm.v1.SecretService", "berm.v1.LeaseService")
	if err != nil {
		return nil, err
	}
	for _, register := range []func(context.Context, *runtime.ServeMux) error{
		serving(bermv1rpc.RegisterExplainServiceHandlerServer)(&explainService{Front: f}),
		serving(bermv1rpc.RegisterExecServiceHandlerServer)(&execService{Front: f}),
		serving(bermv1rpc.RegisterAbilityServiceHandlerServer)(&abilityService{Front: f}),
		serving(bermv1rpc.RegisterAuditServiceHandlerServer)(&auditService{Front: f}),
		serving(bermv1rpc.RegisterBindingServiceHandlerServer)(&bindingService{Front: f}),
		serving(bermv1rpc.RegisterCheckpointServiceHandlerServer)(&checkpointService{Front: f}),
		serving(bermv1rpc.RegisterPortServiceHandlerServer)(&portService{Front: f}),
		serving(bermv1rpc.RegisterOrgServiceHandlerServer)(&orgService{Front: f}),
		serving(bermv1rpc.RegisterTokenServiceHandlerServer)(&tokenService{Front: f}),
		serving(bermv1rpc.RegisterRevisionServiceHandlerServer)(&revisionService{Front: f}),
		serving(bermv1rpc.RegisterRebaseServiceHandlerServer)(&rebaseService{Front: f}),
		serving(bermv1rpc.RegisterPolicyTestServiceHandlerServer)(&policyTestService{Front: f}),
		serving(bermv1rpc.RegisterPreviewServiceHandlerServer)(&previewService{Front: f}),
		serving(bermv1rpc.RegisterLeaseServiceHandlerServer)(&leaseService{Front: f}),
		serving(bermv1rpc.RegisterLintServiceHandlerServer)(&lintService{Front: f}),
		serving(bermv1rpc.RegisterApplyServiceHandlerServer)(&applyService{Front: f}),
		serving(bermv1rpc.RegisterImageServiceHandlerServer)(&imageService{Front: f}),
		serving(bermv1rpc.RegisterEnrolmentServiceHandlerServer)(&enrolmentService{Front: f}),
		serving(bermv1rpc.RegisterMaintenanceServiceHandlerServer)(&maintenanceService{Front: f}),
		serving(bermv1rpc.RegisterSecretServiceHandlerServer)(&secretService{Front: f}),
	} {
		if err := register(ctx, mux); err != nil {
			return nil, err
		}
	}
	return mux, nil
}

// serving makes the registration of a service wait for its mux.
func serving[S any](register func(context.Context, *runtime.ServeMux, S) error) func(S) func(context.Context, *runtime.ServeMux) error {
	return func(impl S) func(context.Context, *runtime.ServeMux) error {
		return func(ctx context.Context, mux *runtime.ServeMux) error { return register(ctx, mux, impl) }
	}
}
