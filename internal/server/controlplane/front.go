// Package controlplane is the front of configuration: profiles and managed runners of coreweave.sandbox.v1beta2, over REST and
// gRPC. It converts, calls internal/control and converts back.
//
// Its REST is written by hand because its JSON says more than a message can: in a spec, null clears, absent inherits and
// empty is a value. Over gRPC an empty list or map in a spec is an unset one.
package controlplane

import (
	"net/http"

	"google.golang.org/grpc"

	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/rest"
)

// Prefix is where the REST form lives.
const Prefix = "/v1beta2/sandbox/"

// Front serves profiles and runners. It is safe for concurrent use.
type Front struct {
	control *control.Service
	version string
}

// New returns the front of a control service. version is that of the software, which runners of this server share.
func New(c *control.Service, version string) *Front { return &Front{control: c, version: version} }

// Register registers the gRPC form with the function given.
func (f *Front) Register(register func(*grpc.ServiceDesc, any)) {
	register(&v1beta2rpc.ProfileTemplateService_ServiceDesc, &profileService{front: f})
	register(&v1beta2rpc.ManagedRunnerService_ServiceDesc, &runnerService{front: f})
}

// Route adds the REST form.
func (f *Front) Route(rt *rest.Router) {
	const profiles, runners = Prefix + "profile-templates", Prefix + "managed-runners"
	rt.Handle(http.MethodPost, profiles, f.createProfile)
	rt.Handle(http.MethodGet, profiles, f.listProfiles)
	rt.Handle(http.MethodGet, profiles+"/{id}", f.getProfile)
	rt.Handle(http.MethodPatch, profiles+"/{id}", f.updateProfile)
	rt.Handle(http.MethodDelete, profiles+"/{id}", f.deleteProfile)
	rt.Handle(http.MethodPost, runners, f.createRunner)
	rt.Handle(http.MethodGet, runners, f.listRunners)
	rt.Handle(http.MethodGet, runners+"/{id}", f.getRunner)
	rt.Handle(http.MethodPatch, runners+"/{id}", f.updateRunner)
	rt.Handle(http.MethodDelete, runners+"/{id}", f.deleteRunner)
	rt.Handle(http.MethodPost, runners+"/{id}:apply-update", f.applyUpdate)
}
