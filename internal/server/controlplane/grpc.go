package controlplane

import (
	"context"
	"net/url"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/rest"
)

// reasonOf returns the reason for a change in the metadata of a call, "" for none.
func reasonOf(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, strings.ToLower(rest.ReasonHeader))
	if len(values) == 0 {
		return ""
	}
	if text, err := url.QueryUnescape(values[0]); err == nil {
		return text
	}
	return values[0]
}

func pageFrom(m interface {
	GetPageSize() int32
	GetPageToken() string
},
) control.Page {
	return control.Page{Size: int(m.GetPageSize()), Token: m.GetPageToken()}
}

// maskFrom returns the paths of an update over gRPC: those of its mask, or without one the fields that are present in object.
// An update without a mask that sets what the server makes is refused.
func maskFrom(mask *fieldmaskpb.FieldMask, allowed []string, e *rest.Envelope, object proto.Message, implied func() []string, wrong *rest.Problems) []string {
	paths, err := spec.ParseMask(strings.Join(mask.GetPaths(), ","), allowed)
	wrong.Merge(err)
	if err != nil || len(paths) > 0 {
		return paths
	}
	e.OutputOnly(object.ProtoReflect().Descriptor(), wrong)
	return implied()
}

// wrapped returns a message as the object of an envelope: the fields that are present in it.
func wrapped(name string, m proto.Message, wrong *rest.Problems) *rest.Envelope {
	e := &rest.Envelope{Name: name, Object: &tree.Node{Kind: tree.Object}}
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
