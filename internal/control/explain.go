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
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/store"
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
	// Steps are the runner groups in the order of the profile.
	Steps    []plan.Step
	Timeline []core.Event
	// Submitted is the object that was given to what runs the sandbox, nil when none was, or when one field was asked for.
	Submitted json.RawMessage
}

// ExplainedField is one leaf of the resolved spec with its one origin. A guardrail has what the statements of all layers come to,
// and the origin of the one that decides it.
type ExplainedField struct {
	Path string
	// Value is JSON, null when the origin cleared the field; of a guardrail as in plan.Bound.
	Value         json.RawMessage
	Layer, Object string
	Revision      int32
	By            string
	At            time.Time
	Reason        string
	// Shadowed is what lower layers said, newest first; of a guardrail, what layers say without effect. Combined is what further
	// layers say that holds together with the origin's statement; only guardrails have it.
	Shadowed, Combined []ShadowedValue
	// Enforcement is "enforced", "recorded" or "refused", by the backend that runs it; Note says on what that depends.
	Enforcement, Note string
}

// ShadowedValue is what another layer says about a field.
type ShadowedValue struct {
	Value         json.RawMessage
	Layer, Object string
	Revision      int32
}

// Explain explains a sandbox, running or ended. fieldPath, when not empty, keeps that field and those below it.
func (s *Service) Explain(ctx context.Context, p core.Principal, id, fieldPath string) (*Explanation, error) {
	if err := s.allow(ctx, p, "Explain"); err != nil {
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
	attrs := rememberedAttrs(row)
	e := &Explanation{
		SandboxID: row.ID, RunnerID: row.RunnerID, ProfileName: row.ProfileName, ProfileID: row.ProfileID, ProfileRevision: row.ProfileRevision,
		Digest: row.Digest, Observation: s.overlay(row).Observation, Isolation: attrs[attrIsolation], Spec: record.Spec,
		Candidates: record.Candidates, Omitted: record.Omitted, Steps: record.Steps, Timeline: s.overlay(row).Timeline,
	}
	e.Fields, err = selectFields(explained(record.Resolved(), record.Bounds, attrs), fieldPath)
	if err == nil && fieldPath == "" {
		e.Submitted, err = s.submitted(ctx, p.OrgID, id)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Submitted returns the object that was given to what runs a sandbox, a pod or an OCI runtime configuration, as JSON; nil when
// none was given yet.
func (s *Service) Submitted(ctx context.Context, p core.Principal, id string) (json.RawMessage, error) {
	if err := s.allow(ctx, p, "Submitted"); err != nil {
		return nil, err
	}
	return s.submitted(ctx, p.OrgID, id)
}

func (s *Service) submitted(ctx context.Context, orgID, id string) (object json.RawMessage, err error) {
	err = s.store.View(ctx, func(r store.Reader) (err error) {
		object, err = r.Submitted(ctx, orgID, id)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return nil, noSandbox(id)
	}
	return object, err
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
	if err := s.allow(ctx, p, "Plan"); err != nil {
		return nil, err
	}
	pl, err := s.plan(ctx, p, l, false, plan.Options{Explain: true})
	if err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			if refusal, ok := f.Detail.(*plan.Refusal); ok {
				return &Planned{Refusal: refusal, Fault: err}, nil
			}
		}
		return nil, err
	}
	if _, err := s.pickSecrets(ctx, p.OrgID, l); err != nil {
		return nil, err
	}
	attrs := s.backendAttrs(pl.Runner.Runner.ID, pl.Resolved)
	return &Planned{Plan: pl, Explanation: &Explanation{
		RunnerID: pl.Runner.Runner.RunnerID, ProfileName: pl.Binding.Name, ProfileID: pl.Binding.Profile.ID, ProfileRevision: pl.Binding.Profile.Revision,
		Digest: pl.Digest, Observation: core.ObservationCurrent, Isolation: attrs[attrIsolation], Spec: pl.Resolved.JSON(),
		Fields: explained(pl.Resolved.Fields(), pl.Bounds(), attrs), Candidates: pl.Candidates, Omitted: pl.Omitted, Steps: pl.Steps,
	}}, nil
}

// explained renders resolved values, ordered by path. The resolved spec has the guardrails of the highest layer; what holds is
// told by bounds, some of which no layer of the spec may have. attrs is what is remembered of the backend.
func explained(values []resolve.Value, bounds []plan.Bound, attrs map[string]string) []ExplainedField {
	out := make([]ExplainedField, 0, len(values)+len(bounds))
	for _, v := range values {
		if v.Field.Guardrail {
			continue
		}
		f := fieldFrom(v.Path(), v.JSON(), v.Origin)
		for _, sh := range v.Shadowed {
			f.Shadowed = append(f.Shadowed, shadowed(sh.JSON(), sh.Origin))
		}
		out = append(out, f)
	}
	for _, b := range bounds {
		f := fieldFrom(b.Path, b.Value, b.Owner.Origin)
		for _, st := range b.Combined {
			f.Combined = append(f.Combined, shadowed(st.Value, st.Origin))
		}
		for _, st := range b.Shadowed {
			f.Shadowed = append(f.Shadowed, shadowed(st.Value, st.Origin))
		}
		out = append(out, f)
	}
	for i := range out {
		out[i].Enforcement, out[i].Note = enforcement(out[i].Path, attrs)
	}
	slices.SortFunc(out, func(a, b ExplainedField) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

func fieldFrom(path string, value json.RawMessage, o *resolve.Origin) ExplainedField {
	return ExplainedField{
		Path: path, Value: value, Layer: o.Layer.String(), Object: o.Object, Revision: o.Revision, By: o.By, At: o.At, Reason: o.Reason,
	}
}

func shadowed(value json.RawMessage, o *resolve.Origin) ShadowedValue {
	return ShadowedValue{Value: value, Layer: o.Layer.String(), Object: o.Object, Revision: o.Revision}
}

// enforcement returns what the backend does with a field, and on what that depends.
func enforcement(path string, attrs map[string]string) (verdict, note string) {
	field, key, ok := spec.ByPath(path)
	if !ok {
		return "", "" // of a schema that is not this program's
	}
	v := field.VerdictOf(attrs[attrBackend], key)
	if why := attrs[attrUnenforced+field.Path]; why != "" && v.Verdict == specpb.Verdict_VERDICT_ENFORCED {
		v = spec.Verdict{Verdict: specpb.Verdict_VERDICT_RECORDED, Note: why}
	}
	if note := attrs[attrNote+field.Path]; note != "" && v.Verdict == specpb.Verdict_VERDICT_ENFORCED {
		v.Note = note
	}
	if v.Verdict == specpb.Verdict_VERDICT_UNSPECIFIED {
		return "", ""
	}
	return v.Text(), v.Note
}

// selectFields keeps the fields at and below a path. An entry of a map that has no row of its own is told by that of the map.
func selectFields(all []ExplainedField, path string) ([]ExplainedField, error) {
	if path == "" {
		return all, nil
	}
	canonical, ok := spec.Profile().CanonicalPath(path)
	if !ok {
		e := fault.Invalidf(fault.ReasonFieldUnknown, "there is no field %.80q", path).WithField("field_path", "%.80q is no field of a spec", path)
		if near := nearestPath(all, path); near != "" {
			e.WithHint("did you mean %s?", near)
		}
		return nil, e
	}
	below := func(outer string) []ExplainedField {
		var out []ExplainedField
		for _, f := range all {
			if rest, ok := strings.CutPrefix(f.Path, outer); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
				out = append(out, f)
			}
		}
		return out
	}
	out := below(canonical)
	if f, key, ok := spec.ByPath(canonical); ok && len(out) == 0 && key != "" && !f.Open {
		out = below(f.Path)
	}
	return out, nil
}

// nearestPath returns the path that is most likely meant, among those of the sandbox, which may name keys, and all others.
func nearestPath(all []ExplainedField, path string) string {
	own := make([]string, len(all))
	for i, f := range all {
		own[i] = f.Path
	}
	if near := tree.Suggest(path, own); near != "" {
		return near
	}
	return spec.Profile().SuggestPath(path)
}
