// Package policyfile reads files of policy tests, as people write them: YAML or JSON, with requests in the published form that `berm plan`
// takes.
package policyfile

import (
	"bytes"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/startreq"
	"github.com/bermhq/berm/internal/specfile"
)

// Parse reads a file of tests. The error is an Invalid fault whose violations have a line and a column where there is one.
func Parse(text []byte) ([]policy.Test, error) {
	if len(text) > policy.MaxText {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "the file of tests has %d bytes, the limit is %d", len(text), policy.MaxText)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, fault.Invalidf(fault.ReasonSyntax, "the file of tests is empty")
	}
	n, err := specfile.Parse(text)
	if err != nil {
		return nil, err
	}
	table := startreq.NewTable()
	return policy.Decode(n, func(n *tree.Node, at string, p *tree.Problems) *specpb.Launch { return request(table, n, at, p) })
}

// request reads a launch request, with what is wrong with it below its path.
func request(table *startreq.Table, n *tree.Node, at string, p *tree.Problems) *specpb.Launch {
	req := &v1beta2pb.StartSandboxRequest{}
	_, err := tree.Decode(n, req)
	if err == nil {
		var l *specpb.Launch
		if l, err = table.Launch(req); err == nil {
			return l
		}
	}
	for _, f := range fault.From(err).Fields {
		place := n
		if f.Line > 0 {
			place = &tree.Node{Line: f.Line, Col: f.Column}
		}
		p.AddReason(fault.From(err).Reason, place, tree.Join(at, f.Path), "%s", f.Description)
	}
	return nil
}
