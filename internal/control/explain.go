package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Explanation says where every field of a sandbox came from, why it runs where it runs, and what happened to it. It is made
// from what was stored with the sandbox, whatever became of the objects since.
type Explanation struct {
	SandboxID, RunnerID, ProfileName, ProfileID string
	ProfileRevision                             int32
	Digest                                      string
	Observation                                 core.Observation
	Isolation                                   string
	// Spec is the resolved spec as canonical JSON.
	Spec json.RawMessage
	// Fields is ordered by path.
	Fields     []ExplainedField
	Candidates []plan.Candidate
	Omitted    int
	Timeline   []core.Event
}

// ExplainedField is one leaf of the resolved spec with its one origin.
type ExplainedField struct {
	Path string
	// Value is JSON, null when the origin cleared the field.
	Value         json.RawMessage
	Layer, Object string
	Revision      int32
	By            string
	At            time.Time
	Reason        string
	// Shadowed is what lower layers said, newest first.
	Shadowed []ShadowedValue
	// Enforcement is "enforced", "recorded" or "refused", by the backend that runs it; Note says on what that depends.
	Enforcement, Note string
}

// ShadowedValue is what a higher layer overrode.
type ShadowedValue struct {
	Value         json.RawMessage
	Layer, Object string
	Revision      int32
}

// Explain explains a sandbox, running or ended. fieldPath, when not empty, keeps that field and those below it.
func (s *Service) Explain(ctx context.Context, p core.Principal, id, fieldPath string) (*Explanation, error) {
	if err := s.allow(p, "Explain"); err != nil {
		return nil, err
	}
	row, err := s.row(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	record, err := plan.ParseRecord(row.Decision)
	if err != nil {
		return nil, err
	}
	e := &Explanation{
		SandboxID: row.ID, RunnerID: row.RunnerID, ProfileName: row.ProfileName, ProfileID: row.ProfileID, ProfileRevision: row.ProfileRevision,
		Digest: row.Digest, Observation: s.overlay(row).Observation, Isolation: backendAttr(row, attrIsolation), Spec: record.Spec,
		Candidates: record.Candidates, Omitted: record.Omitted, Timeline: row.Timeline,
	}
	e.Fields, err = selectFields(explained(record.Resolved(), backendAttr(row, attrBackend)), fieldPath)
	return e, err
}

// Planned is what a launch would do. Exactly one of Plan and Refusal is set.
type Planned struct {
	Plan *plan.Plan
	// Explanation explains the plan as Explain explains a sandbox: there is no id and no timeline.
	Explanation *Explanation
	Refusal     *plan.Refusal
	// Fault is the error that a launch would have returned with the refusal.
	Fault error
}

// Plan says what a launch would do now, without doing it. A refusal is an answer; an error is a request that could never be
// launched, or names what does not exist.
func (s *Service) Plan(ctx context.Context, p core.Principal, l *specpb.Launch) (*Planned, error) {
	if err := s.allow(p, "Plan"); err != nil {
		return nil, err
	}
	pl, err := s.plan(ctx, p, l, false, true)
	if err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			if refusal, ok := f.Detail.(*plan.Refusal); ok {
				return &Planned{Refusal: refusal, Fault: err}, nil
			}
		}
		return nil, err
	}
	attrs := s.backendAttrs(pl.Runner.Runner.ID)
	return &Planned{Plan: pl, Explanation: &Explanation{
		RunnerID: pl.Runner.Runner.RunnerID, ProfileName: pl.Binding.Name, ProfileID: pl.Binding.Profile.ID, ProfileRevision: pl.Binding.Profile.Revision,
		Digest: pl.Digest, Observation: core.ObservationCurrent, Isolation: attrs[attrIsolation], Spec: pl.Resolved.JSON(),
		Fields: explained(pl.Resolved.Fields(), attrs[attrBackend]), Candidates: pl.Candidates, Omitted: pl.Omitted,
	}}, nil
}

// explained renders resolved values, ordered by path.
func explained(values []resolve.Value, kind string) []ExplainedField {
	out := make([]ExplainedField, len(values))
	for i, v := range values {
		f := ExplainedField{
			Path: v.Path(), Value: v.JSON(), Layer: v.Origin.Layer.String(), Object: v.Origin.Object, Revision: v.Origin.Revision,
			By: v.Origin.By, At: v.Origin.At, Reason: v.Origin.Reason, Shadowed: make([]ShadowedValue, len(v.Shadowed)),
		}
		for j, sh := range v.Shadowed {
			f.Shadowed[j] = ShadowedValue{Value: sh.JSON(), Layer: sh.Origin.Layer.String(), Object: sh.Origin.Object, Revision: sh.Origin.Revision}
		}
		verdict := v.Field.Verdict(kind)
		f.Enforcement, f.Note = verdictText(verdict.Verdict), verdict.Note
		out[i] = f
	}
	slices.SortFunc(out, func(a, b ExplainedField) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

func verdictText(v specpb.Verdict) string {
	if v == specpb.Verdict_VERDICT_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(v.String(), "VERDICT_"))
}

// selectFields keeps the fields at and below a path.
func selectFields(all []ExplainedField, path string) ([]ExplainedField, error) {
	if path == "" {
		return all, nil
	}
	if f, key, ok := spec.ByPath(path); ok {
		path = f.PathOf(key)
	}
	var out []ExplainedField
	below := func(p string) bool {
		rest, ok := strings.CutPrefix(p, path)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	for _, f := range all {
		if below(f.Path) {
			out = append(out, f)
		}
	}
	if len(out) > 0 || slices.ContainsFunc(spec.Fields(), func(f *spec.Field) bool { return below(f.Path) }) {
		return out, nil
	}
	return nil, fault.Invalidf(fault.ReasonFieldUnknown, "there is no field %.80q", path).
		WithField("field_path", "%.80q is no field of a spec", path)
}
