package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// exitChanges is the exit code of a plan that would change something.
const exitChanges = 10

// applyFlags say how an apply goes.
type applyFlags struct {
	files                                []string
	owner, reason                        string
	plan, exitCode, yes, takeOver, prune bool
}

func (f *applyFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.owner, "owner", "", "set of files that the objects belong to; default: what berm.yaml in the directory says")
	c.Flags().StringVar(&f.reason, "reason", "", "why, kept with the revisions")
	c.Flags().BoolVar(&f.plan, "plan", false, "change nothing: say what would change")
	c.Flags().BoolVar(&f.exitCode, "exit-code", false, "with --plan: exit with 10 when something would change")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask before the changes are made")
	c.Flags().BoolVar(&f.takeOver, "take-over", false, "also objects that belong to another set of files")
	c.Flags().BoolVar(&f.prune, "prune", false, "delete objects of the owner that are in no file any more")
}

func (s *session) applyCmd() *cobra.Command {
	var f applyFlags
	c := s.outputFlag(&cobra.Command{
		Use: "apply -f FILE|DIR", Short: "Make zones, profiles and runners what files say, after showing what that changes",
		Long: `Make zones, profiles and runners what files say: YAML or JSON documents with a kind, as export writes them. A directory is read with those
below it: *.yaml, *.yml and *.json, but for what is hidden. A document says the whole object; what it leaves out has its default.

First the plan is shown, and what it does to bindings, launches and running sandboxes. Then, when that is agreed to, exactly this is done
in one transaction, or nothing: when something was changed meanwhile it is refused. Objects in no file are left alone, unless --prune.`,
		Example: `  berm apply -f fleet --plan --exit-code
  berm apply -f fleet --owner fleet --prune --reason "as merged" --yes
  berm export | berm --context staging apply -f - --plan`,
		Args: args(0, 0, "no arguments, only -f FILE or DIR"),
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(f.files) == 0 {
				return fault.Invalidf("USAGE", "name a file or directory with -f, or - for standard input")
			}
			if f.exitCode && !f.plan {
				return fault.Invalidf("USAGE", "--exit-code goes with --plan")
			}
			r, err := s.readObjects(f.files)
			if err != nil {
				return err
			}
			docs, err := r.documents()
			if err != nil {
				return err
			}
			if f.owner, err = r.whose(f.owner); err != nil {
				return err
			}
			return s.with(func(ctx context.Context, c *client.Client, _ []string) error { return s.apply(ctx, c, docs, &f) })(cmd, a)
		},
	})
	c.Flags().StringArrayVarP(&f.files, "file", "f", nil, "YAML or JSON file, a directory of them, or - for standard input; repeatable")
	c.Flags().Int32Var(&s.launches, "preview-launches", 0, "how many of the last launches the plan decides again; default 1000")
	f.add(c)
	return c
}

// apply plans, asks and does.
func (s *session) apply(ctx context.Context, c *client.Client, docs []*objectDoc, f *applyFlags) error {
	sorted(docs)
	if len(docs) == 0 {
		return nothingToApply(f)
	}
	request := applyRequest{Owner: f.owner, TakeOver: f.takeOver, Prune: f.prune, Preview: true, Launches: s.launches}
	for _, d := range docs {
		request.Objects = append(request.Objects, applyObject{Kind: d.kind, Name: d.name, Body: string(d.body.JSON())})
	}
	raw, err := s.sendApply(ctx, c, request, "")
	if err != nil {
		return placedIn(docs, err)
	}
	var plan applyAnswer
	if err := json.Unmarshal(raw, &plan); err != nil {
		return fault.Internalf(err, "the answer is not JSON")
	}
	if len(plan.Objects) < len(docs) {
		return fault.Internalf(nil, "the answer has %d objects of %d", len(plan.Objects), len(docs))
	}
	if f.plan {
		return s.emitPlan(raw, &plan, f)
	}
	if plan.changes() == 0 {
		return s.emitApplied(raw, &plan)
	}
	if !f.yes {
		s.showApply(s.Err, &plan)
		if err := plan.refusal(); err != nil {
			return err
		}
		if err := s.confirm(plan.question()); err != nil {
			return err
		}
	}
	// What was planned, and no other state: the deletions of what is pruned are said, and every object has the etag that was seen.
	request.Preview, request.Prune, request.Launches = false, false, 0
	for i, o := range plan.Objects {
		if i >= len(docs) {
			request.Objects = append(request.Objects, applyObject{Kind: o.Kind, Name: o.Name, Delete: true})
		}
		request.Objects[i].Etag = &o.Etag
	}
	if raw, err = s.sendApply(ctx, c, request, f.reason); err != nil {
		return placedIn(docs, err)
	}
	var done applyAnswer
	if err := json.Unmarshal(raw, &done); err != nil {
		return fault.Internalf(err, "the answer is not JSON")
	}
	return s.emitApplied(raw, &done)
}

// nothingToApply refuses an apply without a document. To prune would be to delete everything of the owner, which is rather a wrong directory.
func nothingToApply(f *applyFlags) error {
	from := "them"
	if len(f.files) > 0 {
		from = strings.Join(f.files, ", ")
	}
	if f.prune {
		return fault.Invalidf("USAGE", "--prune would delete everything that belongs to the owner: no document was found in %s", from).
			WithHint("Name the right directory; *.yaml, *.yml and *.json are read. If all of it is to go, delete it by the commands of its kinds.")
	}
	return fault.Invalidf("USAGE", "there is nothing to apply: no file was found in %s", from).WithHint("It reads *.yaml, *.yml and *.json.")
}

func (s *session) sendApply(ctx context.Context, c *client.Client, request applyRequest, reason string) (json.RawMessage, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fault.Internalf(err, "encode the request")
	}
	return c.REST(ctx, "POST", "/berm/v1/apply", body, reasonHeader(reason)...)
}

// emitPlan shows what would be done.
func (s *session) emitPlan(raw json.RawMessage, plan *applyAnswer, f *applyFlags) error {
	if s.output == "json" || s.output == "yaml" {
		if err := s.emitJSON(raw); err != nil {
			return err
		}
	} else {
		s.showApply(s.Out, plan)
		if plan.changes() > 0 {
			fmt.Fprintln(s.Err, "\nNothing was written.")
		}
	}
	if err := plan.refusal(); err != nil {
		return err
	}
	if f.exitCode && plan.changes() > 0 {
		return &exitError{exitChanges}
	}
	return nil
}
