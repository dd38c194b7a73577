package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// rebaseFlags are those of commands that move bindings from profile to profile.
type rebaseFlags struct {
	apply        bool
	reason, etag string
}

func (f *rebaseFlags) add(c *cobra.Command, what string) {
	c.Flags().BoolVar(&f.apply, "apply", false, "make the edit; without it, say what it would do")
	c.Flags().StringVar(&f.reason, "reason", "", "why, kept with the revisions")
	c.Flags().StringVar(&f.etag, "etag", "", "refuse when the "+what+" has changed since this etag")
}

func (s *session) profileConsolidateCmd() *cobra.Command {
	var f rebaseFlags
	var remove bool
	c := s.outputFlag(&cobra.Command{
		Use: "consolidate KEEP OTHER...", Short: "Make one profile of several that are nearly equal",
		Long: `Give every binding of the other profiles the one that is kept, with the override that makes up the difference, under the name it has. All
of it is one edit, and it is refused unless each binding comes to exactly what it came to: launches that name a profile by its name get
what they got. Those that name one of the others by its id do not find it any more; the preview shows who did lately.`,
		Example: `  berm profile consolidate agent agent-east agent-west --delete
  berm profile consolidate agent agent-east agent-west --delete --apply`,
		Args: args(2, -1, "the profile to keep and those that become one with it"),
	})
	c.RunE = s.with(func(ctx context.Context, cl *client.Client, a []string) error {
		return s.rebase(ctx, cl, &f, client.Path("/berm/v1/profiles/%s/consolidate", a[0]), map[string]any{"others": a[1:], "delete": remove, "etag": f.etag})
	})
	c.Flags().BoolVar(&remove, "delete", false, "delete the others then")
	f.add(c, "profile that is kept")
	return c
}

func (s *session) profilePromoteCmd() *cobra.Command {
	var f rebaseFlags
	var everywhere bool
	c := s.outputFlag(&cobra.Command{
		Use: "promote RUNNER-ID BINDING NAME", Short: "Make a profile of its own of what a binding's override says",
		Long: `Make a profile named NAME of what the profile of a binding and its override say together, and give it to the binding, which keeps its own
name and has no override then. It is refused unless the binding comes to exactly what it came to.`,
		Example: `  berm profile promote east big agent-big --apply`,
		Args:    args(3, 3, "the id of a runner, the name of a binding and a name for the new profile"),
	})
	c.RunE = s.with(func(ctx context.Context, cl *client.Client, a []string) error {
		return s.rebase(ctx, cl, &f, bindingPath(a[0], a[1])+"/promote", map[string]any{"displayName": a[2], "everywhere": everywhere, "etag": f.etag})
	})
	c.Flags().BoolVar(&everywhere, "everywhere", false, "give it to every binding of the same profile with the same override, on all runners")
	f.add(c, "runner")
	return c
}

func (s *session) rebase(ctx context.Context, c *client.Client, f *rebaseFlags, path string, request map[string]any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fault.Internalf(err, "encode the request")
	}
	s.preview = !f.apply
	raw, err := s.write(ctx, c, "POST", path, body, reasonHeader(f.reason)...)
	if errors.Is(err, errPreviewed) && s.output != "json" && s.output != "yaml" {
		fmt.Fprintln(s.Err, "\nNothing was written. Make the edit with --apply.")
	}
	if err != nil {
		return err
	}
	s.warnings(raw)
	return s.emitRebase(raw)
}

func (s *session) emitRebase(raw json.RawMessage) error {
	var r struct {
		ProfileName string
		Bindings    []struct {
			RunnerID, Name, FromProfile, OverridesJSON string
			Pinned                                     []string
		}
		Deleted []string
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return fault.Internalf(err, "the answer is not JSON")
	}
	if s.output != "json" && s.output != "yaml" {
		defer func() {
			for _, b := range r.Bindings {
				if len(b.Pinned) > 0 {
					fmt.Fprintln(s.Err, clean(fmt.Sprintf("note: binding %s/%s states %s itself now, as the zone did: later edits of the zone do not show there",
						b.RunnerID, b.Name, strings.Join(b.Pinned, ", "))))
				}
			}
			for _, name := range r.Deleted {
				fmt.Fprintln(s.Err, clean("deleted profile "+name))
			}
		}()
	}
	return s.emit(raw, func() table {
		t := table{head: []string{"RUNNER", "BINDING", "PROFILE", "BEFORE", "OVERRIDE"}}
		for _, b := range r.Bindings {
			t.rows = append(t.rows, []string{b.RunnerID, b.Name, r.ProfileName, b.FromProfile, cmp.Or(b.OverridesJSON, "-")})
		}
		return t
	})
}
