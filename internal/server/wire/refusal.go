package wire

import (
	"math"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/server/startreq"
)

// MaxNearest is the largest nearest request that is sent in full, in bytes: with large mounted files the changes tell enough.
const MaxNearest = 64 << 10

// detail returns the structured explanation of a fault as a message, or nil when there is none that has a wire form.
func detail(d any) proto.Message {
	switch d := d.(type) {
	case *plan.Refusal:
		return Refusal(d)
	case proto.Message:
		return d
	}
	return nil
}

// Refusal returns why a launch is not admitted, and what would be.
func Refusal(r *plan.Refusal) *bermv1.Refusal {
	out := &bermv1.Refusal{
		Reason: r.Reason, Message: r.Message, Candidates: Candidates(r.Candidates), OmittedCandidates: Count(r.Omitted),
		NearestRequest: nearest(r.Nearest), AdmittingProfiles: r.Admitting,
	}
	for _, c := range r.Changes {
		out.Changes = append(out.Changes, change(c))
	}
	return out
}

func nearest(l *specpb.Launch) *structpb.Struct {
	if l == nil || proto.Size(l) > MaxNearest {
		return nil
	}
	text, err := protojson.Marshal(startreq.Request(l))
	s := &structpb.Struct{}
	if err != nil || protojson.Unmarshal(text, s) != nil { // a text that is not UTF-8: the changes still tell
		return nil
	}
	return s
}

func change(c launch.Change) *bermv1.Change {
	return &bermv1.Change{Path: c.Path, From: Value(c.From), To: Value(c.To)}
}

// Candidates returns what a decision considered.
func Candidates(list []plan.Candidate) []*bermv1.Candidate {
	out := make([]*bermv1.Candidate, len(list))
	for i, c := range list {
		out[i] = &bermv1.Candidate{RunnerId: c.RunnerID, ProfileName: c.ProfileName, Chosen: c.Chosen, Score: c.Score}
		for _, r := range c.Reasons {
			out[i].Reasons = append(out[i].Reasons, &bermv1.Reason{
				Code: string(r.Code), Message: r.Message, Path: r.Path, Value: r.Value, Limit: r.Limit,
				ValueOrigin: Origin(r.ValueOrigin), LimitOrigin: Origin(r.LimitOrigin),
			})
		}
	}
	return out
}

// Groups returns what became of runner groups; hold, when not nil, is the one that a launch would wait for.
func Groups(steps []plan.Step, hold *plan.Hold) []*bermv1.GroupStep {
	out := make([]*bermv1.GroupStep, len(steps))
	for i, s := range steps {
		out[i] = &bermv1.GroupStep{Group: s.Group, Outcome: string(s.Outcome), Message: s.Message, WaitedMillis: s.Waited.Milliseconds()}
		if hold != nil && hold.Group == s.Group {
			out[i].MayWaitMillis = hold.For.Milliseconds()
		}
	}
	return out
}

// Count returns a number of things as the wire has it.
func Count(n int) int32 { return int32(max(0, min(n, math.MaxInt32))) }

// Origin returns who made a statement, nil for nobody.
func Origin(o *resolve.Origin) *bermv1.Origin {
	if o == nil {
		return nil
	}
	return &bermv1.Origin{Layer: o.Layer.String(), Object: o.Object, Revision: o.Revision}
}

// Value returns a JSON text as a value, null for none.
func Value(text []byte) *structpb.Value {
	v := &structpb.Value{}
	if len(text) == 0 || protojson.Unmarshal(text, v) != nil {
		return structpb.NewNullValue()
	}
	return v
}

// Struct returns a JSON object as a message, nil for none.
func Struct(text []byte) *structpb.Struct {
	if len(text) == 0 {
		return nil
	}
	s := &structpb.Struct{}
	if protojson.Unmarshal(text, s) != nil {
		return nil
	}
	return s
}
