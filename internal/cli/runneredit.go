package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

func (s *session) runnerEditCmd() *cobra.Command {
	var name, reason, etag string
	var yes, editor bool
	var flags runnerSetFlags
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "edit RUNNER-ID [-f FILE]", Short: "Change a runner; the list of bindings is replaced as a whole",
		Long: `Change a runner. What the file names at its top level (display_name, identity, managed_spec, profile_bindings) is replaced by what the
file says. What that drops, bindings above all, is asked about first; fields that an editor dropped are not. Flags change single things.

Without any of them it is asked, at a terminal, what is to change; what that would do is shown before it is made. --editor opens the
runner as a file in an editor instead, as it is elsewhere.`,
		Example: `  berm runner edit east
  berm runner edit east --group onprem --bind big --default big --preview
  berm runner edit east -f east.yaml`,
		Args: args(1, 1, "the id of a runner"),
	}))
	c.RunE = s.with(func(ctx context.Context, cl *client.Client, a []string) (err error) {
		path := client.Path(runnersPath+"/%s", a[0])
		raw, err := cl.REST(ctx, "GET", path, nil)
		if err != nil {
			return err
		}
		old, err := answer(raw)
		if err != nil {
			return err
		}
		ask, err := s.asks(name != "" || editor || flags.given(c))
		if err != nil {
			return err
		}
		if !ask && name == "" && !editor && !flags.given(c) && s.asking.never {
			return fault.Invalidf("USAGE", "say what is to change: --bind, --group and the like, or -f FILE")
		}
		if ask || flags.given(c) {
			return s.editRunner(ctx, cl, c, &flags, old, ask, reason, etag)
		}
		f, err := s.readEdit(ctx, "runner", name, a[0], func() ([]byte, error) { return s.runnerFile(ctx, cl, raw) })
		if err != nil {
			return err
		}
		defer s.done(f, &err)
		if etag == "" && f.root.Get("etag") == nil { // what was compared, or shown in the editor, is what is changed
			etag = textAt(old, "etag")
		}
		if p := unknownKeys(f.root, "", []string{"display_name", "identity", "managed_spec", "profile_bindings", "etag"}); p.Len() > 0 {
			return f.show(p.Err("the runner cannot be used"))
		}
		body, err := wireRunner(ctx, cl, f.root)
		if err != nil {
			return f.show(err)
		}
		if !yes {
			if err := s.confirmRunner(a[0], raw, old, body, name == ""); err != nil {
				return err
			}
		}
		raw, err = s.patch(ctx, cl, path, "runner", body, reason, etag, runnerMask(body, old, name == ""))
		if err != nil {
			return f.show(err)
		}
		s.warnings(raw)
		return s.emitRunners(raw, true, nil)
	})
	editFlags(c, &name, &reason, &etag, &yes)
	c.Flags().BoolVar(&editor, "editor", false, "open the runner in an editor")
	flags.add(c, false)
	s.askingFlags(c)
	exclusive(c, "editor", "file", "interactive")
	return c
}

// confirmRunner asks before an edit drops something.
func (s *session) confirmRunner(id string, raw json.RawMessage, old, body *tree.Node, edited bool) error {
	var questions []string
	if gone := removed(raw, body); len(gone) > 0 {
		questions = append(questions, fmt.Sprintf("This removes %d binding(s) from runner %s: %s.", len(gone), id, strings.Join(gone, ", ")))
	}
	if gone := droppedOfRunner(body, old); len(gone) > 0 && !edited {
		questions = append(questions, fmt.Sprintf("This drops %d field(s) of runner %s: %s.", len(gone), id, strings.Join(gone, ", ")))
	}
	if len(questions) == 0 {
		return nil
	}
	return s.confirm(strings.Join(questions, " "))
}

// runnerMask is the mask of an edit: each field that the file has is replaced as a whole, so that what is not in the file any more
// is not in the runner either. Of the identity, most of which cannot be changed, it is what differs. From an editor, which has shown
// all there was, the whole fields that are missing are cleared, too.
func runnerMask(n, old *tree.Node, edited bool) string {
	var mask []string
	for _, name := range []string{"display_name", "managed_spec", "profile_bindings"} {
		had := old.Get(tree.Camel(name))
		if field(n, name) != nil || edited && had != nil && prunedField(had, (&v1beta2pb.Runner{}).ProtoReflect().Descriptor().Fields().ByJSONName(tree.Camel(name))) != nil {
			mask = append(mask, name)
		}
	}
	identity := field(n, "identity")
	if identity == nil {
		return strings.Join(mask, ",")
	}
	for _, name := range []string{"runner_id", "cluster_id", "cluster_name", "zone", "runner_group_id"} {
		now, had := field(identity, name), textAt(old, "identity", tree.Camel(name))
		switch {
		case now != nil && now.Text != had, now == nil && had != "" && name == "runner_group_id":
			mask = append(mask, "identity."+name)
		}
	}
	return strings.Join(mask, ",")
}

// stableChannel is what a runner that names no release channel has.
const stableChannel = "RELEASE_CHANNEL_STABLE"

// droppedOfRunner lists the fields of a runner that have a value and are missing from what a file says in their place.
func droppedOfRunner(n, old *tree.Node) []string {
	var gone []string
	if now, had := field(n, "managed_spec"), old.Get("managedSpec"); now != nil && had != nil {
		md := (&v1beta2pb.ManagedRunnerSpec{}).ProtoReflect().Descriptor()
		gone = missing(pruned(had, md), now, md, "managed_spec")
	}
	if now := field(n, "identity"); now != nil && textAt(old, "identity", "runnerGroupId") != "" && field(now, "runner_group_id") == nil {
		gone = append(gone, "identity.runner_group_id")
	}
	return gone
}

// missing lists the fields of a message that one object has and the other has not.
func missing(had, now *tree.Node, md protoreflect.MessageDescriptor, at string) []string {
	if had == nil {
		return nil
	}
	var gone []string
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		h, n := had.Get(fd.JSONName()), field(now, string(fd.Name()))
		path := tree.Join(at, string(fd.Name()))
		switch {
		case h == nil || h.Text == stableChannel:
		case n == nil || n.Kind == tree.Null:
			gone = append(gone, path)
		case h.Kind == tree.Object && n.Kind == tree.Object && messageOf(fd) != nil:
			gone = append(gone, missing(h, n, messageOf(fd), path)...)
		}
	}
	return gone
}

// removed lists the bindings that a new list leaves out, by name, else by profile.
func removed(old json.RawMessage, n *tree.Node) []string {
	list := field(n, "profile_bindings")
	var have struct {
		Bindings []struct {
			ID   string `json:"profileTemplateId"`
			Name string `json:"profileName"`
		} `json:"profileBindings"`
	}
	if list == nil || json.Unmarshal(old, &have) != nil {
		return nil
	}
	text := func(b *tree.Node, name string) string {
		if v := field(b, name); v != nil {
			return v.Text
		}
		return ""
	}
	var gone []string
	for _, h := range have.Bindings {
		kept := slices.ContainsFunc(list.Items, func(b *tree.Node) bool {
			id, name := text(b, "profile_template_id"), text(b, "profile_name")
			return (name != "" && name == h.Name) || (name == "" && id == h.ID)
		})
		if !kept {
			gone = append(gone, first(h.Name, h.ID))
		}
	}
	return gone
}
