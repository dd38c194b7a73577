package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// exitFindings is the exit code of a check that found something: the check itself went well.
const exitFindings = 10

// severities, the worst first.
var severities = []string{"error", "warning", "note"}

func (s *session) lintCmd() *cobra.Command {
	var fail string
	c := s.outputFlag(&cobra.Command{
		Use: "lint", Short: "Find what the configuration says in vain, twice, or in contradiction to itself",
		Long: `Find what the configuration says in vain, twice, or in contradiction to itself: default bindings that refuse every launch, modes that no
launch can select, fields that no launch sees, overrides that repeat what lies beneath, profiles that are nearly equal or bound nowhere.
docs/lint.md lists the rules. The exit code is 10 when there are findings as severe as --fail-on.`,
		Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			worst := slices.Index(severities, fail)
			if worst < 0 && fail != "none" {
				return fault.Invalidf("USAGE", "unknown severity %q for --fail-on", fail).WithHint("Use error, warning, note or none.")
			}
			raw, err := c.REST(ctx, "GET", "/berm/v1/lint", nil)
			if err != nil {
				return err
			}
			return s.emitFindings(raw, worst)
		}),
	})
	c.Flags().StringVar(&fail, "fail-on", "error", "least severity that makes the exit code 10: error, warning, note, or none")
	return c
}

func (s *session) emitFindings(raw json.RawMessage, worst int) error {
	var answer struct {
		Findings []struct{ Rule, Severity, Object, Path, Message, Hint string }
		More     bool
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fault.Internalf(err, "the answer is not JSON")
	}
	failed := slices.ContainsFunc(answer.Findings, func(f struct{ Rule, Severity, Object, Path, Message, Hint string }) bool {
		return slices.Index(severities, f.Severity) <= worst
	})
	switch {
	case s.output == "json" || s.output == "yaml":
		if err := s.emitJSON(raw); err != nil {
			return err
		}
	case len(answer.Findings) == 0:
		fmt.Fprintln(s.Err, "nothing found")
	}
	if s.output != "json" && s.output != "yaml" {
		for _, f := range answer.Findings {
			where := strings.TrimSpace(f.Object + " " + f.Path)
			fmt.Fprintln(s.Out, clean(fmt.Sprintf("%s: %s: %s [%s]", f.Severity, where, f.Message, f.Rule)))
			if f.Hint != "" {
				fmt.Fprintln(s.Out, clean("  "+f.Hint))
			}
		}
		if answer.More {
			fmt.Fprintln(s.Err, "there are more")
		}
	}
	if failed {
		return &exitError{exitFindings}
	}
	return nil
}
