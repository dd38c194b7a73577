package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/server/edge"
)

type lintService struct {
	bermv1rpc.UnsafeLintServiceServer
	*Front
}

var _ bermv1rpc.LintServiceServer = (*lintService)(nil)

func (s *lintService) Lint(ctx context.Context, _ *bermv1.LintRequest) (*bermv1.LintResponse, error) {
	found, more, err := s.control.Lint(ctx, edge.Principal(ctx))
	if err != nil {
		return nil, err
	}
	out := &bermv1.LintResponse{More: more}
	for _, f := range found {
		out.Findings = append(out.Findings, &bermv1.Finding{
			Rule: string(f.Rule), Severity: string(f.Severity), Object: f.Object, Path: f.Path, Message: f.Message, Hint: f.Hint,
		})
	}
	return out, nil
}
