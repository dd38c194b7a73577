package cli

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// historyCmds are the commands about the past of one kind of object. base is where its history is served.
func (s *session) historyCmds(kind, base string) []*cobra.Command {
	return []*cobra.Command{s.historyCmd(kind, base), s.diffCmd(kind, base), s.rollbackCmd(kind, base)}
}

func (s *session) historyCmd(kind, base string) *cobra.Command {
	return s.revisionsCmd(kind, base+"/%s/revisions", "List the revisions of a "+kind+": who changed it, when and why")
}

// revisionsCmd lists what is served at a path of a name.
func (s *session) revisionsCmd(kind, path, short string) *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "history " + strings.ToUpper(kind), Short: short,
		Args: args(1, 1, "the name or id of a "+kind),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			raw, err := listAll(ctx, c, client.Path(path, a[0]), "revisions")
			if err != nil {
				return err
			}
			items, err := objects(raw, false)
			if err != nil {
				return err
			}
			return s.emit(raw, func() table {
				t := table{head: []string{"REVISION", "WHEN", "BY", "REASON"}}
				for _, r := range items {
					why := pick(r, "reason")
					if pick(r, "deleted") == "true" {
						why = strings.TrimSpace("(deleted) " + why)
					}
					t.rows = append(t.rows, []string{pick(r, "revision"), localTime(pick(r, "at")), pick(r, "by"), why})
				}
				return t
			})
		}),
	})
}

func (s *session) diffCmd(kind, base string) *cobra.Command {
	upper := strings.ToUpper(kind)
	return s.outputFlag(&cobra.Command{
		Use: "diff " + upper + "[@REVISION] [OTHER[@REVISION]]", Short: "Say what changed between two revisions of a " + kind + ", or how two differ",
		Long: "Say field by field what changed. With one name: the last change. With NAME@REVISION: from that revision to the last. With two: from the\n" +
			"first to the second, which may be a revision of the same " + kind + " or another one.",
		Args: args(1, 2, "one or two of NAME, NAME@REVISION"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			from, revision, err := atRevision(a[0])
			if err != nil {
				return err
			}
			query := url.Values{}
			set := func(name string, n int) {
				if n > 0 {
					query.Set(name, strconv.Itoa(n))
				}
			}
			set("from", revision)
			if len(a) == 2 {
				other, to, err := atRevision(a[1])
				if err != nil {
					return err
				}
				query.Set("other_id", other)
				set("to", to)
			}
			raw, err := c.REST(ctx, "GET", client.Path(base+"/%s/diff", from)+"?"+query.Encode(), nil)
			if err != nil {
				return err
			}
			return s.emitDiff(raw)
		}),
	})
}

// atRevision reads NAME or NAME@REVISION.
func atRevision(text string) (name string, revision int, err error) {
	name, number, found := strings.Cut(text, "@")
	if !found {
		return name, 0, nil
	}
	revision, err = strconv.Atoi(number)
	if err != nil || revision < 1 || name == "" {
		return "", 0, fault.Invalidf("USAGE", "%q is none of NAME, NAME@REVISION; revisions count from 1", text)
	}
	return name, revision, nil
}

// fieldChange is one difference as the API tells it: absent and null differ.
type fieldChange struct {
	Path    string
	Old     json.RawMessage
	New     json.RawMessage
	Meaning string
}

func (s *session) emitDiff(raw json.RawMessage) error {
	var d struct{ Changes []fieldChange }
	if err := json.Unmarshal(raw, &d); err != nil {
		return fault.Internalf(err, "the answer is not JSON")
	}
	if len(d.Changes) == 0 && s.output != "json" && s.output != "yaml" {
		return s.report(nil, "nothing differs")
	}
	return s.emit(raw, func() table { return changeTable(d.Changes) })
}

func changeTable(list []fieldChange) table {
	t := table{head: []string{"FIELD", "OLD", "NEW", "MEANING"}}
	for _, c := range list {
		t.rows = append(t.rows, []string{c.Path, jsonCell(c.Old), jsonCell(c.New), c.Meaning})
	}
	return t
}

// jsonCell shows a value in a cell, text without its quotes; what is not there is a dash.
func jsonCell(raw json.RawMessage) string {
	var text string
	switch {
	case raw == nil:
		return "-"
	case json.Unmarshal(raw, &text) == nil && string(raw) != "null":
		return short(text)
	}
	return short(string(raw))
}

func (s *session) rollbackCmd(kind, base string) *cobra.Command {
	var reason, etag string
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "rollback " + strings.ToUpper(kind) + " REVISION", Short: "Make an earlier revision of a " + kind + " the current one again",
		Long: "Make the content of an earlier revision that of a new one. It is checked as if it were written now: what it refers to may be gone.",
		Args: args(2, 2, "the name of a "+kind+" and the number of a revision"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			revision, err := strconv.Atoi(a[1])
			if err != nil || revision < 1 {
				return fault.Invalidf("USAGE", "%q is no revision; they count from 1", a[1]).WithHint("berm %s history %s lists them", kind, a[0])
			}
			body, err := json.Marshal(map[string]any{"revision": revision, "etag": etag})
			if err != nil {
				return fault.Internalf(err, "encode the request")
			}
			raw, err := s.write(ctx, c, "POST", client.Path(base+"/%s/rollback", a[0]), body, reasonHeader(reason)...)
			if err != nil {
				return err
			}
			s.warnings(raw)
			n, err := answer(raw)
			if err != nil {
				return err
			}
			if s.output == "json" || s.output == "yaml" {
				return s.emitJSON(raw)
			}
			return s.report(nil, "%s %s is as in revision %d again, at revision %s", kind, a[0], revision, textAt(n, "revision", "revision"))
		}),
	}))
	c.Flags().StringVar(&reason, "reason", "", "why, kept with the revision; default: that it is a rollback")
	c.Flags().StringVar(&etag, "etag", "", "refuse when the "+kind+" has changed since this etag")
	return c
}

// reasonHeader carries why a change is made, nil for no reason.
func reasonHeader(reason string) []string {
	if reason == "" {
		return nil
	}
	return []string{"X-Berm-Reason", url.QueryEscape(reason)}
}
