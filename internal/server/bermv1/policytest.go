package bermv1

import (
	"cmp"
	"context"
	"slices"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/policyfile"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

// maxResults is how many results of a run are returned.
const maxResults = 2000

type policyTestService struct {
	bermv1rpc.UnsafePolicyTestServiceServer
	*Front
}

var _ bermv1rpc.PolicyTestServiceServer = (*policyTestService)(nil)

func (s *policyTestService) GetPolicyTests(ctx context.Context, r *bermv1.GetPolicyTestsRequest) (*bermv1.PolicyTests, error) {
	t, err := s.control.GetPolicyTests(ctx, edge.Principal(ctx), r.GetId(), r.GetRevision())
	if err != nil {
		return nil, err
	}
	return policyTests(t, nil), nil
}

func (s *policyTestService) PutPolicyTests(ctx context.Context, r *bermv1.PutPolicyTestsRequest) (*bermv1.PolicyTests, error) {
	in := control.PolicyTestsInput{File: r.GetFile(), Mode: control.TestMode(r.GetMode()), EditState: stateOf(ctx, r)}
	var err error
	if in.Tests, err = parseTests(r.GetFile()); err != nil {
		return nil, err
	}
	t, warnings, err := s.control.PutPolicyTests(ctx, edge.Principal(ctx), r.GetId(), in)
	if err != nil {
		return nil, err
	}
	return policyTests(t, warnings), nil
}

// parseTests reads a file, nil for none.
func parseTests(file string) ([]policy.Test, error) {
	if file == "" {
		return nil, nil
	}
	return policyfile.Parse([]byte(file))
}

func (s *policyTestService) DeletePolicyTests(ctx context.Context, r *bermv1.DeletePolicyTestsRequest) (*bermv1.DeletePolicyTestsResponse, error) {
	if err := s.control.DeletePolicyTests(ctx, edge.Principal(ctx), r.GetId(), stateOf(ctx, r)); err != nil {
		return nil, err
	}
	return &bermv1.DeletePolicyTestsResponse{}, nil
}

func (s *policyTestService) ListPolicyTestRevisions(ctx context.Context, r *bermv1.ListPolicyTestRevisionsRequest) (*bermv1.ListPolicyTestRevisionsResponse, error) {
	list, next, err := s.control.PolicyTestRevisions(ctx, edge.Principal(ctx), r.GetId(), pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListPolicyTestRevisionsResponse{NextPageToken: next}
	for _, t := range list {
		text := func(v string) *tree.Node { return &tree.Node{Kind: tree.String, Text: v} }
		content := &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: "mode", Value: text(string(t.Mode))}, {Name: "file", Value: text(t.File)}}}
		out.Revisions = append(out.Revisions, revision(t.Meta, t.Removed, content))
	}
	return out, nil
}

func policyTests(t *control.PolicyTests, warnings []string) *bermv1.PolicyTests {
	return &bermv1.PolicyTests{
		ProfileId: t.ProfileID, ProfileName: t.ProfileName, File: t.File, Mode: string(t.Mode), Revision: t.Revision, Etag: control.Etag(t.Meta),
		CreatedAt: wire.Time(t.CreatedAt), UpdatedAt: wire.Time(t.UpdatedAt), UpdatedBy: t.UpdatedBy, Warnings: warnings,
	}
}

func (s *policyTestService) RunPolicyTests(ctx context.Context, r *bermv1.RunPolicyTestsRequest) (*bermv1.RunPolicyTestsResponse, error) {
	run := control.TestRun{RunnerID: r.GetRunnerId()}
	var err error
	if run.Tests, err = parseTests(r.GetFile()); err != nil {
		return nil, err
	}
	if r.GetSpecJson() != "" {
		n, err := tree.ParseJSON([]byte(r.GetSpecJson()))
		if err != nil {
			return nil, fault.From(err).Clone().WithField("spec_json", "is no JSON")
		}
		if run.Spec, err = spec.DecodeLayer(n, "spec"); err != nil {
			return nil, err
		}
	}
	results, err := s.control.RunPolicyTests(ctx, edge.Principal(ctx), r.GetId(), run)
	if err != nil {
		return nil, err
	}
	return runAnswer(results), nil
}

func runAnswer(results []policy.Result) *bermv1.RunPolicyTestsResponse {
	out := &bermv1.RunPolicyTestsResponse{}
	for i := range results {
		switch results[i].Outcome {
		case policy.Passed:
			out.Passed++
		case policy.Failed:
			out.Failed++
		case policy.Skipped:
			out.Skipped++
		}
	}
	if len(results) > maxResults {
		rank := func(r policy.Result) int {
			return slices.Index([]policy.Outcome{policy.Failed, policy.Skipped, policy.Passed}, r.Outcome)
		}
		slices.SortStableFunc(results, func(a, b policy.Result) int { return cmp.Compare(rank(a), rank(b)) })
		out.OmittedResults = wire.Count(len(results) - maxResults)
		results = results[:maxResults]
	}
	out.Results = testResults(results)
	return out
}

func testResults(results []policy.Result) []*bermv1.PolicyTestResult {
	out := make([]*bermv1.PolicyTestResult, len(results))
	for i := range results {
		r := &results[i]
		out[i] = &bermv1.PolicyTestResult{Test: r.Test, RunnerId: r.Runner, Binding: r.Binding, Outcome: string(r.Outcome), Message: r.Message}
		for _, f := range r.Failures {
			m := &bermv1.PolicyTestFailure{Aspect: f.Aspect, Path: f.Path, Expected: f.Expected, Actual: f.Actual, Text: f.String()}
			if f.Origin != nil {
				m.Origin = wire.Origin(f.Origin)
			}
			for _, sh := range f.Shadowed {
				m.Shadowed = append(m.Shadowed, &bermv1.ShadowedValue{
					Value: wire.Value(sh.Leaf.JSON()), Layer: sh.Origin.Layer.String(), Object: sh.Origin.Object, Revision: sh.Origin.Revision,
				})
			}
			out[i].Failures = append(out[i].Failures, m)
		}
	}
	return out
}

func testEffect(e *control.TestEffect) *bermv1.PolicyTestEffect {
	out := &bermv1.PolicyTestEffect{ProfileName: e.ProfileName, Mode: string(e.Mode), Broken: e.Breaks(), After: testResults([]policy.Result{e.After})[0]}
	if e.Before != nil {
		out.Before = testResults([]policy.Result{*e.Before})[0]
	}
	return out
}
