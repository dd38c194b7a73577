package wire

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
)

// truncatedKey is in ErrorInfo.metadata when something was left out. `berm plan` and REST answer in full.
const truncatedKey = "truncated"

// shortText is what texts are cut to when a status does not fit, in bytes.
const shortText = 240

// fit shrinks s to at most limit bytes. What matters most goes last: code, reason, the first violations, and of a refusal
// the nearest request and the first candidates.
func fit(s *spb.Status, limit int) {
	if proto.Size(s) <= limit {
		return
	}
	over := func() bool { return proto.Size(s) > limit }
	mark(s)
	edit(s, shrinkCandidates, over)
	edit(s, func(b *errdetails.BadRequest) bool {
		return cutTail(&b.FieldViolations, 3)
	}, over)
	edit(s, func(r *bermv1.Refusal) bool {
		changed := r.NearestRequest != nil || len(r.Candidates) > 0 || len(r.AdmittingProfiles) > 0
		r.OmittedCandidates += Count(len(r.Candidates))
		r.Candidates, r.NearestRequest, r.AdmittingProfiles = nil, nil, nil
		return changed
	}, over)
	edit(s, shortenInfo, over)
	edit(s, func(b *errdetails.BadRequest) bool { return cutTail(&b.FieldViolations, 0) }, over)
	if over() {
		keepInfo(s)
	}
	if over() {
		s.Message = cut(s.Message, shortText)
	}
}

// edit applies shrink to the detail of its type until the status fits or nothing is left to take.
func edit[M proto.Message](s *spb.Status, shrink func(M) bool, over func() bool) {
	for i, packed := range s.Details {
		var m M
		m, _ = m.ProtoReflect().New().Interface().(M)
		if !packed.MessageIs(m) || packed.UnmarshalTo(m) != nil {
			continue
		}
		for over() && shrink(m) {
			if again, err := anypb.New(m); err == nil {
				s.Details[i] = again
			}
		}
		return
	}
}

// shrinkCandidates takes the last candidates away, down to three, then shortens the reasons, then takes the rest.
func shrinkCandidates(r *bermv1.Refusal) bool {
	if omit(r, 3) {
		return true
	}
	changed := cutTail(&r.AdmittingProfiles, 3)
	for _, c := range r.Candidates {
		changed = cutTail(&c.Reasons, 3) || changed
		for _, reason := range c.Reasons {
			for _, text := range []*string{&reason.Message, &reason.Value, &reason.Limit} {
				short := cut(*text, shortText)
				changed, *text = changed || short != *text, short
			}
		}
	}
	return changed || omit(r, 0)
}

// omit takes candidates away as cutTail does, and counts them.
func omit(r *bermv1.Refusal, keep int) bool {
	before := len(r.Candidates)
	cutTail(&r.Candidates, keep)
	r.OmittedCandidates += Count(before - len(r.Candidates))
	return len(r.Candidates) < before
}

// cutTail removes half of what there is beyond keep: refusals of a large fleet have hundreds of candidates.
func cutTail[T any](list *[]T, keep int) bool {
	extra := len(*list) - keep
	if extra <= 0 {
		return false
	}
	*list = (*list)[:len(*list)-(extra+1)/2]
	return true
}

// shortenInfo cuts the longest metadata value, down to shortText.
func shortenInfo(info *errdetails.ErrorInfo) bool {
	longest := ""
	for k, v := range info.Metadata {
		if longest == "" || len(v) > len(info.Metadata[longest]) || len(v) == len(info.Metadata[longest]) && k < longest {
			longest = k
		}
	}
	if longest == "" {
		return false
	}
	if len(info.Metadata[longest]) > shortText+len("…") {
		info.Metadata[longest] = cut(info.Metadata[longest], shortText)
		return true
	}
	for k := range info.Metadata { // many short ones: which of them stay does not matter, the request id does
		if k != "request_id" && k != truncatedKey {
			delete(info.Metadata, k)
			return true
		}
	}
	return false
}

// mark notes in the ErrorInfo that details were left out.
func mark(s *spb.Status) {
	done := false
	edit(s, func(info *errdetails.ErrorInfo) bool {
		if done {
			return false
		}
		done = true
		info.Metadata[truncatedKey] = "true"
		return true
	}, func() bool { return true })
}

// keepInfo drops every detail but the ErrorInfo.
func keepInfo(s *spb.Status) {
	for _, d := range s.Details {
		if d.MessageIs(&errdetails.ErrorInfo{}) {
			s.Details = []*anypb.Any{d}
			return
		}
	}
	s.Details = nil
}
