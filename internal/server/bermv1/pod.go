package bermv1

import (
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/wire"
)

// podOf renders the pod of a plan.
func (f *Front) podOf(p core.Principal, planned *control.Planned) (*structpb.Struct, error) {
	if f.pod == nil {
		return nil, fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "this server does not render pods")
	}
	text, err := f.pod(p, planned.Plan)
	if err != nil {
		return nil, err
	}
	pod := wire.Struct(text)
	if pod == nil {
		return nil, fault.Internalf(nil, "the pod is no JSON object")
	}
	return pod, nil
}
