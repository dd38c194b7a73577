package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/specfile"
)

func (s *session) importCmd() *cobra.Command {
	var f applyFlags
	var dir string
	var apply, strict bool
	c := s.outputFlag(&cobra.Command{
		Use: "import FILE|DIR|-...", Short: "Make documents of profile templates and managed runners of the hosted service",
		Long: `Make documents for apply of profile templates and managed runners as the hosted service answers them, as requests to it have them, or as
files of its command line do: YAML or JSON, single objects, lists, pages of lists. Nothing is asked of that service.

The report says of each field whether it was kept, changed (from what to what, and why), or is unsupported here, and then what it means
that it is left out. Ids, times and states are no configuration and are left behind. -o wide has the fields that were kept, too.`,
		Example: `  curl … /v1beta2/sandbox/profile-templates >profiles.json
  berm import profiles.json runners.json --dir fleet --strict
  berm import profiles.json runners.json --apply --plan`,
		Args: args(1, -1, "files or directories, or - for standard input"),
		RunE: func(cmd *cobra.Command, a []string) error {
			if dir != "" && apply {
				return fault.Invalidf("USAGE", "--dir and --apply exclude each other").WithHint("Write the directory, then: berm apply -f DIR")
			}
			im, err := s.imported(a)
			if err != nil {
				return err
			}
			unsupported := slices.ContainsFunc(im.report, func(r imported) bool { return r.Outcome == importUnsupported })
			if strict && unsupported {
				s.showReport(im)
				fmt.Fprintln(s.Err, "Nothing was written, since not everything can be.")
				return &exitError{exitFindings}
			}
			switch {
			case apply:
				s.showReport(im)
				docs, err := im.documents()
				if err != nil {
					return err
				}
				return s.with(func(ctx context.Context, c *client.Client, _ []string) error { return s.apply(ctx, c, docs, &f) })(cmd, nil)
			case dir != "":
				s.showReport(im)
				return s.exportTo(dir, im.all)
			}
			return s.emitImport(im)
		},
	})
	c.Flags().StringVar(&dir, "dir", "", "write DIR/profiles and DIR/runners, a file for each object")
	c.Flags().BoolVar(&apply, "apply", false, "apply the documents, as apply does, after showing what that changes")
	c.Flags().BoolVar(&strict, "strict", false, "write nothing, and exit with 10, when something is unsupported")
	f.add(c)
	return c
}

// imported reads the files. Profiles come first: bindings have their names.
func (s *session) imported(names []string) (*importer, error) {
	r, err := s.readObjects(names)
	if err != nil {
		return nil, err
	}
	im := &importer{names: map[string]string{}, taken: map[string]bool{}, seen: map[string]string{}, pages: map[string]bool{}}
	var all []source
	files := map[string]*file{}
	var broken []error
	for _, f := range r.files {
		files[f.name] = f
		list, err := specfile.ParseAll(f.data, maxObjects)
		if err != nil {
			broken = append(broken, f.among(broken, named(f.name, err)))
		}
		for _, n := range list {
			found, err := im.sources(f.name, n)
			if err != nil {
				broken = append(broken, f.among(broken, err))
			}
			all = append(all, found...)
		}
	}
	for _, kind := range []string{"profile", "runner"} {
		for _, src := range all {
			if src.kind != kind {
				continue
			}
			im.file = src.file
			read := im.profile
			if kind == "runner" {
				read = im.runner
			}
			if err := read(src.n); err != nil {
				broken = append(broken, files[src.file].among(broken, err))
			}
		}
	}
	for _, key := range []string{"profile_templates", "runners", "managed_runners"} {
		if last, seen := im.pages[key]; seen && !last {
			im.file, im.object = "", "list of "+key
			im.say(importUnsupported, "next_page_token", "", "", "the last page of the list is in none of the files: what is on it is not imported")
		}
	}
	return im, together(broken)
}

// showReport shows what became of the fields.
func (s *session) showReport(im *importer) {
	out := s.Out
	s.Out = s.Err
	defer func() { s.Out = out }()
	if t := described(im.report, s.output == "wide"); len(t.rows) > 0 {
		s.table(t)
		fmt.Fprintln(s.Err)
	}
	count := map[string]int{}
	for _, r := range im.report {
		count[r.Outcome]++
	}
	fmt.Fprintf(s.Err, "%s: %d fields kept, %d changed, %d unsupported; %d of state left behind\n", counted(len(im.all), "object"), count[importKept], count[importChanged], count[importUnsupported], count[importState])
	for _, o := range im.all {
		if o.kind == "runner" {
			fmt.Fprintln(s.Err, "note: defaults of zones are not in the API of the hosted service: put them by hand, where runners are to have other than the built-in ones")
			break
		}
	}
}

func (s *session) emitImport(im *importer) error {
	if s.output != "json" && s.output != "yaml" {
		s.showReport(im)
		return s.exportOut(im.all)
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, o := range im.all {
		list.Content = append(list.Content, o.body)
	}
	documents := []any{}
	if err := list.Decode(&documents); err != nil {
		return fault.Internalf(err, "cannot show the objects")
	}
	return s.emit(map[string]any{"documents": documents, "report": append([]imported{}, im.report...)}, nil)
}

// documents reads what was made as apply reads files.
func (im *importer) documents() ([]*objectDoc, error) {
	var docs []*objectDoc
	for _, o := range im.all {
		text, err := o.text()
		if err != nil {
			return nil, err
		}
		f := &file{name: o.kind + " " + o.name, data: text}
		if f.root, err = specfile.Parse(bytes.TrimSpace(text)); err != nil {
			return nil, f.show(err)
		}
		d, err := readDocument(f)
		if err != nil {
			return nil, f.show(err)
		}
		docs = append(docs, d)
	}
	return docs, nil
}
