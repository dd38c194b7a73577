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
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

const profilesPath = "/v1beta2/sandbox/profile-templates"

const profileTemplate = `# A profile says what a sandbox may be. docs/fields.md lists every field.
display_name: agent          # unique, cannot be changed later
description: ""
labels: {}
spec:
  container_image: host
  resource_defaults: {cpu_request: 100m, memory_request: 128Mi, cpu_limit: "1", memory_limit: 1Gi}
  network:
    egress:
      default: none
      modes: {none: {type: none}}
`

func (s *session) profileCmd() *cobra.Command {
	return noun("profile", "Profiles: what a sandbox may be",
		append(s.historyCmds("profile", "/berm/v1/profiles"), s.profileCreateCmd(), s.profileGetCmd(), s.profileListCmd(), s.profileEditCmd(), s.profileDeleteCmd(), s.profileConsolidateCmd(), s.profilePromoteCmd(), s.profileTestCmd(), s.profileTestsCmd())...)
}

func (s *session) profileCreateCmd() *cobra.Command {
	var name string
	var template bool
	var flags profileFlags
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "create [NAME] [-f FILE]", Short: "Create a profile",
		Long: `Create a profile, of a file or of flags. At a terminal what they do not say is asked for, shown with what it would do, and made when that
is agreed to; the command that would have said the same is printed. Nothing is asked where NAME and something about the profile are
given, with --no-input, and without a terminal.`,
		Example: `  berm profile create
  berm profile create agent --set container_image=python:3.11 --set resource_defaults.memory_limit=1Gi
  berm profile create -f agent.yaml`,
		Args: args(0, 1, "the name of the new profile, or none"),
		RunE: func(cmd *cobra.Command, a []string) error {
			if template {
				fmt.Fprint(s.Out, profileTemplate)
				return nil
			}
			if name == "" {
				return s.with(func(ctx context.Context, c *client.Client, a []string) error {
					return s.createProfile(ctx, c, cmd, &flags, strings.Join(a, ""))
				})(cmd, a)
			}
			if len(a) > 0 {
				return fault.Invalidf("USAGE", "the file of -f has the name of the profile: leave %s out", a[0])
			}
			f, err := s.readKind("profile", name)
			if err != nil {
				return err
			}
			if err := checkProfile(f); err != nil {
				return f.show(err)
			}
			return s.with(func(ctx context.Context, c *client.Client, _ []string) error {
				raw, err := s.write(ctx, c, "POST", profilesPath, wrap("profileTemplate", f.root))
				if err != nil {
					return f.show(err)
				}
				return s.emitProfiles(raw, true)
			})(cmd, a)
		},
	}))
	c.Flags().StringVarP(&name, "file", "f", "", "YAML or JSON file, - for standard input")
	c.Flags().BoolVar(&template, "print-template", false, "print a commented example and stop")
	flags.add(c)
	s.askingFlags(c)
	return c
}

func (s *session) profileGetCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "get NAME", Short: "Show a profile as a file for edit -f; -o json and yaml have all of it", Args: args(1, 1, "the name or id of a profile"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			raw, err := getProfile(ctx, c, a[0])
			if err != nil {
				return err
			}
			return s.showObject(expandSpec(raw), func() ([]byte, error) { return profileDocument(raw) })
		}),
	})
}

func (s *session) profileListCmd() *cobra.Command {
	var selector string
	c := s.outputFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List profiles", Args: args(0, 0, "no arguments"),
		Example: `  berm profile ls -l 'team=ml,stage!=old'`,
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			raw, err := listAll(ctx, c, withQuery(profilesPath, "labelSelector", selector), "profileTemplates")
			if err != nil {
				return err
			}
			return s.emitProfiles(raw, false)
		}),
	})
	c.Flags().StringVarP(&selector, "selector", "l", "", "only those whose labels this selects, as in Kubernetes: team=ml,stage!=old")
	return c
}

