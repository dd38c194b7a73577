package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// errPreviewed ends a command whose edit was only looked at.
var errPreviewed = errors.New("previewed")

// editing lets a command that edits the configuration be previewed.
func (s *session) editing(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&s.preview, "preview", false, "change nothing: say what the edit would do to bindings, launches and running sandboxes")
	c.Flags().Int32Var(&s.launches, "preview-launches", 0, "how many of the last launches a preview decides again; default 1000")
	return c
}

// write makes an edit, or shows what it would do. An edit that was only looked at is errPreviewed.
func (s *session) write(ctx context.Context, c *client.Client, method, path string, body json.RawMessage, header ...string) (json.RawMessage, error) {
	if !s.preview {
		return c.REST(ctx, method, path, body, header...)
	}
	request := map[string]any{"method": method, "path": path, "body": string(body), "launches": s.launches}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "If-Match" {
			request["etag"] = header[i+1]
		}
	}
	text, err := json.Marshal(request)
	if err != nil {
		return nil, fault.Internalf(err, "encode the request")
	}
	raw, err := c.REST(ctx, "POST", "/berm/v1/preview", text)
	if err != nil {
		return nil, err
	}
	if err := s.emitPreview(raw); err != nil {
		return nil, err
	}
	if n, err := answer(raw); err == nil && textAt(n, "refusedByTests") == "true" {
		return nil, refusedByTests("edit")
	}
	return nil, errPreviewed
}

// refusedByTests is the error of what was only looked at, and would be refused.
func refusedByTests(what string) error {
	return fault.Preconditionf(fault.ReasonTestsFail, "the %s would be refused: it breaks policy tests", what)
}

// The answer to a preview.
type (
	previewAnswer struct {
		Changes                       []fieldChange
		Bindings, Launches, Sandboxes []impactGroup
		LaunchesSeen, SandboxesSeen   int
		MoreSandboxes                 bool
		Tests                         []testEffect
		TestsSeen                     int
		RefusedByTests                bool
	}
	testEffect struct {
		ProfileName, Mode string
		Before            *testResult
		After             testResult
		Broken            bool
	}
	impactGroup struct {
		Kind, Example, Message string
		Count                  int
		Others                 []string
		Fields                 []impactField
	}
	impactField struct {
		fieldChange
		OldOrigin, NewOrigin *struct{ Object string }
	}
)

func (s *session) emitPreview(raw json.RawMessage) error {
	if s.output == "json" || s.output == "yaml" {
		return s.emitJSON(raw)
	}
	var p previewAnswer
	if err := json.Unmarshal(raw, &p); err != nil {
		return fault.Internalf(err, "the answer is not JSON")
	}
	if len(p.Changes) == 0 {
		fmt.Fprintln(s.Out, "Nothing would change.")
		return nil
	}
	s.warnings(raw)
	fmt.Fprintln(s.Out, "The edit (not made):")
	s.table(changeTable(p.Changes))
	s.effect(&p)
	return nil
}

// effect shows what becomes of bindings, launches and sandboxes.
func (s *session) effect(p *previewAnswer) {
	s.testEffects(p.Tests, p.TestsSeen)
	s.section(p.Bindings, "Bindings", "no binding changes")
	s.section(p.Launches, fmt.Sprintf("The last %d launches, if they were made again", p.LaunchesSeen), "nothing would be decided otherwise")
	more := ""
	if p.MoreSandboxes {
		more = ", the youngest; there are more"
	}
	s.section(p.Sandboxes, fmt.Sprintf("Sandboxes that run (%d%s) stay as they are; launched again", p.SandboxesSeen, more), "they would be the same")
}

// testEffects shows what becomes of policy tests, nothing when none was run.
func (s *session) testEffects(list []testEffect, seen int) {
	switch {
	case seen == 0:
		return
	case len(list) == 0:
		fmt.Fprintf(s.Out, "\nPolicy tests (%d places): all pass, as before.\n", seen)
		return
	}
	fmt.Fprintf(s.Out, "\nPolicy tests (%d places), where they fail or come to something else:\n", seen)
	for _, e := range list {
		before := "a new place"
		if e.Before != nil {
			before = e.Before.Outcome + " before"
		}
		if e.Broken && e.Mode == "enforce" {
			before += ", the edit would be refused"
		}
		fmt.Fprintln(s.Out, "  "+clean(fmt.Sprintf("%s  %s of profile %s at %s (%s)", e.After.mark(), e.After.Test, e.ProfileName, e.After.where(), before)))
		for _, f := range e.After.Failures {
			fmt.Fprintln(s.Out, "    "+clean(f.Text))
		}
	}
}

// section shows groups of effects under a title.
func (s *session) section(list []impactGroup, title, none string) {
	if len(list) == 0 {
		fmt.Fprintf(s.Out, "\n%s: %s.\n", title, none)
		return
	}
	fmt.Fprintf(s.Out, "\n%s:\n", title)
	for _, g := range list {
		who := g.Example
		if n := g.Count - 1; n > 0 {
			who = fmt.Sprintf("%s and %d more", who, n)
		}
		line := strings.ReplaceAll(g.Kind, "_", " ") + "  " + who
		if g.Message != "" {
			line += ": " + g.Message
		}
		fmt.Fprintln(s.Out, "  "+clean(line))
		for _, f := range g.Fields {
			text := f.line()
			if g.Kind == "added" {
				text = f.stated()
			}
			fmt.Fprintln(s.Out, "    "+clean(text))
		}
	}
}

// line is one field: value, value, what that amounts to, and who states the new value.
func (f impactField) line() string {
	text := fmt.Sprintf("%s: %s -> %s (%s", f.Path, jsonCell(f.Old), jsonCell(f.New), f.Meaning)
	if f.NewOrigin != nil {
		text += ", by " + f.NewOrigin.Object
	}
	return text + ")"
}

// stated is a field of what is new: its value, and who states it.
func (f impactField) stated() string {
	text := fmt.Sprintf("%s: %s", f.Path, jsonCell(f.New))
	if f.NewOrigin != nil {
		text += " (by " + f.NewOrigin.Object + ")"
	}
	return text
}

func (s *session) listOutdated(ctx context.Context, c *client.Client, tags, profiles, runners []string) error {
	query := url.Values{"tags": tags, "profile_names": profiles, "runner_ids": runners}
	raw, err := listAll(ctx, c, "/berm/v1/outdated?"+query.Encode(), "sandboxes")
	if err != nil {
		return err
	}
	return s.emitOutdated(raw)
}

func (s *session) emitOutdated(raw json.RawMessage) error {
	var list []struct {
		SandboxID, RunnerID, ProfileName, Message string
		Fields                                    []impactField
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return fault.Internalf(err, "the answer is not JSON")
	}
	return s.emit(raw, func() table {
		t := table{head: []string{"SANDBOX", "RUNNER", "PROFILE", "LAUNCHED NOW IT WOULD HAVE"}}
		for _, o := range list {
			first := []string{o.SandboxID, o.RunnerID, o.ProfileName}
			if o.Message != "" {
				t.rows = append(t.rows, append(first, "no place: "+o.Message))
			}
			for i, f := range o.Fields {
				if i > 0 {
					first = []string{"", "", ""}
				}
				t.rows = append(t.rows, append(first, f.line()))
			}
		}
		return t
	})
}
