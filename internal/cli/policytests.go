package cli

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// profileTestsCmd is about the tests that are attached to a profile.
func (s *session) profileTestsCmd() *cobra.Command {
	return noun("tests", "Policy tests that are attached to a profile: an edit that breaks one is refused",
		s.profileTestsGetCmd(), s.profileTestsPutCmd(), s.profileTestsDeleteCmd(),
		s.revisionsCmd("profile", "/berm/v1/profiles/%s/tests/revisions", "List the revisions of a profile's policy tests: who changed them, when and why"))
}

func (s *session) profileTestsGetCmd() *cobra.Command {
	var revision int32
	c := s.outputFlag(&cobra.Command{
		Use: "get NAME", Short: "Show the tests of a profile as the file that was attached; -o json and yaml have all of it", Args: args(1, 1, "the name or id of a profile"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			path := testsPath(a[0])
			if revision != 0 {
				path += "?revision=" + strconv.Itoa(int(revision))
			}
			raw, err := c.REST(ctx, "GET", path, nil)
			if err != nil {
				return err
			}
			return s.showObject(raw, func() ([]byte, error) {
				n, err := answer(raw)
				if err != nil {
					return nil, err
				}
				// Beside the file, so that what is printed is what was put.
				fmt.Fprintln(s.Err, clean(fmt.Sprintf("policy tests of profile %s: mode %s, revision %s, %s by %s",
					textAt(n, "profileName"), textAt(n, "mode"), textAt(n, "revision"), localTime(textAt(n, "updatedAt")), textAt(n, "updatedBy"))))
				text := textAt(n, "file")
				if text != "" && !strings.HasSuffix(text, "\n") {
					text += "\n"
				}
				return []byte(text), nil
			})
		}),
	})
	c.Flags().Int32Var(&revision, "revision", 0, "an earlier state, see history; default: the last one")
	return c
}

func (s *session) profileTestsPutCmd() *cobra.Command {
	var name, mode, reason, etag string
	c := s.outputFlag(&cobra.Command{
		Use: "put NAME [-f FILE] [--mode enforce|warn]", Short: "Attach policy tests to a profile, or change what they do to an edit that breaks them",
		Long: `Attach policy tests to a profile, in place of those that are. An edit of the profile, of a binding, a runner or a zone that breaks one
is refused then; with --mode warn the answer to the edit says so. Tests that fail as things are may be attached: the answer names them, and
they count from when they pass.`,
		Args: args(1, 1, "the name or id of a profile"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			if name == "" && mode == "" {
				return fault.Invalidf("USAGE", "there is nothing to change").WithHint("Give -f FILE, --mode, or both.")
			}
			request := map[string]string{"mode": mode, "etag": etag}
			var f *file
			if name != "" {
				var err error
				if f, err = s.readTests(name); err != nil {
					return err
				}
				request["file"] = string(f.data)
			}
			s.flags = map[string]string{"mode": "--mode"}
			body, err := json.Marshal(request)
			if err != nil {
				return fault.Internalf(err, "encode the request")
			}
			raw, err := c.REST(ctx, "PUT", testsPath(a[0]), body, reasonHeader(reason)...)
			if err != nil {
				return show(f, err)
			}
			s.warnings(raw)
			n, err := answer(raw)
			if err != nil {
				return err
			}
			if s.output == "json" || s.output == "yaml" {
				return s.emitJSON(raw)
			}
			return s.report(nil, "policy tests of profile %s: mode %s, revision %s", textAt(n, "profileName"), textAt(n, "mode"), textAt(n, "revision"))
		}),
	})
	c.Flags().StringVarP(&name, "file", "f", "", "file of tests, - for standard input; without it those that are attached stay")
	c.Flags().StringVar(&mode, "mode", "", "enforce (of the first tests the default) or warn")
	reasonFlag(c, &reason)
	c.Flags().StringVar(&etag, "etag", "", "refuse when the tests have changed since this etag")
	return c
}

func (s *session) profileTestsDeleteCmd() *cobra.Command {
	var reason string
	c := s.outputFlag(&cobra.Command{
		Use: "delete NAME", Aliases: []string{"rm"}, Short: "Detach the policy tests of a profile; their revisions stay", Args: args(1, 1, "the name or id of a profile"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			if _, err := c.REST(ctx, "DELETE", testsPath(a[0]), nil, reasonHeader(reason)...); err != nil {
				return err
			}
			return s.report(map[string]string{"profile": a[0]}, "profile %s has no policy tests any more", a[0])
		}),
	})
	reasonFlag(c, &reason)
	return c
}

// The report that CI systems read; the first of them to write one was JUnit.
type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string    `xml:"name,attr"`
		Class   string    `xml:"classname,attr"`
		Failure *junitWhy `xml:"failure,omitempty"`
		Skipped *junitWhy `xml:"skipped,omitempty"`
	}
	junitWhy struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

func (s *session) emitJUnit(profile string, run *testRun) error {
	suite := junitSuite{Name: "profile " + profile, Tests: run.Passed + run.Failed + run.Skipped, Failures: run.Failed, Skipped: run.Skipped}
	for i := range run.Results {
		r := &run.Results[i]
		c := junitCase{Name: r.Test, Class: r.where()}
		switch r.Outcome {
		case "failed":
			c.Failure = &junitWhy{}
			for j, f := range r.Failures {
				if j == 0 {
					c.Failure.Message = f.Text
				}
				c.Failure.Text += f.Text + "\n"
			}
		case "skipped":
			c.Skipped = &junitWhy{Message: r.Message}
		}
		suite.Cases = append(suite.Cases, c)
	}
	text, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		return fault.Internalf(err, "encode the report")
	}
	_, err = fmt.Fprintf(s.Out, "%s%s\n", xml.Header, text)
	return err
}