func (s *session) profileEditCmd() *cobra.Command {
	var name, reason, etag string
	var yes, editor bool
	var flags profileFlags
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "edit NAME [-f FILE]", Short: "Change a profile, for the next launch on every runner that binds it",
		Long: `Change a profile, for the next launch on every runner that binds it. What the file names at its top level (description, labels, spec)
is replaced by what the file says; a spec that drops fields is asked about first, unless an editor dropped them. --set, --clear and
--inherit change single fields of the spec.

Without any of them it is asked, at a terminal, what is to change; what that would do is shown before it is made. --editor opens the
profile as a file in an editor instead, as it is elsewhere.`,
		Example: `  berm profile edit agent
  berm profile edit agent --set resource_defaults.memory_limit=2Gi --preview
  berm profile edit agent -f agent.yaml --reason "more room for compilers"`,
		Args: args(1, 1, "the name or id of a profile"),
	}))
	c.RunE = s.with(func(ctx context.Context, cl *client.Client, a []string) (err error) {
		old, err := getProfile(ctx, cl, a[0])
		if err != nil {
			return err
		}
		ask, err := s.asks(name != "" || editor || flags.given(c))
		if err != nil {
			return err
		}
		if !ask && name == "" && !editor && !flags.given(c) && s.asking.never {
			return fault.Invalidf("USAGE", "say what is to change: --set, --description and the like, or -f FILE")
		}
		if ask || flags.given(c) {
			return s.editProfile(ctx, cl, c, &flags, old, ask, reason, etag)
		}
		f, err := s.readEdit(ctx, "profile", name, a[0], func() ([]byte, error) { return profileDocument(old) })
		if err != nil {
			return err
		}
		defer s.done(f, &err)
		if err := checkProfile(f); err != nil {
			return f.show(err)
		}
		var have map[string]any
		if err := json.Unmarshal(old, &have); err != nil {
			return fault.Internalf(err, "the answer is not JSON")
		}
		if etag == "" && f.root.Get("etag") == nil { // what was compared, or shown in the editor, is what is changed
			etag = pick(have, "etag")
		}
		if err := sameIdentity(f.root, have, "id"); err != nil {
			return f.show(err)
		}
		if err := sameIdentity(f.root, have, "display_name"); err != nil {
			return f.show(err)
		}
		if gone := dropped(old, f.root); len(gone) > 0 && name != "" && !yes {
			if err := s.confirm(fmt.Sprintf("This drops %d field(s) from the spec of profile %s: %s.", len(gone), a[0], strings.Join(gone, ", "))); err != nil {
				return err
			}
		}
		raw, err := s.patch(ctx, cl, profilesPath+"/"+pick(have, "id"), "profileTemplate", without(f.root, "id", "display_name", "displayName"), reason, etag, wholeFields(f.root))
		if err != nil {
			return f.show(err)
		}
		s.warnings(raw)
		return s.emitProfiles(raw, true)
	})
	editFlags(c, &name, &reason, &etag, &yes)
	c.Flags().BoolVar(&editor, "editor", false, "open the profile in an editor")
	flags.add(c)
	s.askingFlags(c)
	exclusive(c, "editor", "file", "description", "label", "set", "clear", "inherit", "ask", "interactive")
	return c
}

// wholeFields is the mask of an edit: each field that the file has is replaced as a whole, so that what is not in the file any more is
// not in the profile either. Without a mask the server would change what the file has and keep the rest.
func wholeFields(n *tree.Node) string {
	var mask []string
	for _, field := range []string{"description", "labels", "spec"} {
		if n.Get(field) != nil {
			mask = append(mask, field)
		}
	}
	return strings.Join(mask, ",")
}

// dropped lists the fields of a spec that the new one does not have. nil when the file has no spec, or one that will be refused.
func dropped(old json.RawMessage, n *tree.Node) []string {
	have, err := tree.ParseJSON(expandSpec(old))
	if err != nil || n.Get("spec") == nil || have.Get("spec") == nil {
		return nil
	}
	before, err := spec.DecodeLayer(have.Get("spec"), "spec")
	if err != nil {
		return nil
	}
	after, err := spec.DecodeLayer(n.Get("spec"), "spec")
	if err != nil {
		return nil
	}
	var gone []string
	for _, c := range spec.Diff(before, after) {
		if c.NewState == spec.Absent {
			gone = append(gone, c.Path)
		}
	}
	return gone
}

