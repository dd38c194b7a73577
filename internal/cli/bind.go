package cli

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

func bindingsPath(runner string) string { return client.Path("/berm/v1/runners/%s/bindings", runner) }

func bindingPath(runner, name string) string {
	return bindingsPath(runner) + client.Path("/%s", name)
}

// bindFlags say what a binding is to be.
type bindFlags struct {
	profile, rename, overrides string
	fields                     fieldFlags
	isDefault                  bool
	warm                       int32
	reason, etag               string
}

func (s *session) runnerBindCmd() *cobra.Command {
	var f bindFlags
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "bind RUNNER-ID BINDING", Short: "Attach a profile to a runner, or change how it is attached",
		Long: `Attach a profile to a runner, or change how it is attached. BINDING is the name that launches select; a new binding is of the profile of
that name, unless --profile names another one. The other bindings stay as they are.

An override says what differs on this runner alone. --overrides replaces it as a whole; --set, --clear and --inherit change single
fields of what is there: --clear states that the field has no value, --inherit that nothing is stated here any more.`,
		Example: `  berm runner bind east agent --set resource_defaults.memory_limit=2Gi
  berm runner bind east big --profile agent --overrides big.yaml --default`,
		Args: args(2, 2, "the id of a runner and the name of a binding"),
	}))
	c.RunE = s.with(func(ctx context.Context, cl *client.Client, a []string) error {
		raw, err := cl.REST(ctx, "GET", client.Path(runnersPath+"/%s", a[0]), nil)
		if err != nil {
			return err
		}
		have, etag, err := bindingOf(raw, a[1])
		if err != nil {
			return err
		}
		body, mask, err := s.bindingBody(ctx, cl, c, &f, a[1], have)
		if err != nil {
			return err
		}
		request := map[string]any{"binding": body, "etag": first(f.etag, etag)}
		method, path := "POST", bindingsPath(a[0])
		if have != nil {
			if len(mask) == 0 {
				return fault.Invalidf("UNCHANGED", "runner %s has binding %s, and nothing is to be changed", a[0], a[1]).
					WithHint("say what: --set, --clear, --inherit, --overrides, --profile, --rename, --default or --warm")
			}
			request["updateMask"] = strings.Join(mask, ",")
			method, path = "PATCH", bindingPath(a[0], a[1])
		}
		return s.sendBinding(ctx, cl, method, path, request, f.reason)
	})
	c.Flags().StringVar(&f.profile, "profile", "", "name or id of the profile; default: that of the binding's name")
	c.Flags().StringVar(&f.rename, "rename", "", "another name for a binding that is there")
	c.Flags().StringVar(&f.overrides, "overrides", "", "YAML or JSON file with the override, - for standard input")
	f.fields.add(c, "the override")
	c.Flags().BoolVar(&f.isDefault, "default", false, "launches that name no profile get this one")
	c.Flags().Int32Var(&f.warm, "warm", 0, "sandboxes to keep prepared")
	stateFlags(c, &f.reason, &f.etag)
	exclusive(c, "overrides", "set", "clear", "inherit")
	return c
}

func stateFlags(c *cobra.Command, reason, etag *string) {
	reasonFlag(c, reason)
	c.Flags().StringVar(etag, "etag", "", "refuse when the runner has changed since this etag")
}

func reasonFlag(c *cobra.Command, reason *string) {
	c.Flags().StringVar(reason, "reason", "", "why, kept with the revision")
}

// bindingOf returns a binding of a runner by its name, nil when there is none, and the state that the runner is in.
func bindingOf(raw json.RawMessage, name string) (*tree.Node, string, error) {
	n, err := answer(raw)
	if err != nil {
		return nil, "", err
	}
	if list := n.Get("profileBindings"); list != nil {
		for _, b := range list.Items {
			if textAt(b, "profileName") == name {
				return b, textAt(n, "etag"), nil
			}
		}
	}
	return nil, textAt(n, "etag"), nil
}

