package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/cli/wizard"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/specfile"
)

// profileWizard asks for a profile: for all of a new one, for what changes of one that is there.
type profileWizard struct {
	flags *profileFlags
	cmd   *cobra.Command
	// from is the profile as it is, empty for a new one; next is what the answers make of it.
	from, next *profileState
	// reason is why one that is there is changed.
	reason string
	// taken are the names that a new profile cannot have.
	taken []string
	// asksName, and what of the rest was said by flags already.
	asksName bool
	given    []string
}

// newProfileWizard begins with the state that is there and with what the flags make of it. Without a state it is a new profile, for
// which the example of --print-template is offered.
func newProfileWizard(cmd *cobra.Command, f *profileFlags, from *profileState, name string) (*profileWizard, error) {
	w := &profileWizard{flags: f, cmd: cmd, from: from, asksName: name == ""}
	offered := from
	if from.id == "" {
		n, err := specfile.Parse([]byte(profileTemplate))
		if err != nil {
			return nil, fault.Internalf(err, "the example of a profile")
		}
		layer, err := spec.DecodeLayer(n.Get("spec"), "spec")
		if err != nil {
			return nil, fault.Internalf(err, "the example of a profile")
		}
		offered = &profileState{name: name, labels: map[string]string{}, spec: layer}
	}
	for _, s := range slices.Concat(f.fields.set, f.fields.clear, f.fields.inherit) {
		path, _, _ := strings.Cut(s, "=")
		if field, _, ok := spec.ByPath(path); ok {
			w.given = append(w.given, field.Path)
		}
	}
	var err error
	w.next, err = f.apply(cmd, offered)
	return w, err
}

// ask asks, the second time with the answers of the first.
func (w *profileWizard) ask(ctx context.Context, t *wizard.Terminal) error {
	name := &wizard.Prompt{Flag: "NAME", Title: "Name of the profile", Doc: "Unique, and cannot be changed later.", Example: "agent", Answer: w.next.name, Check: w.checkName}
	description := &wizard.Prompt{Flag: "--description", Title: "Description", Doc: "What the profile is for.", Answer: w.next.description}
	labels := &wizard.Prompt{Flag: "--label KEY=VALUE", Title: "Labels", Doc: "To find the profile by.", Example: "team=ml,stage=prod", Answer: labelsAnswer(w.next.labels), Check: func(a string) error {
		_, err := labelsOf(a)
		return err
	}}
	parts := partsPrompt(w.next.spec)
	var first []*wizard.Prompt
	for _, p := range []struct {
		prompt *wizard.Prompt
		asked  bool
	}{
		{name, w.asksName}, {description, !w.cmd.Flags().Changed("description")}, {labels, len(w.flags.labels) == 0}, {parts, len(w.flags.ask) == 0},
	} {
		if p.asked {
			first = append(first, p.prompt)
		}
	}
	if err := t.Ask(ctx, first); err != nil {
		return err
	}
	chosen := w.flags.ask
	if len(chosen) == 0 {
		chosen = answeredNames(parts.Answer)
	}
	asked, err := labelsOf(labels.Answer)
	if err != nil {
		return err
	}
	w.next.name, w.next.description, w.next.labels = name.Answer, description.Answer, asked
	fields := newSpecPrompts(w.next.spec, chosen, w.given)
	reason := &wizard.Prompt{Flag: "--reason", Title: "Reason", Doc: "Why, kept with the revision.", Answer: w.reason}
	last := fields.prompts
	if w.from.id != "" && !w.cmd.Flags().Changed("reason") {
		last = append(last, reason)
	}
	if err := t.Ask(ctx, last); err != nil {
		return err
	}
	w.reason = reason.Answer
	layer, err := fields.whole()
	if err != nil {
		return err
	}
	w.next.spec = layer
	return nil
}

func (w *profileWizard) checkName(name string) error {
	if err := nameProblem(name); err != nil {
		return err
	}
	if slices.Contains(w.taken, name) {
		return fmt.Errorf("there is a profile %s already", name)
	}
	return nil
}

// words is the command line of the answers.
func (w *profileWizard) words() []string {
	if w.from.id != "" {
		words := w.next.words(w.from)
		if words == nil {
			return nil
		}
		if w.reason != "" {
			words = append(words, "--reason", w.reason)
		}
		return append([]string{"berm", "profile", "edit", w.from.name}, words...)
	}
	if w.next.name == "" {
		return nil
	}
	return append([]string{"berm", "profile", "create", w.next.name, "--no-input"}, w.next.words(w.from)...)
}

// labelsAnswer shows labels as the answer that gives them.
func labelsAnswer(labels map[string]string) string {
	short := mapAnswer(labels)
	if back, err := labelsOf(short); err == nil && mapAnswer(back) == short && len(back) == len(labels) {
		return short
	}
	return jsonText(labels)
}

// labelsOf reads KEY=VALUE,KEY=VALUE, or an object in one line.
func labelsOf(answer string) (map[string]string, error) {
	out := map[string]string{}
	if answer == "" {
		return out, nil
	}
	text := answer
	if !strings.HasPrefix(answer, "{") {
		var err error
		if text, err = mapJSON(answer); err != nil {
			return nil, err
		}
	}
	n, err := specfile.Parse([]byte(text))
	if err != nil || n.Kind != tree.Object {
		return nil, fmt.Errorf("write KEY=VALUE,KEY=VALUE")
	}
	for _, k := range n.Keys {
		if k.Name == "" {
			return nil, fmt.Errorf("a label has no key")
		}
		out[k.Name] = k.Value.Text
	}
	return out, nil
}

// rebase makes the changes that were answered to the profile as somebody else left it.
func (w *profileWizard) rebase(raw json.RawMessage) error {
	now, err := profileStateOf(raw)
	if err != nil {
		return err
	}
	next := *now
	if w.next.description != w.from.description {
		next.description = w.next.description
	}
	next.labels = maps.Clone(now.labels)
	for k, v := range w.next.labels {
		if old, ok := w.from.labels[k]; !ok || old != v {
			next.labels[k] = v
		}
	}
	for k := range w.from.labels {
		if _, ok := w.next.labels[k]; !ok {
			delete(next.labels, k)
		}
	}
	if next.spec, err = spec.Apply(now.spec, spec.Diff(w.from.spec, w.next.spec)); err != nil {
		return err
	}
	w.from, w.next = now, &next
	return nil
}