func (s *session) profileDeleteCmd() *cobra.Command {
	var reason string
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "delete NAME", Aliases: []string{"rm"}, Short: "Delete a profile that no runner binds", Args: args(1, 1, "the name or id of a profile"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			raw, err := getProfile(ctx, c, a[0])
			if err != nil {
				return err
			}
			var p map[string]any
			if err := json.Unmarshal(raw, &p); err != nil {
				return fault.Internalf(err, "the answer is not JSON")
			}
			if _, err := s.write(ctx, c, "DELETE", profilesPath+"/"+pick(p, "id"), nil, reasonHeader(reason)...); err != nil {
				return err
			}
			return s.report(map[string]string{"id": pick(p, "id"), "displayName": pick(p, "displayName")}, "profile %s deleted", pick(p, "displayName"))
		}),
	}))
	reasonFlag(c, &reason)
	return c
}

func (s *session) emitProfiles(raw json.RawMessage, one bool) error {
	items, err := objects(raw, one)
	if err != nil {
		return err
	}
	return s.emit(raw, func() table {
		t := table{head: []string{"NAME", "ID", "REVISION", "IMAGE", "UPDATED"}, wide: []string{"DESCRIPTION", "LABELS"}}
		for _, p := range items {
			t.rows = append(t.rows, []string{pick(p, "displayName"), pick(p, "id"), pick(p, "revision"), pick(p, "spec", "containerImage"), localTime(pick(p, "updatedAt")),
				pick(p, "description"), pick(p, "labels")})
		}
		return t
	})
}

// checkProfile decodes a profile file on this side, so that errors have a line and a column.
func checkProfile(f *file) error {
	known := []string{"display_name", "description", "id", "labels", "spec", "etag"}
	if p := unknownKeys(f.root, "", known); p.Len() > 0 {
		return p.Err("the profile cannot be used")
	}
	if n := f.root.Get("spec"); n != nil {
		if _, err := spec.DecodeLayer(n, "spec"); err != nil {
			return err
		}
	}
	return nil
}

// unknownKeys notes the keys of an object at a path that are not among the known ones.
func unknownKeys(n *tree.Node, at string, known []string) *tree.Problems {
	var p tree.Problems
	for _, k := range n.Keys {
		if !slices.ContainsFunc(known, func(name string) bool { return k.Name == name || k.Name == tree.Camel(name) }) {
			path := k.Name
			if at != "" {
				path = at + "." + k.Name
			}
			p.Unknown(k, path, known, "")
		}
	}
	return &p
}

// getProfile finds a profile by id, else by name.
func getProfile(ctx context.Context, c *client.Client, name string) (json.RawMessage, error) {
	return c.REST(ctx, "GET", client.Path(profilesPath+"/%s", name), nil)
}

func editFlags(c *cobra.Command, name, reason, etag *string, yes *bool) {
	c.Flags().StringVarP(name, "file", "f", "", "YAML or JSON file with the fields to change, - for standard input")
	reasonFlag(c, reason)
	c.Flags().StringVar(etag, "etag", "", "refuse when the object has changed since this etag")
	c.Flags().BoolVar(yes, "yes", false, "do not ask before something is dropped")
}

// sameIdentity refuses a file that would rename the object.
func sameIdentity(n *tree.Node, have map[string]any, name string) error {
	v, is := field(n, name), pick(have, tree.Camel(name))
	if v == nil || v.Text == is {
		return nil
	}
	e := fault.Invalidf(fault.ReasonFieldImmutable, "%s cannot be changed", name)
	e.Fields = []fault.Field{{Path: name, Description: fmt.Sprintf("is %q and cannot become %q", is, strings.TrimSpace(v.Text)), Line: v.Line, Column: v.Col}}
	return e
}
