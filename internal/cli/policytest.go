package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/policyfile"
)

// testsPath is where the tests of a profile are.
func testsPath(profile string) string { return client.Path("/berm/v1/profiles/%s/tests", profile) }

func (s *session) profileTestCmd() *cobra.Command {
	var name, profile, runner string
	c := &cobra.Command{
		Use: "test NAME [-f FILE] [--profile FILE] [--runner RUNNER]", Short: "Run the policy tests of a profile: what it must admit, refuse and resolve to",
		Long: `Run the policy tests of a profile, at every binding that they speak of: those that are attached to it, or those of a file. Each is
decided as a launch is, with the configuration as it is saved, or with the profile as a file has it. Nothing is written. The exit code is 10
when a test fails. docs/policy-tests.md says how tests are written.`,
		Example: `  berm profile test agent -f agent.tests.yaml
  berm profile test agent --profile agent.yaml -o junit > report.xml`,
		Args: args(1, 1, "the name or id of a profile"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			request := map[string]string{"runnerId": runner}
			var tests, edited *file
			var err error
			if name != "" {
				if tests, err = s.readTests(name); err != nil {
					return err
				}
				request["file"] = string(tests.data)
			}
			if profile != "" {
				if edited, request["specJson"], err = s.readSpec(profile); err != nil {
					return err
				}
			}
			s.flags = map[string]string{"runner_id": "--runner"}
			body, err := json.Marshal(request)
			if err != nil {
				return fault.Internalf(err, "encode the request")
			}
			raw, err := c.REST(ctx, "POST", testsPath(a[0])+":run", body)
			if err != nil {
				return show(tests, show(edited, err))
			}
			return s.emitTestRun(a[0], raw)
		}),
	}
	c.Flags().StringVarP(&name, "file", "f", "", "file of tests, - for standard input; default: those that are attached to the profile")
	c.Flags().StringVar(&profile, "profile", "", "file of the profile whose `spec` it is to have for the run")
	c.Flags().StringVar(&runner, "runner", "", "only at this runner")
	return s.outputFlagOf(c, "output format: table, json, yaml, or junit for a report that CI systems read", "table", "json", "yaml", "junit")
}

// readTests reads a file of tests, and refuses one that the server would, with the places in it.
func (s *session) readTests(name string) (*file, error) {
	f, err := s.readFile(name)
	if err != nil {
		return nil, err
	}
	_, err = policyfile.Parse(f.data)
	return f, f.show(err)
}

// readSpec reads the spec of a profile file.
func (s *session) readSpec(name string) (*file, string, error) {
	f, err := s.readFile(name)
	if err != nil {
		return nil, "", err
	}
	if err := checkProfile(f); err != nil {
		return nil, "", f.show(err)
	}
	n := f.root.Get("spec")
	if n == nil {
		return nil, "", fault.Invalidf(fault.ReasonFieldInvalid, "%s has no spec", f.name)
	}
	layer, err := spec.DecodeLayer(n, "spec")
	if err != nil {
		return nil, "", f.show(err)
	}
	return f, string(layer.JSON()), nil
}

// The answer to a run.
type (
	testRun struct {
		Results                                 []testResult
		Passed, Failed, Skipped, OmittedResults int
	}
	testResult struct {
		Test, RunnerID, Binding, Outcome, Message string
		Failures                                  []struct{ Text string }
	}
)

func (r *testResult) where() string {
	switch {
	case r.RunnerID == "":
		return "any runner"
	case r.Binding == "":
		return r.RunnerID
	}
	return r.RunnerID + "/" + r.Binding
}

// mark is the outcome as people scan for it.
func (r *testResult) mark() string {
	switch r.Outcome {
	case "passed":
		return "ok"
	case "failed":
		return "FAILED"
	}
	return r.Outcome
}

func (s *session) emitTestRun(profile string, raw json.RawMessage) error {
	var run testRun
	if err := json.Unmarshal(raw, &run); err != nil {
		return fault.Internalf(err, "the answer is not JSON")
	}
	var err error
	switch s.output {
	case "json", "yaml":
		err = s.emitJSON(raw)
	case "junit":
		err = s.emitJUnit(profile, &run)
	default:
		s.testTable(&run)
	}
	if err == nil && run.Failed > 0 {
		err = &exitError{exitFindings}
	}
	return err
}

// testTable shows a line for each result, with the differences below it.
func (s *session) testTable(run *testRun) {
	wide := 0
	for _, r := range run.Results {
		wide = max(wide, utf8.RuneCountInString(clean(r.Test)))
	}
	for i := range run.Results {
		r := &run.Results[i]
		line := fmt.Sprintf("%-7s  %-*s  %s", r.mark(), wide, clean(r.Test), clean(r.where()))
		if r.Outcome == "skipped" {
			line += ": " + clean(r.Message)
		}
		fmt.Fprintln(s.Out, line)
		for _, f := range r.Failures {
			fmt.Fprintln(s.Out, "         "+clean(f.Text))
		}
	}
	if run.OmittedResults > 0 {
		fmt.Fprintf(s.Out, "and %d more\n", run.OmittedResults)
	}
	fmt.Fprintln(s.Out, run.counts())
}

// counts is "3 passed, 1 failed".
func (run *testRun) counts() string {
	parts := []string{fmt.Sprintf("%d passed", run.Passed), fmt.Sprintf("%d failed", run.Failed)}
	if run.Skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped", run.Skipped))
	}
	return strings.Join(parts, ", ")
}
