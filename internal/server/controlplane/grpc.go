package controlplane

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/server/rest"
)

func pageFrom(m interface {
	GetPageSize() int32
	GetPageToken() string
},
) control.Page {
	return control.Page{Size: int(m.GetPageSize()), Token: m.GetPageToken()}
}

// MaskFrom returns the paths of an update over gRPC: those of its mask, or without one the fields that are present in object.
// An update without a mask that sets what the server makes is refused.
func MaskFrom(mask *fieldmaskpb.FieldMask, allowed []string, e *rest.Envelope, object proto.Message, implied func() []string, wrong *rest.Problems) []string {
	paths, err := spec.ParseMask(strings.Join(mask.GetPaths(), ","), allowed)
	wrong.Merge(err)
	if err != nil || len(paths) > 0 {
		return paths
	}
	e.OutputOnly(object.ProtoReflect().Descriptor(), wrong)
	return implied()
}