// bindingBody returns what the flags say about a binding, and for one that is there which fields they change.
func (s *session) bindingBody(ctx context.Context, cl *client.Client, c *cobra.Command, f *bindFlags, name string, have *tree.Node) (body map[string]any, mask []string, err error) {
	body = map[string]any{}
	put := func(field string, v any) { body[tree.Camel(field)], mask = v, append(mask, field) }
	profile := f.profile
	if have == nil && profile == "" {
		profile = name
	}
	if profile != "" {
		raw, err := getProfile(ctx, cl, profile)
		if err != nil {
			if have == nil && f.profile == "" && fault.Is(err, fault.NotFound) {
				err = fault.From(err).Clone().WithHint("a new binding of another name than its profile needs --profile")
			}
			return nil, nil, err
		}
		var p struct{ ID, DisplayName string }
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, nil, fault.Internalf(err, "the answer is not JSON")
		}
		put("profile_template_id", p.ID)
		if have == nil && name != p.DisplayName {
			put("profile_name", name)
		}
	}
	if f.rename != "" {
		if have == nil {
			return nil, nil, fault.NotFoundf(fault.ReasonBindingNotFound, "there is no binding %s to give another name", name)
		}
		put("profile_name", f.rename)
	}
	if f.isDefault {
		put("is_default", true)
	}
	if c.Flags().Changed("warm") {
		put("warm", map[string]any{"size": f.warm})
	}
	layer, changed, err := s.override(f, have)
	if err == nil && changed {
		put("overrides_json", string(layer))
	}
	return body, mask, err
}

// override returns the text of layer 3 that the flags ask for, and whether they ask for any.
func (s *session) override(f *bindFlags, have *tree.Node) ([]byte, bool, error) {
	if f.overrides != "" {
		file, err := s.readFile(f.overrides)
		if err != nil {
			return nil, false, err
		}
		layer, err := spec.DecodeLayer(file.root, "overrides")
		if err != nil {
			return nil, false, file.show(err)
		}
		return layer.WireJSON(), true, nil
	}
	if !f.fields.given() {
		return nil, false, nil
	}
	var layer *spec.Layer
	if text := textAt(have, "overridesJson"); text != "" {
		var err error
		if layer, err = spec.ParseLayer([]byte(text)); err != nil {
			return nil, false, err
		}
	}
	next, err := f.fields.edit(layer)
	if err != nil {
		return nil, false, err
	}
	if len(next.Leaves()) == 0 {
		return nil, true, nil
	}
	return next.WireJSON(), true, nil
}

func (s *session) sendBinding(ctx context.Context, c *client.Client, method, path string, request any, reason string) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fault.Internalf(err, "encode the request")
	}
	if method == "DELETE" {
		body = nil
	}
	raw, err := s.write(ctx, c, method, path, body, reasonHeader(reason)...)
	if err != nil {
		return err
	}
	s.warnings(raw)
	return s.emitRunners(raw, true, nil)
}

func (s *session) runnerUnbindCmd() *cobra.Command {
	var next, reason, etag string
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "unbind RUNNER-ID BINDING", Short: "Detach a profile from a runner; sandboxes that run go on", Args: args(2, 2, "the id of a runner and the name of a binding"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			query := url.Values{}
			if next != "" {
				query.Set("new_default", next)
			}
			if etag != "" {
				query.Set("etag", etag)
			}
			return s.sendBinding(ctx, c, "DELETE", bindingPath(a[0], a[1])+"?"+query.Encode(), nil, reason)
		}),
	}))
	c.Flags().StringVar(&next, "new-default", "", "binding that becomes the default in place of this one")
	stateFlags(c, &reason, &etag)
	return c
}

func (s *session) runnerSetDefaultCmd() *cobra.Command {
	var reason, etag string
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "set-default RUNNER-ID BINDING", Short: "Say which profile launches get that name none", Args: args(2, 2, "the id of a runner and the name of a binding"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			return s.sendBinding(ctx, c, "POST", bindingPath(a[0], a[1])+":set-default", map[string]string{"etag": etag}, reason)
		}),
	}))
	stateFlags(c, &reason, &etag)
	return c
}
